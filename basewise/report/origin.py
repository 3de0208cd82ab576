"""Where a result comes from: versions, checksums, command, time and licence, as every page ends with."""

from collections.abc import Iterable, Mapping
from typing import Any

from basewise.report.page import Fact, Facts, Section


def origin_section(facts: Mapping[str, Any], inputs: Iterable[tuple[str, str, str | None]]) -> Section:
    """Return the last section of a chapter from what `provenance()` or run.json says; `inputs` are (what, name, sha256)."""
    rows = []
    if facts.get("command"):
        rows.append(Fact("Command", str(facts["command"]), code=True))
    if facts.get("finished"):
        rows.append(Fact("Finished", str(facts["finished"])))
    versions = {"basewise": facts.get("basewise"), "Python": facts.get("python"), **facts.get("libraries", {})}
    rows.append(Fact("Versions", " · ".join(f"{name} {value}" for name, value in versions.items() if value)))
    rows += [Fact(what, name if sha256 is None else f"{name}  sha256 {sha256}", code=True) for what, name, sha256 in inputs]
    rows.append(
        Fact("Licence", "basewise and its embedded models: Apache-2.0. Another model's weights carry the licence of their model card.")
    )
    return Section("origin", "Where this comes from", (Facts(tuple(rows)),))


def origin_of(said: Mapping[str, Any]) -> Section:
    """Return the last section of a chapter from explain.json, perturb.json or attention.json."""
    inputs: list[tuple[str, str, str | None]] = [("Input", said["input"]["name"], said["input"]["sha256"])]
    if said["genome"] is not None:
        inputs.append(("Genome", said["genome"]["name"], said["genome"]["sha256"]))
    inputs.append(("Model weights", said["model"]["task"], said["model"]["sha256"]))
    return origin_section(said["provenance"], inputs)
