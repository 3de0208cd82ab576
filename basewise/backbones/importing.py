"""A published folder, written again in our formats: checked, float32, safetensors, with its source and licence."""

from pathlib import Path

from basewise.backbones import catalog
from basewise.backbones.checkpoints import Official, load_official_classifier, official_tokenizer, read_official
from basewise.backbones.classifier import save_classifier
from basewise.backbones.folders import config_of_folder, save_backbone
from basewise.errors import BasewiseError


def import_official(folder: str | Path, out: str | Path, *, name: str | None = None, force: bool = False) -> str:
    """Write a published folder in our format and return "classifier" or "backbone", what it became.

    One with a classification head becomes a model folder (see `classifier.save_classifier`), any other a backbone folder. `name`: as for
    `checkpoints.load_official`. Raises BasewiseError as that does, and for an `out` that is not empty without `force`.
    """
    folder, out = Path(folder), Path(out)
    if config_of_folder(folder).get("format") is not None:
        raise BasewiseError(f"{folder} is in basewise's format already; import takes the files as published")
    catalog.verify(folder, name)
    official = read_official(folder)
    source = {"folder": folder.name, **catalog.source_of(folder), **({"name": name} if name else {}), "licence": ""}
    source["licence"] = licence_of(official, source.get("name"))
    if not official.classifies:
        save_backbone(official.backbone, official_tokenizer(folder, official), out, source, force=force)
        return "backbone"
    if out.exists() and not force:
        raise BasewiseError(f"{out} exists; choose another -o or add --force to replace it")
    classifier = load_official_classifier(folder)
    classifier.config = classifier.config.model_copy(update={"provenance": source})
    save_classifier(classifier, out, card=f"# {out.name}\n\nImported from `{folder.name}`. Licence of the weights: {source['licence']}.\n")
    return "classifier"


def licence_of(official: Official, name: str | None) -> str:
    """Return the licence of published weights: that of the catalog name, else that of the family."""
    known = catalog.entries()
    entry = known[name] if name in known else next(one for one in known.values() if one.family == official.family)
    return entry.licence
