"""Sites beside an atlas: counted by hand, by brute force, and against the chance that can be computed."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.errors import BasewiseError
from basewise.genome.fasta import open_genome
from basewise.inference.overlap import known_stretches, overlap
from basewise.testing.genomes import random_genome, write_fasta


def table(*rows: tuple[str, int, str]) -> pd.DataFrame:
    chrom, start, strand = zip(*rows, strict=True)
    return pd.DataFrame({"chrom": chrom, "start": start, "end": np.array(start) + 1, "strand": strand})


def counts(result) -> tuple[int, int, int, int]:
    return tuple(result[key][part] for key in ("near_atlas", "recovered") for part in ("hits", "of"))


def test_counted_by_hand():
    sites = table(("a", 100, "+"), ("a", 120, "+"), ("a", 500, "+"), ("a", 700, "-"), ("b", 10, "+"))
    atlas = table(("a", 140, "+"), ("a", 160, "+"), ("a", 200, "+"), ("a", 521, "+"), ("a", 700, "+"), ("a", 690, "-"), ("a", 5, "-"))
    result = overlap(sites, atlas, 20, shuffles=0)
    # predicted clusters {100, 120}, {500}, {700 -}, {10 of b}; near: the first (120 - 140) and 700 - (690)
    # atlas clusters {140, 160}, {200}, {521}, {700 +}, {690 -}, {5 -}; recovered: {140, 160} and {690 -}
    assert counts(result) == (2, 4, 2, 6)
    assert result["near_atlas"]["fraction"] == 0.5
    assert result["near_atlas"]["null"] is None
    assert result["sites"] == {"sites": 5, "clusters": 4, "sites_on_contigs_without_atlas": 1}
    assert result["atlas"] == {"sites": 7, "clusters": 6, "sites_outside_genome": 0, "clusters_on_contigs_without_sites": 0}
    # 120 is 20 upstream of 140; 700 on - is 10 upstream of 690
    assert {key: value for key, value in result["signed_distance"].items() if value} == {"-20": 1, "-10": 1}
    assert counts(overlap(sites, atlas, 21, shuffles=0)) == (3, 4, 3, 6)
    assert counts(overlap(sites, atlas, 20, gap=0, shuffles=0)) == (2, 5, 2, 7)
    json.dumps(result, allow_nan=False)


drawn = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 120), st.sampled_from("+-")), min_size=1, max_size=25)


@settings(max_examples=40, deadline=None)
@given(drawn, drawn, st.integers(0, 15), st.integers(0, 10))
def test_equals_brute_force_and_is_symmetric(ours, theirs, window, gap):
    sites, atlas = table(*ours, ("a", 0, "+")), table(*theirs, ("a", 120, "+"))
    ours, theirs = [*ours, ("a", 0, "+")], [*theirs, ("a", 120, "+")]

    def clusters(rows):
        groups: list[set] = []
        for row in sorted(set(rows), key=lambda row: (row[0], row[2], row[1])):
            last = groups[-1] if groups else set()
            if any(row[0] == other[0] and row[2] == other[2] and row[1] - other[1] <= gap for other in last):
                last.add(row)
            else:
                groups.append({row})
        return groups

    def near(cluster, rows):
        return any(a[0] == b[0] and a[2] == b[2] and abs(a[1] - b[1]) <= window for a in cluster for b in rows)

    result = overlap(sites, atlas, window, gap=gap, shuffles=0)
    expected = [
        sum(near(c, theirs) for c in clusters(ours)),
        len(clusters(ours)),
        sum(near(c, ours) for c in clusters(theirs)),
        len(clusters(theirs)),
    ]
    assert list(counts(result)) == expected
    other = counts(overlap(atlas, sites, window, gap=gap, shuffles=0))
    assert counts(result) == (*other[2:], *other[:2])


def test_chance_is_what_can_be_computed(tmp_path):
    """One atlas site in 2,000 known bases: a random place is within 20 nt of it with probability 41 / 2,000."""
    sequence = b"N" * 1000 + b"a" * 1500 + b"R" * 500 + b"G" * 500 + b"N" * 500
    sites = table(*(("c", 1000 + 30 * i, "+") for i in range(50)))
    atlas = table(("c", 2000, "+"))
    with open_genome(write_fasta(tmp_path / "g.fa", {"c": sequence})) as genome:
        result = overlap(sites, atlas, 20, genome, shuffles=400, seed=1)
        again = overlap(sites, atlas, 20, genome, shuffles=400, seed=1)
        other = overlap(sites, atlas, 20, genome, shuffles=400, seed=2)
    null = result["near_atlas"]["null"]
    assert null["mean"] == pytest.approx(41 / 2000, abs=4 * np.sqrt(41 / 2000 / (50 * 400)))
    assert null["sd"] == pytest.approx(np.sqrt(41 / 2000 * (1 - 41 / 2000) / 50), rel=0.25)
    assert null["fold_enrichment"] == pytest.approx(result["near_atlas"]["fraction"] / null["mean"])
    assert result == again
    assert result["near_atlas"]["null"] != other["near_atlas"]["null"]
    chance = 1 - (1 - 41 / 2000) ** 50
    assert result["recovered"]["null"]["mean"] == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / 400))


def test_shuffles_never_fall_on_n(tmp_path):
    sequence = b"A" * 100 + b"N" * 900 + b"C" * 10
    sites = table(*(("c", 40 * i, "+") for i in range(3)), ("c", 1000, "-"))
    atlas = table(("c", 500, "+"), ("c", 500, "-"))
    with open_genome(write_fasta(tmp_path / "g.fa", {"c": sequence})) as genome:
        result = overlap(sites, atlas, 390, genome, shuffles=300)  # 500 - 390 = 110: only N lies that near
    assert result["near_atlas"]["null"]["mean"] == 0
    assert result["near_atlas"]["null"]["fold_enrichment"] is None
    assert result["near_atlas"]["null"]["p"] == 1.0


def test_clusters_move_as_a_whole_and_stay_inside(tmp_path):
    """Twenty sites in one cluster as wide as the contig: it has nowhere to go, so chance hits as the prediction does."""
    sites = table(*(("c", 20 * i, "+") for i in range(20)))
    with open_genome(write_fasta(tmp_path / "g.fa", {"c": b"ACGT" * 95 + b"A"})) as genome:
        result = overlap(sites, table(("c", 200, "+")), 0, genome, shuffles=50)
    assert counts(result) == (1, 1, 1, 1)
    assert result["near_atlas"]["null"] == {"mean": 1.0, "sd": 0.0, "p": 1.0, "fold_enrichment": 1.0}


def test_without_genome_the_span_of_the_tables_is_the_ground():
    sites, atlas = table(("a", 100, "+"), ("a", 200, "+")), table(("a", 100, "+"), ("a", 299, "-"))
    null = overlap(sites, atlas, 0, gap=0, shuffles=2000)["near_atlas"]["null"]
    assert null["mean"] == pytest.approx(1 / 200, abs=0.004)
    assert null["p"] < 0.05


def test_known_stretches_cross_blocks(tmp_path, monkeypatch):
    contigs = {"a": b"NNACGNNRTT", "b": b"N" * 9, "c": b"acgt", "d": b"", "e": random_genome(1, {"e": 500}, n_runs=9)["e"]}
    path = write_fasta(tmp_path / "g.fa", contigs)
    for block in (1, 2, 3, 7, 1000):
        monkeypatch.setattr("basewise.inference.overlap.BLOCK", block)
        with open_genome(path) as genome:
            for name, sequence in contigs.items():
                ground = known_stretches(genome, name)
                found = [i for start, end in zip(ground.starts, ground.ends, strict=True) for i in range(start, end)]
                assert found == [i for i, base in enumerate(sequence.upper()) if base in b"ACGT"]
                if found:
                    assert set(ground.draw(np.random.default_rng(0), 2000).tolist()) <= set(found)


def test_bad_input(tmp_path):
    sites = table(("chr1", 10, "+"))
    for bad, message in [
        (lambda g: overlap(sites, table(("1", 10, "+"))), "sites table names contig 'chr1' that the atlas does not have.*calls 'chr1' '1'"),
        (lambda g: overlap(table(("1", 10, "+")), sites, 20, g), "the sites table names contig '1'.*'1' 'chr1'"),
        (lambda g: overlap(sites, table(("1", 10, "+")), 20, g), "the atlas names contig '1'.*'1' 'chr1'"),
        (lambda g: overlap(table(("chr1", 99, "+")), sites, 20, g), "predicted sites lie outside contig 'chr1'"),
        (lambda g: overlap(sites, table(("chr1", 99, "+")), 20, g), "atlas sites lie outside contig 'chr1'"),
        (lambda g: overlap(sites.iloc[:0], sites), "sites table is empty"),
        (lambda g: overlap(sites, sites.drop(columns="strand")), "atlas lacks column strand"),
        (lambda g: overlap(sites, sites, -1), "window -1 is negative"),
        (lambda g: overlap(table(("n", 1, "+")), table(("n", 1, "+")), 20, g), "no base other than N"),
    ]:
        with (
            open_genome(write_fasta(tmp_path / "g.fa", {"chr1": b"ACGT" * 20, "n": b"NNNN"})) as genome,
            pytest.raises(BasewiseError, match=message),
        ):
            bad(genome)


def test_atlas_outside_the_genome_is_left_out_and_counted(tmp_path):
    sites, atlas = table(("a", 10, "+")), table(("a", 12, "+"), ("zz", 3, "+"), ("b", 3, "+"))
    with open_genome(write_fasta(tmp_path / "g.fa", {"a": b"ACGT" * 20, "b": b"ACGT"})) as genome:
        result = overlap(sites, atlas, 5, genome, shuffles=10)
    assert result["atlas"] == {"sites": 2, "clusters": 2, "sites_outside_genome": 1, "clusters_on_contigs_without_sites": 1}
    assert counts(result) == (1, 1, 1, 2)
    assert counts(overlap(sites, atlas, 5, shuffles=10)) == (1, 1, 1, 3)
