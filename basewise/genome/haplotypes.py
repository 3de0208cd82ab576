"""A haplotype is the reference with edits: a handful of numbers a variant in memory, its bases made when asked for.

What `bcftools consensus` would write, without writing it: `basewise.genome.variants` makes the edits, this module reads through them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from basewise.errors import BasewiseError
from basewise.genome.alphabet import Bases

Positions = npt.NDArray[np.int64]
Fetch = Callable[[int, int], Bases]  # (start, end) of the reference contig, 0-based half-open


@dataclass(frozen=True)
class Edits:
    """Replacements on one contig, sorted and disjoint: reference [start, end) becomes `text[offsets[i]:offsets[i + 1]]`.

    An insertion has start == end, a deletion no text. `Edits.none()` is the reference itself.
    """

    starts: Positions  # (E,)
    ends: Positions  # (E,)
    offsets: Positions  # (E + 1,) into `text`
    text: Bases

    def __post_init__(self) -> None:
        tidy = len(self.starts) == len(self.ends) == len(self.offsets) - 1 and len(self.text) == self.offsets[-1]
        if not (tidy and (self.starts <= self.ends).all() and (self.starts[1:] >= self.ends[:-1]).all()):
            raise BasewiseError("edits of a haplotype must be sorted and disjoint, with one text each; make the cohort again")

    @classmethod
    def none(cls) -> "Edits":
        """Return no edits."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(1, np.int64), np.empty(0, np.uint8))

    @classmethod
    def of(cls, edits: list[tuple[int, int, bytes]]) -> "Edits":
        """Return the edits of a list of (start, end, text), already sorted and disjoint."""
        offsets = np.zeros(len(edits) + 1, np.int64)
        np.cumsum([len(text) for _, _, text in edits], out=offsets[1:])
        starts = np.array([start for start, _, _ in edits], np.int64)
        ends = np.array([end for _, end, _ in edits], np.int64)
        return cls(starts, ends, offsets, np.frombuffer(b"".join(text for _, _, text in edits), np.uint8))

    def __len__(self) -> int:
        return len(self.starts)


class Haplotype:
    """One copy of a contig: `edits` on `fetch`, a reference contig of `reference_length` bases.

    Positions are the haplotype's own, 0-based; `reference_positions` maps them back. Holds no sequence.
    """

    def __init__(self, fetch: Fetch, reference_length: int, edits: Edits | None = None) -> None:
        self._fetch = fetch
        self.reference_length = reference_length
        self.edits = edits = Edits.none() if edits is None else edits
        if len(edits) and int(edits.ends[-1]) > reference_length:
            raise BasewiseError(
                f"an edit ends at {int(edits.ends[-1])}, beyond the contig's {reference_length} bases; is it another genome?"
            )
        sizes = np.diff(edits.offsets)
        gained = np.cumsum(sizes - (edits.ends - edits.starts))  # bases longer than the reference after each edit
        before = np.append(0, gained[:-1]) if len(edits) else np.empty(0, np.int64)
        self._first = edits.starts + before  # where the text of each edit begins, in haplotype positions
        self._after = self._first + sizes  # and where the reference goes on
        self.length = reference_length + (int(gained[-1]) if len(edits) else 0)

    def fetch(self, start: int, end: int) -> Bases:
        """Return bases [start, end) of the haplotype, uint8, a fresh array."""
        if not 0 <= start <= end <= self.length:
            raise BasewiseError(f"{start}-{end} is not inside a haplotype of {self.length} bases")
        if not len(self.edits):
            return self._fetch(start, end)
        edit = int(np.searchsorted(self._after, start, side="right"))  # the first that ends beyond `start`
        last = int(np.searchsorted(self._first, end, side="left"))
        if edit >= last:
            shift = int(self.edits.ends[edit - 1] - self._after[edit - 1]) if edit else 0
            return self._fetch(start + shift, end + shift)
        return self._patch(start, end, edit, last)

    def _patch(self, start: int, end: int, edit: int, last: int) -> Bases:
        """Return [start, end), which edits [edit, last) touch: the reference below them is fetched once, then pieces are laid."""
        e = self.edits
        low = int(self._to_reference(start, edit))
        high = max(low, int(self._to_reference(end, last)))
        below = self._fetch(low, min(max(high, int(e.ends[last - 1])), self.reference_length))
        bases = np.empty(end - start, np.uint8)
        at, source = 0, low  # next base to fill; next base of the reference
        firsts = self._first[edit:last].tolist()
        starts, ends, offsets = e.starts[edit:last].tolist(), e.ends[edit:last].tolist(), e.offsets[edit : last + 1].tolist()
        for i, first in enumerate(firsts):
            stretch = first - start - at
            if stretch > 0:
                bases[at : at + stretch] = below[starts[i] - stretch - low : starts[i] - low]
                at += stretch
            begin = offsets[i] + max(0, start - first)
            count = min(offsets[i + 1] - begin, len(bases) - at)
            if count > 0:
                bases[at : at + count] = e.text[begin : begin + count]
                at += count
            source = ends[i]
        if at < len(bases):
            bases[at:] = below[source - low : source - low + len(bases) - at]
        return bases

    def _to_reference(self, position: int, edit: int) -> int:
        """Return the reference position at `position`, which lies before the text of edit `edit` ends or inside it."""
        if edit < len(self.edits) and position >= self._first[edit]:
            return int(self.edits.starts[edit])
        return int(position + self.edits.ends[edit - 1] - self._after[edit - 1]) if edit else position

    def sequence(self) -> Bases:
        """Return the whole haplotype, uint8 (length,)."""
        return self.fetch(0, self.length)

    def reference_positions(self, positions: npt.ArrayLike) -> Positions:
        """Return where haplotype `positions` lie on the reference; a base of an edit's text lies at the edit's start."""
        at = np.asarray(positions, np.int64)
        if not len(self.edits):
            return at.copy()
        edit = np.searchsorted(self._after, at, side="right")
        inside = edit < len(self.edits)
        held = np.where(inside, edit, len(self.edits) - 1)
        within = inside & (at >= self._first[held])
        previous = np.maximum(edit - 1, 0)
        shift = np.where(edit > 0, self.edits.ends[previous] - self._after[previous], 0)
        return np.where(within, self.edits.starts[held], at + shift)

    def position_of(self, reference: int) -> int:
        """Return the first haplotype position whose reference position is at least `reference`: where a reference interval begins."""
        edit = int(np.searchsorted(self.edits.starts, reference, side="left"))  # edits before it
        if not edit:
            return reference
        return int(max(self._after[edit - 1], self._after[edit - 1] + reference - self.edits.ends[edit - 1]))
