import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from basewise.datasets.negatives import contig_rng, draw, draw_matched, inside, merge, overlaps, unknown_runs
from basewise.tasks.polya_regions import tile

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=12).map(lambda rows: [(low, low + size) for low, size in rows])


def arrays(rows):
    return tuple(np.array(column, np.int64) for column in (zip(*rows, strict=True) if rows else ([], [])))


@given(spans, spans)
def test_merge_and_overlaps_agree_with_sets_of_bases(intervals, queries):
    starts, ends = merge(*arrays(intervals))
    covered = {base for low, high in intervals for base in range(low, high)}
    assert {base for low, high in zip(starts, ends, strict=True) for base in range(low, high)} == covered
    assert (starts[1:] > ends[:-1]).all()
    low, high = arrays(queries)
    assert overlaps(low, high, starts, ends).tolist() == [bool(covered & set(range(a, b))) for a, b in queries]
    assert inside(np.arange(80), starts, ends).tolist() == [base in covered for base in range(80)]


@given(st.lists(st.booleans(), max_size=40))
def test_unknown_runs_are_where_nothing_is_known(known):
    starts, ends = unknown_runs(np.array(known, bool))
    assert [not any(low <= base < high for low, high in zip(starts, ends, strict=True)) for base in range(len(known))] == known


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 9))
def test_draw(pool, wanted, seed):
    rows = draw(pool, wanted, contig_rng(seed, "c"))
    assert rows.size == min(pool, wanted)
    assert len(set(rows.tolist()) & set(range(pool))) == rows.size
    assert rows.tolist() == draw(pool, wanted, contig_rng(seed, "c")).tolist()


@given(st.lists(st.integers(0, 5), max_size=30), st.lists(st.integers(0, 5), max_size=30))
def test_matched_pairs_share_their_key(wanted, pool):
    mine, theirs = draw_matched(np.array(wanted, np.int64), np.array(pool, np.int64), contig_rng(0, "c"))
    assert [wanted[i] for i in mine] == [pool[j] for j in theirs]
    assert len(set(mine.tolist())) == len(set(theirs.tolist())) == len(mine)
    assert len(mine) == sum(min(wanted.count(key), pool.count(key)) for key in set(wanted))


def test_draws_of_contigs_are_their_own():
    draws = {name: draw(1000, 5, contig_rng(0, name)).tolist() for name in ("c1", "c2")}
    assert draws["c1"] != draws["c2"]
    assert draws["c1"] != draw(1000, 5, contig_rng(1, "c1")).tolist()


@given(st.integers(0, 500), st.integers(1, 60), st.integers(0, 29))
def test_scored_stretches_tile_the_contig_with_context(length, size, flank):
    flank = min(flank, (size - 1) // 2)
    tiles = tile(length, size, flank)
    if length < size:
        assert not tiles.start.size
        return
    assert [base for low, high in zip(tiles.scored_from, tiles.scored_to, strict=True) for base in range(low, high)] == list(range(length))
    for start, low, high in zip(*tiles, strict=True):
        assert 0 <= start <= low < high <= start + size <= length
        assert low - start >= flank or start == 0
        assert start + size - high >= flank or start + size == length
