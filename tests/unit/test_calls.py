"""Calling sites from candidates: which one stands for a cluster, and in which gene it lies."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.errors import BasewiseError
from basewise.inference.calls import call_sites, classify_by_genes, genes_at


def candidates(*rows: tuple[str, int, str, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["chrom", "position", "strand", "probability"])
    return table.astype({"position": "int64", "probability": "float32"}).assign(hexamer=[f"h{i}" for i in range(len(rows))])


def brief(sites: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(zip(sites["chrom"], sites["start"], sites["strand"], sites["hexamer"], sites["n_in_cluster"], strict=True))


def test_best_of_each_cluster_on_each_strand():
    table = candidates(
        ("b", 100, "+", 0.6),
        ("b", 124, "+", 0.9),
        ("b", 148, "+", 0.7),
        ("b", 173, "+", 0.5),
        ("b", 110, "-", 0.8),
        ("a", 100, "+", 0.55),
        ("a", 90, "+", 0.4),
    )
    sites = call_sites(table, 0.5)
    assert brief(sites) == [("b", 110, "-", "h4", 1), ("b", 124, "+", "h1", 3), ("b", 173, "+", "h3", 1), ("a", 100, "+", "h5", 1)]
    assert sites.columns.tolist() == ["chrom", "start", "end", "name", "score", "strand", "probability", "hexamer", "n_in_cluster"]
    assert sites["score"].tolist() == [800, 900, 500, 550]
    assert sites["name"].tolist() == ["site_2", "site_1", "site_4", "site_3"]
    assert (sites["end"] - sites["start"] == 1).all()
    assert sites["probability"].dtype == np.float32
    assert call_sites(table, 0.5, contigs=["a", "b"])["chrom"].tolist() == ["a", "b", "b", "b"]


def test_a_weak_candidate_does_not_link_two_clusters():
    table = candidates(("a", 100, "+", 0.9), ("a", 120, "+", 0.1), ("a", 140, "+", 0.9))
    assert brief(call_sites(table, 0.5)) == [("a", 100, "+", "h0", 1), ("a", 140, "+", "h2", 1)]
    assert brief(call_sites(table, 0.1)) == [("a", 100, "+", "h0", 3)]
    assert len(call_sites(table, 0.5, gap=40)) == 1


def test_ties_go_upstream_on_the_strand():
    table = candidates(("a", 10, "+", 0.5), ("a", 20, "+", 0.5), ("a", 10, "-", 0.5), ("a", 20, "-", 0.5))
    assert brief(call_sites(table, 0.5)) == [("a", 10, "+", "h0", 2), ("a", 20, "-", "h3", 2)]


def test_threshold_is_inclusive_and_nan_never_counts():
    table = candidates(("a", 10, "+", 0.5), ("a", 100, "+", np.nan))
    assert len(call_sites(table, 0.5)) == 1
    assert len(call_sites(table, 0)) == 1
    assert len(call_sites(table, np.nextafter(0.5, 1))) == 0


def test_nothing_above_the_threshold_is_an_empty_table_with_all_columns():
    empty = call_sites(candidates(("a", 10, "+", 0.5)), 0.9)
    assert len(empty) == 0
    assert empty.columns.tolist() == call_sites(candidates(("a", 10, "+", 0.5)), 0.1).columns.tolist()
    assert len(call_sites(candidates(), 0.5)) == 0


def test_bad_input():
    table = candidates(("a", 10, "+", 0.5))
    with pytest.raises(BasewiseError, match="lacks column probability"):
        call_sites(table.drop(columns="probability"), 0.5)
    with pytest.raises(BasewiseError, match="threshold 50"):
        call_sites(table, 50)
    with pytest.raises(BasewiseError, match="other than"):
        call_sites(table.assign(strand="."), 0.5)


rows = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 90), st.sampled_from("+-"), st.sampled_from([0.2, 0.5, 0.75])),
    unique_by=lambda row: row[:3],
    max_size=40,
)


@settings(max_examples=50, deadline=None)
@given(rows, st.integers(0, 12))
def test_calling_mirrors_with_the_strand(drawn, gap):
    """Candidates of the mirrored contig give the mirrored sites: nothing depends on left and right but through the strand."""
    mirrored = [(chrom, 90 - position, "-" if strand == "+" else "+", p) for chrom, position, strand, p in drawn]
    ours, theirs = call_sites(candidates(*drawn), 0.5, gap), call_sites(candidates(*mirrored), 0.5, gap)
    turned = [(chrom, 90 - start, "-" if strand == "+" else "+", *rest) for chrom, start, strand, *rest in brief(theirs)]
    assert sorted(turned) == sorted(brief(ours))


@settings(max_examples=50, deadline=None)
@given(rows, st.integers(0, 12), st.randoms())
def test_order_of_candidates_does_not_matter(drawn, gap, random):
    shuffled = drawn[:]
    random.shuffle(shuffled)
    contigs = ["a", "b"]
    ours = call_sites(candidates(*drawn), 0.5, gap, contigs).drop(columns="hexamer")
    pd.testing.assert_frame_equal(call_sites(candidates(*shuffled), 0.5, gap, contigs).drop(columns="hexamer"), ours)
    assert ours["n_in_cluster"].sum() == sum(row[3] >= 0.5 for row in drawn)


GENES = pd.DataFrame(
    [
        ("a", 0, 100, "long", "+"),
        ("a", 20, 60, "short", "+"),
        ("a", 40, 80, "minus", "-"),
        ("a", 10, 80, "minus2", "-"),
        ("b", 0, 9, "other", "+"),
    ],
    columns=["chrom", "start", "end", "name", "strand"],
)


def test_gene_whose_three_prime_end_is_nearest():
    expected = [
        ("a", 10, "+", "long"),
        ("a", 50, "+", "short"),
        ("a", 59, "+", "short"),
        ("a", 60, "+", "long"),
        ("a", 99, "+", "long"),
        ("a", 100, "+", "."),
        ("a", 39, "-", "minus2"),
        ("a", 40, "-", "minus"),
        ("a", 79, "-", "minus"),
        ("a", 80, "-", "."),
        ("a", 5, "-", "."),
        ("b", 8, "+", "other"),
        ("c", 8, "+", "."),
    ]
    sites = pd.DataFrame([row[:3] for row in expected], columns=["chrom", "start", "strand"])
    classed = classify_by_genes(sites, GENES)
    assert classed["gene"].tolist() == [row[3] for row in expected]
    assert classed["region"].tolist() == ["intergenic" if row[3] == "." else "genic" for row in expected]
    assert sites.columns.tolist() == ["chrom", "start", "strand"]
    reversed_sites = classify_by_genes(sites.iloc[::-1], GENES)
    assert reversed_sites["gene"].tolist() == [row[3] for row in reversed(expected)]


def test_no_genes_and_no_sites():
    sites = pd.DataFrame({"chrom": ["a"], "start": [5], "strand": ["+"]})
    assert classify_by_genes(sites, GENES.iloc[:0])["region"].tolist() == ["intergenic"]
    assert len(classify_by_genes(sites.iloc[:0], GENES)) == 0
    with pytest.raises(BasewiseError, match="lacks column strand"):
        classify_by_genes(sites, GENES.drop(columns="strand"))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_genes_at_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 50, 12)
    genes = pd.DataFrame({"chrom": "a", "start": start, "end": start + rng.integers(1, 30, 12), "strand": rng.choice(["+", "-"], 12)})
    sites = pd.DataFrame({"chrom": "a", "start": rng.integers(0, 80, 20), "strand": rng.choice(["+", "-"], 20)})
    for site, found in zip(sites.itertuples(), genes_at(sites, genes), strict=True):
        over = [g for g in genes.itertuples() if g.strand == site.strand and g.start <= site.start < g.end]
        ends = {g.Index: abs(site.start - (g.end - 1 if g.strand == "+" else g.start)) for g in over}
        assert found == (min(ends, key=lambda g: (ends[g], g)) if over else -1)
