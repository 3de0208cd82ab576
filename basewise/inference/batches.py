"""Batches of sequences of about the same length: little padding, and a bounded batch."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt


def batches_by_length(
    lengths: Sequence[int] | npt.NDArray[np.int64], batch_size: int, most: int, *, alike: bool = False
) -> Iterator[npt.NDArray[np.intp]]:
    """Yield row numbers, longest first (a batch too large for memory shows at once), equal lengths in the order given.

    A batch has at most `batch_size` rows and, as padded to its longest, at most `most` of whatever lengths count, but always one row. With
    `alike` all rows of a batch have the same length, so that nothing is padded at all.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    low = 0
    while low < len(order):
        longest = int(lengths[order[low]])
        count = max(1, min(batch_size, most // max(longest, 1)))
        if alike:
            count = min(count, int((lengths[order[low : low + count]] == longest).sum()))
        yield order[low : low + count]
        low += count
