"""The paper's k-mer algorithms on inputs small enough to do by hand, and its printed consensus table."""

import numpy as np
import pandas as pd
import pytest

from basewise.errors import BasewiseError
from basewise.interpretation.kmers import as_row, consensus, kmer_table, tp_importance
from basewise.interpretation.seqlets import find_seqlets, motifs_of, write_meme


def scores(*values):
    return np.array(values, dtype=np.float32)


def test_algorithm_2_mean_over_true_positive_sequences():
    rows = [
        as_row("ACAC", scores(1, 3, 5, 7), True),  # AC 2, CA 4, AC 6
        as_row("acN", scores(2, 0, 9), True),  # AC 1; CN is none
        as_row("ACA", scores(100, 100, 100), False),
    ]
    table = kmer_table(rows, 2, restrict="tp", of="mean")
    assert table[["kmer", "count", "mean_score", "sum_score"]].to_numpy().tolist() == [["CA", 1, 4.0, 4.0], ["AC", 3, 3.0, 9.0]]
    assert table["occurrences"].tolist() == [2, 4]
    assert table["tp"].tolist() == [1, 3]
    free = kmer_table(rows, 2, of="mean")
    assert dict(zip(free["kmer"], free["mean_score"], strict=True)) == {"AC": (2 + 6 + 1 + 100) / 4, "CA": (4 + 100) / 2}


def test_algorithm_4_sum_inside_true_positive_bases():
    positive = np.array([0, 1, 1, 1, 0, 1], dtype=bool)
    rows = [as_row("CGCGCG", scores(1, 2, 3, 4, 5, 6), positive), as_row("GCG", None, np.zeros(3, bool))]
    table = kmer_table(rows, 2, restrict="tp", of="sum")
    # inside bases 1-3: GC at 1 (2 + 3), CG at 2 (3 + 4); "CG" at 4 touches base 4, no true positive
    assert table[["kmer", "count", "mean_score"]].to_numpy().tolist() == [["CG", 1, 7.0], ["GC", 1, 5.0]]


def test_algorithm_6_importance():
    positive = np.array([0, 1, 1, 1, 0, 1], dtype=bool)
    rows = [as_row("CGCGCG", scores(1, 2, 3, 4, 5, 6), positive), as_row("GCG", None, np.zeros(3, bool))]
    table = tp_importance(rows, 2)
    # CG: 3 + 1 places, one inside; GC: 2 + 1 places, one inside
    assert table["kmer"].tolist() == ["GC", "CG"]
    assert table["tp"].tolist() == [1, 1]
    assert table["occurrences"].tolist() == [3, 4]
    np.testing.assert_allclose(table["importance"], [1 / 3, 1 / 4])
    joined = kmer_table(rows, 2, restrict="tp", of="sum").set_index("kmer")
    np.testing.assert_allclose(joined.loc[["GC", "CG"], "importance"], [1 / 3, 1 / 4])


def test_consensus_by_hand():
    first = pd.DataFrame({"kmer": ["AA", "CC", "GG"], "count": [1, 2, 3], "mean_score": [1.0, 2.0, 3.0]})  # mean 2
    second = pd.DataFrame({"kmer": ["GG", "AA", "TT"], "count": [9, 9, 9], "mean_score": [-1.0, -2.0, -3.0]})  # mean -2
    table = consensus({"one": first, "two": second})
    assert table.columns.tolist() == [
        "kmer", "count", "mean_score_one", "deviation_one", "mean_score_two", "deviation_two", "mean_deviation",
    ]  # fmt: skip
    assert table.to_numpy().tolist() == [["GG", 3, 3.0, 50.0, -1.0, 50.0, 50.0], ["AA", 1, 1.0, -50.0, -2.0, 0.0, -25.0]]
    with pytest.raises(BasewiseError, match="in every table"):
        consensus({"one": first, "two": second.assign(kmer=["X", "Y", "Z"])})


def test_consensus_follows_the_table_in_print():
    """Z-DNA slides: IG and SmoothGrad scores of five 5-mers and their consensus. Two of them give both means, three are then predicted."""
    ig = {"CGCGC": 23.67, "GCGCG": 21.97, "CGCGT": 21.60, "GTGCG": 16.96, "GCGTG": 19.42}
    smooth = {"CGCGC": 523.68, "GCGCG": 529.61, "CGCGT": 451.16, "GTGCG": 412.44, "GCGTG": 419.04}
    printed = {"CGCGC": 542.54, "GCGCG": 511.67, "CGCGT": 477.10, "GTGCG": 373.61, "GCGTG": 423.48}
    known = ["CGCGC", "GCGCG"]
    inverse = np.linalg.solve([[smooth[k], ig[k]] for k in known], [2 * (printed[k] / 100 + 1) for k in known])
    means = 1 / inverse  # of SmoothGrad and IG over all k-mers

    def table(values, mean):
        rest = 1000 * mean - sum(values.values())  # all other k-mers share what the mean needs
        others = {f"other{i}": rest / 995 for i in range(995)}
        both = {**values, **others}
        return pd.DataFrame({"kmer": list(both), "count": 1, "mean_score": list(both.values())})

    result = consensus({"smooth": table(smooth, means[0]), "ig": table(ig, means[1])}).set_index("kmer")["mean_deviation"]
    for kmer, value in printed.items():
        assert result[kmer] == pytest.approx(value, abs=0.2)


def test_options():
    rows = [as_row("AACGTT", scores(1, 2, 3, 4, 5, 6), True), as_row("AAA", scores(3, 0, 4), True)]
    merged = kmer_table(rows, 2, of="sum", merge_strands=True)
    assert dict(zip(merged["kmer"], merged["count"], strict=True)) == {"AA": 4, "AC": 2, "CG": 1}
    assert merged.set_index("kmer").loc["AC", "sum_score"] == 2 + 3 + 4 + 5
    few = kmer_table(rows, 2, of="sum", min_count=2)
    assert few["kmer"].tolist() == ["AA"]
    normal = kmer_table(rows[1:], 3, of="sum", normalize=True)
    assert normal["sum_score"].tolist() == pytest.approx([7 / 5])
    long = kmer_table([as_row("ACGT" * 20, np.ones(80, np.float32), True)], 40, of="sum")
    assert len(long) == 4
    assert set(long["mean_score"]) == {40.0}
    for message, settings in (("k 0", {"k": 0}), ("shorter than k", {"k": 9}), ("scored 5 times", {"k": 2, "min_count": 5})):
        with pytest.raises(BasewiseError, match=message):
            kmer_table(rows, **settings)


def test_bootstrap_resamples_sequences():
    rows = [as_row("AA", scores(value, value), True) for value in (1.0, 2.0, 3.0, 4.0)] + [as_row("CC", scores(1, 1), True)]
    table = kmer_table(rows, 2, bootstrap=400, seed=1).set_index("kmer")
    assert table.loc["AA", "low"] < 2.5 < table.loc["AA", "high"]
    assert 1 <= table.loc["AA", "low"] <= 1.7
    assert 3.3 <= table.loc["AA", "high"] <= 4
    assert table.loc["CC", ["low", "high"]].tolist() == [1, 1]
    again = kmer_table(rows, 2, bootstrap=400, seed=1).set_index("kmer")
    pd.testing.assert_frame_equal(table, again)


def test_seqlets_and_meme(tmp_path):
    def row(text):
        values = np.zeros(len(text), dtype=np.float32)
        at = text.index("TAAA")
        values[at - 2 : at + 4] = [1, 1, 2, 2, 2, 1]
        return as_row(text, values, True)

    rows = [row("CCCCCAATAAACCCC"), row("GGATTAAAGGGGGGG"), row("GGGGGGGGAATAAAG")]
    found = find_seqlets(rows, quantile=0.6)
    assert found["sequence"].tolist() == ["AATAAA", "ATTAAA", "AATAAA"]
    assert found["start"].tolist() == [5, 2, 8]
    assert found["score"].tolist() == [9, 9, 9]
    (motif,) = motifs_of(rows, found, width=6)
    assert (motif.name, motif.sites, motif.score) == ("AATAAA", 3, 27)
    write_meme(tmp_path / "m.meme", [motif])
    lines = (tmp_path / "m.meme").read_text().splitlines()
    assert lines[0] == "MEME version 4"
    assert "letter-probability matrix: alength= 4 w= 6 nsites= 3 E= 0" in lines
    assert "0.666667  0.000000  0.000000  0.333333" in lines
