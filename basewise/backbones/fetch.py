"""Download a catalog model from the hub: pinned revision, resumed where it stopped, verified. Nothing else here uses a network."""

from collections.abc import Sequence
from pathlib import Path

from basewise.backbones import catalog
from basewise.errors import BasewiseError
from basewise.files import write_json

SMALL = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "README.md", "LICENSE")


def fetch(name: str, folder: str | Path | None = None) -> tuple[Path, str]:
    """Download what `name` needs into `folder` (default: `catalog.folder_of`) and return the folder and the full revision.

    A download that broke off is resumed by calling again; files that are there already are not downloaded again.
    source.json is written last.

    Raises
    ------
    BasewiseError
        Unknown name; no network (the manual way is named); files of other size or checksum than the catalog knows.
    """
    entry = catalog.entry(name)
    folder = Path(folder) if folder is not None else catalog.folder_of(name)
    try:
        import huggingface_hub

        folder.mkdir(parents=True, exist_ok=True)
        api = huggingface_hub.HfApi()
        revision = _revision(api, entry)
        files = wanted(api.list_repo_files(entry.repository, revision=revision))
        huggingface_hub.snapshot_download(entry.repository, revision=revision, local_dir=folder, allow_patterns=list(files))
    except BasewiseError:
        raise
    except Exception as error:  # the hub library and its transport raise many unrelated types
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        pinned = f" at revision {entry.revision}" if entry.revision else ""
        raise BasewiseError(
            f"could not download {entry.repository} ({first}); without a network: put the files of that repository{pinned} into a folder "
            f"elsewhere, copy it here and run `basewise models import FOLDER -o DIR`"
        ) from error
    catalog.verify(folder, name)
    source = {"name": name, "repository": entry.repository, "revision": revision, "licence": entry.licence}
    write_json(folder / catalog.SOURCE, source)
    return folder, revision


def wanted(files: Sequence[str]) -> tuple[str, ...]:
    """Return the files of a repository to download: one set of weights, safetensors preferred, config and tokenizer; no code."""
    top = [file for file in files if "/" not in file]
    weights = [file for file in top if file.endswith((".safetensors", ".safetensors.index.json"))]
    weights = weights or [file for file in top if file.startswith("pytorch_model") and file.endswith((".bin", ".bin.index.json"))]
    weights = weights or [file for file in top if file == "weights.ckpt"]
    if not weights:
        raise BasewiseError(f"the repository holds no weights we read, only {', '.join(top[:8])}")
    return tuple(sorted([*weights, *(file for file in top if file in SMALL)]))


def _revision(api: object, entry: catalog.Entry) -> str:
    """Return the full commit to download: the pinned one, the one an abbreviation means, or the newest where none is pinned."""
    if len(entry.revision) == 40:
        return entry.revision
    if not entry.revision:
        return str(api.repo_info(entry.repository).sha)  # type: ignore[attr-defined]
    commits = [commit.commit_id for commit in api.list_repo_commits(entry.repository)]  # type: ignore[attr-defined]
    found = [commit for commit in commits if commit.startswith(entry.revision)]
    if len(found) != 1:
        raise BasewiseError(f"{entry.repository} has {len(found)} commits that start with {entry.revision}, expected one")
    return str(found[0])
