"""The same contig under different names: chr1, 1, NC_000001.11; chrM, MT."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from basewise.errors import BasewiseError, did_you_mean

SHOWN = 3  # names listed in an error


class HasContigs(Protocol):
    """What check_contigs needs of a genome."""

    @property
    def path(self) -> Path:
        """Where the genome lies."""

    @property
    def contigs(self) -> Mapping[str, int]:
        """Length by name."""


# RefSeq accessions of the human (GRCh37/38) and mouse (GRCm38/39) chromosomes. Source: NCBI assembly reports.
_REFSEQ = {f"NC_{i:06d}": str(i) for i in range(1, 23)} | {"NC_000023": "X", "NC_000024": "Y", "NC_012920": "MT", "NC_001807": "MT"}
_REFSEQ |= {f"NC_{i + 66:06d}": str(i) for i in range(1, 20)} | {"NC_000086": "X", "NC_000087": "Y", "NC_005089": "MT"}


def plain_name(contig: str) -> str:
    """Return the name stripped of its style, to find the same contig in another one; for hints only, never to rename silently.

    >>> plain_name("chr1"), plain_name("NC_000001.10"), plain_name("chrM")
    ('1', '1', 'MT')
    """
    accession = re.fullmatch(r"(NC_\d{6})(\.\d+)?", contig)
    if accession and accession[1] in _REFSEQ:
        return _REFSEQ[accession[1]]
    short = re.sub(r"^chr", "", contig, flags=re.IGNORECASE)
    return "MT" if short in ("M", "MT", "Mt", "m", "mt") else short.upper()


def check_contigs(names: Iterable[str], genome: HasContigs, source: str | Path) -> None:
    """Raise BasewiseError when `source` names contigs the genome does not have; nothing is ever renamed silently.

    Parameters
    ----------
    names
        Contig names used by `source`; repeats are fine.
    genome
        An open genome (anything with `path` and `contigs`).
    source
        What the names come from, for the message: a path, "--regions x.bed".

    Raises
    ------
    BasewiseError
        Naming the first few strangers, how many there are, and what the genome calls them if that is a matter of style.

    """
    strangers = [name for name in dict.fromkeys(names) if name not in genome.contigs]
    if strangers:
        raise BasewiseError(strangers_message(strangers, list(genome.contigs), source, f"genome {genome.path}"))


def strangers_message(strangers: list[str], known: list[str], source: str | Path, other: str | Path) -> str:
    """Return the message for contigs `strangers` of `source` that `other`, which has contigs `known`, does not have."""
    plain = {plain_name(contig): contig for contig in reversed(known)}
    shown = ", ".join(repr(name) for name in strangers[:SHOWN]) + (f" and {len(strangers) - SHOWN} more" if len(strangers) > SHOWN else "")
    same = [(name, plain[plain_name(name)]) for name in strangers if plain_name(name) in plain]
    if same:
        pairs = ", ".join(f"{name!r} {contig!r}" for name, contig in same[:SHOWN])
        hint = f" The {'genome' if str(other).startswith('genome') else 'other'} calls {pairs}: rename them in {source}."
    else:
        have = ", ".join(repr(contig) for contig in known[:SHOWN])
        hint = did_you_mean(strangers[0], known) or f" It has {have}{' ...' if len(known) > SHOWN else ''}."
    noun = "contig" if len(strangers) == 1 else "contigs"
    return f"{source} names {noun} {shown} that {other} does not have.{hint}"
