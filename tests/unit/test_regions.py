"""Regions: merged intervals, membership, counts."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from basewise.inference.regions import merge_regions

intervals = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=8)


@given(intervals)
def test_regions_equal_a_set_of_bases(pairs):
    table = pd.DataFrame({"chrom": ["x"] * len(pairs), "start": [a for a, _ in pairs], "end": [a + n for a, n in pairs]})
    bases = {base for a, n in pairs for base in range(a, a + n)}
    regions = merge_regions(table.astype({"start": np.int64, "end": np.int64}))
    assert set(np.flatnonzero(regions.inside("x", np.arange(60)))) == bases
    assert regions.bases("x", 0, 60) == len(bases)
    assert regions.bases("x", 5, 20) == len(bases & set(range(5, 20)))
    assert regions.overlaps("x", 5, 20) == bool(bases & set(range(5, 20)))


def test_touching_intervals_become_one_and_other_contigs_have_none():
    table = pd.DataFrame({"chrom": ["x", "x", "y"], "start": [10, 5, 1], "end": [12, 10, 2]})
    regions = merge_regions(table)
    assert regions.edges["x"].tolist() == [5, 12]
    assert not regions.inside("z", np.array([1])).any()
    assert regions.bases("z", 0, 10) == 0
