"""Phased genotypes of a VCF as edits on the reference, by the rules of `bcftools consensus -H 1pIu | 2pIu | A`.

Rules, as bcftools 1.24 keeps them (held against it byte for byte in tests):

- ``1pIu``, ``2pIu``: the first or second allele of a phased genotype; of an unphased one the IUPAC code of its alleles (of several bases
  where they are longer), the longest alternative where lengths differ. A haploid genotype is copy 1; copy 2 is the reference there.
- ``A``: the alternative allele whatever the phase; genotypes with anything missing are left out.
- Missing alleles leave the reference. Records that overlap one already applied are left out; an insertion or deletion anchored on the last
  base of it is not an overlap, unless an insertion came before. Alternatives take the case (soft mask) of the reference.
- ``<DEL>`` deletes from POS + 1 to END; ``<*>`` and ``<NON_REF>`` keep the reference and shut out what overlaps them; ``*`` is written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from basewise.errors import BasewiseError, did_you_mean
from basewise.genome.alphabet import Bases, to_str
from basewise.genome.contigs import check_contigs
from basewise.genome.fasta import Genome
from basewise.genome.haplotypes import Edits

Which = Literal["1pIu", "2pIu", "A"]
PHASED: tuple[Which, ...] = ("1pIu", "2pIu")
REFERENCE_BLOCKS = ("<*>", "<NON_REF>")

_IUPAC = {"A": 1, "C": 2, "G": 4, "T": 8, "U": 8} | {
    "R": 5,
    "Y": 10,
    "S": 6,
    "W": 9,
    "K": 12,
    "M": 3,
    "B": 14,
    "D": 13,
    "H": 11,
    "V": 7,
    "N": 15,
}
_CODE = {bits: letter for letter, bits in _IUPAC.items() if letter != "U"}

Alleles = tuple[int | None, ...]  # of one genotype; None is missing
Watch = Callable[[str, int, str, Alleles], None]  # (contig, position, sample, alleles)


class Record(NamedTuple):
    """One line of a VCF, for the samples asked for."""

    contig: str
    position: int  # 0-based, of the first base of `reference`
    reference: str
    alternatives: tuple[str, ...]
    span: int  # bases of the reference the record is about: to END where it is symbolic
    genotypes: tuple[str, ...]  # GT as in the file, "." where the record has none

    @property
    def place(self) -> str:
        """Contig and 1-based position, for messages."""
        return f"{self.contig}:{self.position + 1}"


class Genotype(NamedTuple):
    """A parsed GT."""

    alleles: Alleles
    phased: bool  # a haploid genotype is


def parse_genotype(text: str, place: str) -> Genotype:
    """Return the alleles of a GT such as ``0|1``, ``1/.``, ``.``; at most two of them."""
    parts = text.replace("|", "/").strip("/").split("/")
    try:
        alleles = tuple(None if part in (".", "") else int(part) for part in parts)
    except ValueError as error:
        raise BasewiseError(f"{place}: genotype {text!r} is not one of a VCF, expected alleles like 0|1") from error
    if len(alleles) > 2:
        raise BasewiseError(f"{place}: genotype {text!r} has {len(alleles)} alleles; haplotypes are made of one or two copies a contig")
    return Genotype(alleles, "|" in text or len(alleles) == 1)


def samples_of(path: str | Path) -> list[str]:
    """Return the samples of a VCF or BCF, in file order."""
    with _open(Path(path)) as variants:
        return list(variants.header.samples)


def _open(path: Path) -> Any:
    import pysam

    if not path.exists():
        raise BasewiseError(f"VCF {path} does not exist")
    try:
        return pysam.VariantFile(str(path))
    except (OSError, ValueError) as error:
        raise BasewiseError(f"cannot read {path} as VCF or BCF: {error}; is it whole, and what its name says?") from error


def read_records(path: str | Path, samples: Sequence[str]) -> Iterator[Record]:
    """Stream a VCF or BCF; BasewiseError for unknown samples, no genotypes, a damaged file, or lines out of order."""
    path = Path(path)
    with _open(path) as variants:
        known = list(variants.header.samples)
        for sample in samples:
            if sample not in known:
                raise BasewiseError(f"{path} has no sample {sample!r}, it has {len(known)} others.{did_you_mean(sample, known)}")
        variants.subset_samples(list(samples))
        column = [list(variants.header.samples).index(sample) for sample in samples]
        seen: set[str] = set()
        contig, position = "", -1
        stream = iter(variants)
        while True:
            try:
                line = next(stream)
            except StopIteration:
                return
            except (OSError, ValueError) as error:
                raise BasewiseError(f"{path} is damaged after {contig or 'its header'}:{position + 1} ({error}); fetch it again") from error
            record = _record(line, column)
            if record.contig != contig:
                if record.contig in seen:
                    raise BasewiseError(f"{path} is not sorted: contig {record.contig!r} comes twice; sort it (bcftools sort)")
                seen.add(record.contig)
                contig, position = record.contig, -1
            if record.position < position:
                raise BasewiseError(f"{path} is not sorted: {record.place} comes after {contig}:{position + 1}; sort it (bcftools sort)")
            position = record.position
            yield record


def _record(line: Any, column: list[int]) -> Record:
    fields = str(line).rstrip("\n").split("\t")
    keys = fields[8].split(":") if len(fields) > 8 else []
    at = keys.index("GT") if "GT" in keys else -1
    cells = [fields[9 + i] for i in column] if at >= 0 else []
    genotypes = tuple(cell if at == 0 and ":" not in cell else (cell.split(":") + ["."] * at)[at] for cell in cells)
    alternatives = () if fields[4] == "." else tuple(fields[4].split(","))
    symbolic = any(alternative.startswith("<") for alternative in alternatives)
    return Record(fields[0], int(line.pos) - 1, fields[3], alternatives, int(line.rlen) if symbolic else len(fields[3]), genotypes)


def choose_allele(record: Record, genotype: Genotype, which: Which) -> str | None:
    """Return the allele that a copy carries, None where it is the reference; IUPAC codes for unphased genotypes."""
    alleles = genotype.alleles
    if which == "A":
        chosen = _alternative(alleles)
        return _allele(record, chosen) if chosen else None
    if not genotype.phased:
        return _merged(record, sorted({allele for allele in alleles if allele is not None}))
    copy = PHASED.index(which)
    picked = alleles[copy] if copy < len(alleles) else None
    return _allele(record, picked) if picked else None


def _alternative(alleles: Alleles) -> int:
    if None in alleles:
        return 0
    if len(alleles) == 2 and alleles[0] != alleles[1]:
        return alleles[1] or alleles[0] or 0
    return alleles[0] or 0


def _allele(record: Record, index: int) -> str:
    if index > len(record.alternatives):
        raise BasewiseError(f"{record.place}: a genotype names allele {index}, but the record has {len(record.alternatives)} alternatives")
    return record.reference if index == 0 else record.alternatives[index - 1]


def _merged(record: Record, indices: list[int]) -> str | None:
    if not indices or indices == [0]:
        return None
    spelled = [(index, _allele(record, index)) for index in indices]
    readable = [(index, allele.upper()) for index, allele in spelled if all(letter in _IUPAC for letter in allele.upper())]
    longest = max((len(allele) for index, allele in readable if index), default=0)
    if not longest:
        return next(allele for index, allele in spelled if index)
    bits = [0] * longest
    for _, allele in readable:
        for i, letter in enumerate(allele[:longest]):
            bits[i] |= _IUPAC[letter]
    return "".join(_CODE[b] for b in bits)


class _Copy:
    """One copy of a contig in the making: the edits so far, and what decides whether the next record overlaps them."""

    def __init__(self, contig: Bases) -> None:
        self.contig = contig
        self.edits: list[tuple[int, int, bytes]] = []
        self.frozen = -1  # last reference base that is taken
        self.after_insertion = False

    def apply(self, record: Record, allele: str) -> None:
        """Add what `allele` changes; nothing where the record overlaps an earlier one."""
        position, reference = record.position, record.reference
        if allele.upper() in REFERENCE_BLOCKS:
            if position > self.frozen:
                self.frozen = position + record.span - 1
            return
        deletes = allele.upper() == "<DEL>"
        anchored, changes = (True, record.span != 1) if deletes else _anchored(reference, allele)
        if position <= self.frozen and (position < self.frozen or not anchored or not changes or self.after_insertion):
            return
        span = min(record.span if deletes else len(reference), len(self.contig) - position)
        under = self._base_at(position)
        text = reference[:1] if deletes else allele
        text = text.lower() if 97 <= under <= 122 else text.upper()
        raw = text.encode()
        if len(raw) <= span:
            skip = int(anchored)
            self.after_insertion = False
        else:
            skip = int(reference[0] == text[0])
            self.after_insertion = True
            if not skip and position <= self.frozen:
                self._rewrite_last(raw[0])
                skip = 1
        self._add(position + skip, position + span, raw[skip:])
        self.frozen = position + span - 1

    def _base_at(self, position: int) -> int:
        """Return what stands at `position`, the last base taken or a later one, after the edits so far."""
        if not self.edits or position >= self.edits[-1][1]:
            return int(self.contig[position])
        before = self.edits[-1][0]
        for start, end, text in reversed(self.edits):
            if end < before:
                break
            if text:
                return text[-1]
            before = start
        return int(self.contig[before - 1])

    def _rewrite_last(self, base: int) -> None:
        """Replace the base before the next one, as an insertion does whose anchor is spelled in another case than the genome's."""
        if not self.edits or self.edits[-1][1] <= self.frozen:
            return  # that base is the reference's own, and an anchor equals it but for its case
        start, end, text = self.edits.pop()
        while not text:  # deletions in a row: what stands before them
            if self.edits and self.edits[-1][1] == start:
                start, _, text = self.edits.pop()
            else:
                start, text = start - 1, b"."
        self.edits.append((start, end, text[:-1] + bytes([base])))

    def _add(self, start: int, end: int, text: bytes) -> None:
        if start < end or text:
            self.edits.append((start, end, text))


def _anchored(reference: str, allele: str) -> tuple[bool, bool]:
    """Tell of an allele whether it is an insertion or deletion behind a shared first base, and whether it changes the length at all."""
    a, b = reference.upper(), allele.upper()
    shared = 0
    while shared < min(len(a), len(b)) and a[shared] == b[shared]:
        shared += 1
    a, b = a[shared:], b[shared:]
    if not a and not b:
        return False, False
    if a and b:
        while len(a) > 1 and len(b) > 1 and a[-1] == b[-1]:
            a, b = a[:-1], b[:-1]
        indel = len(a) != len(b) and min(len(a), len(b)) == 1 and a[-1] == b[-1]
        return indel and reference[0] == allele[0], True
    return reference[0] == allele[0], True


def haplotype_edits(
    path: str | Path,
    genome: Genome,
    samples: Sequence[str],
    which: Sequence[Which] = PHASED,
    *,
    skip_symbolic: bool = False,
    watch: Mapping[str, Watch] | None = None,
) -> dict[str, dict[str, tuple[Edits, ...]]]:
    """Return {contig: {sample: edits of each of `which`}} for the contigs the VCF has records of.

    Parameters
    ----------
    path
        VCF (plain, gzip, bgzip) or BCF, sorted; no index is needed.
    skip_symbolic
        Leave records out whose chosen allele is symbolic (other than ``<DEL>``) or a breakend, instead of refusing them.
    watch
        Called with every genotype of the contigs it names: where ploidy is checked.

    Raises
    ------
    BasewiseError
        A sample or contig is not there; REF differs from the genome (every record is checked, carried or not); a symbolic allele or
        breakend would have to be spelled; genotypes of three alleles and more; a file that is damaged or not sorted.
    """
    path, result = Path(path), {}
    copies: dict[str, list[_Copy]] = {}
    contig, bases = "", None
    for record in read_records(path, samples):
        if record.contig != contig or bases is None:
            if bases is not None:
                result[contig] = _finish(copies)
            check_contigs([record.contig], genome, path)
            contig, bases = record.contig, genome.fetch(record.contig, 0, genome.contigs[record.contig])
            copies = {sample: [_Copy(bases) for _ in which] for sample in samples}
        _check_reference(record, bases, path)
        parsed: dict[str, Genotype] = {}
        for sample, text in zip(samples, record.genotypes, strict=False):
            genotype = parsed.get(text)
            if genotype is None:
                genotype = parsed[text] = parse_genotype(text, f"{path}, {record.place}")
            if watch is not None and contig in watch:
                watch[contig](contig, record.position, sample, genotype.alleles)
            if not any(genotype.alleles):
                continue
            for copy, kind in zip(copies[sample], which, strict=True):
                allele = choose_allele(record, genotype, kind)
                if allele is not None and _spelled(record, allele, path, skip_symbolic):
                    copy.apply(record, allele)
    if bases is not None:
        result[contig] = _finish(copies)
    return result


def _finish(copies: dict[str, list[_Copy]]) -> dict[str, tuple[Edits, ...]]:
    return {sample: tuple(Edits.of(copy.edits) for copy in made) for sample, made in copies.items()}


def _check_reference(record: Record, bases: Bases, path: Path) -> None:
    start, end = record.position, record.position + len(record.reference)
    there = to_str(bases[start:end]) if start >= 0 else ""
    if there.upper() != record.reference.upper():
        raise BasewiseError(
            f"{path}, {record.place}: REF is {record.reference[:20]!r}, but the genome has {there[:20]!r} there; "
            "is the VCF of another assembly, or are its positions shifted?"
        )


def _spelled(record: Record, allele: str, path: Path, skip: bool) -> bool:
    """Tell whether an allele can be written as bases (or is a form with a rule); refuse or, with `skip`, leave out what cannot."""
    upper = allele.upper()
    if (
        upper == "<DEL>"
        or upper in REFERENCE_BLOCKS
        or (allele[0] != "<" and "[" not in allele and "]" not in allele and ":" not in allele)
    ):
        return True
    if skip:
        return False
    raise BasewiseError(
        f"{path}, {record.place}: allele {allele!r} has no sequence; leave such records out with --skip-symbolic, or from the VCF"
    )
