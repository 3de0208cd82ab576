"""Download a catalog model from the hub: pinned revision, resumed where it stopped, verified. Nothing else here uses a network."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.request import Request, urlopen

from basewise.backbones import catalog
from basewise.errors import BasewiseError
from basewise.files import sha256_of, write_json

Watch = Callable[[str, int, int], None]
PIECE = 1 << 20  # bytes

SMALL = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "README.md", "LICENSE")


def fetch(name: str, folder: str | Path | None = None, watch: Watch | None = None) -> tuple[Path, str]:
    """Download what `name` needs into `folder` (default: `catalog.folder_of`) and return the folder and the full revision.

    A download that broke off is resumed in the middle of a file by calling again; files that are there already are not downloaded again.
    source.json is written last. `watch` is told file name, bytes there, and bytes in all, now and then.

    Raises
    ------
    BasewiseError
        Unknown name; no network (the manual way is named); files of other size or checksum than the catalog knows.
    """
    entry = catalog.entry(name)
    if entry.embedded:
        raise BasewiseError(f"{name} is embedded in basewise: there is nothing to fetch, use it by its name")
    folder = Path(folder) if folder is not None else catalog.folder_of(name)
    try:
        import huggingface_hub

        folder.mkdir(parents=True, exist_ok=True)
        api = huggingface_hub.HfApi()
        revision = _revision(api, entry)
        files = wanted(api.list_repo_files(entry.repository, revision=revision))
        for file in files:
            _download(huggingface_hub.hf_hub_url(entry.repository, file, revision=revision), folder / file, watch)
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


def _download(url: str, target: Path, watch: Watch | None) -> None:
    """Download one file beside `target`, from where an earlier call stopped, compare size and checksum, and rename it.

    The hub library itself starts a file anew in every call, which for shards of 10 GB is no way to resume.
    """
    from huggingface_hub import get_hf_file_metadata

    facts = get_hf_file_metadata(url)
    size, tag = facts.size or 0, (facts.etag or "").strip('"')
    digest = tag if re.fullmatch("[0-9a-f]{64}", tag) else None  # of large files the tag is the sha256
    if target.is_file() and target.stat().st_size == size and (digest is None or sha256_of(target) == digest):
        return
    part = target.with_name(f".{target.name}.{hashlib.sha256(tag.encode()).hexdigest()[:16]}.part")  # another revision starts its own
    done = part.stat().st_size if part.is_file() else 0
    if done < size:
        request = Request(facts.location, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310  (an address of the hub's)
        with urlopen(request, timeout=60) as answer, part.open("ab" if answer.status == 206 else "wb") as stream:  # noqa: S310
            while piece := answer.read(PIECE):
                stream.write(piece)
                if watch is not None:
                    watch(target.name, stream.tell(), size)
    else:
        part.touch()
    if part.stat().st_size < size:
        raise BasewiseError(f"the download of {target.name} broke off at {part.stat().st_size:,} of {size:,} bytes; run it again to go on")
    if part.stat().st_size > size or (digest is not None and sha256_of(part) != digest):
        part.unlink()
        raise BasewiseError(f"{target.name} came damaged (size or sha256 differ from the hub's) and was removed; run it again")
    part.replace(target)


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
