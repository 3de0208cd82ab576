"""Intervals tables: what BED lines become, and the arithmetic of neighbours."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basewise.errors import BasewiseError
from basewise.genome.intervals import NO_NEIGHBOUR, cluster, nearest, nearest_sites, read_bed, require_columns, sort_intervals


def sites(*rows: tuple[str, int, str]) -> pd.DataFrame:
    chrom, start, strand = zip(*rows, strict=True)
    return pd.DataFrame({"chrom": chrom, "start": np.array(start), "end": np.array(start) + 1, "strand": strand})


def test_bed_columns_and_types(tmp_path):
    path = tmp_path / "x.bed"
    path.write_text("browser position chr1\ntrack name=x\n# note\nchr1\t5\t9\ta b\t0.5\t+\n\nchr2\t7\t7\tc\t.\t-\n")
    table = read_bed(path)
    assert table.columns.tolist() == ["chrom", "start", "end", "name", "score", "strand"]
    assert table["start"].dtype == table["end"].dtype == np.int64
    assert table[["chrom", "start", "end", "name", "strand"]].to_numpy().tolist() == [["chr1", 5, 9, "a b", "+"], ["chr2", 7, 7, "c", "-"]]
    assert table["score"].iloc[0] == 0.5
    assert np.isnan(table["score"].iloc[1])


def test_bed_three_columns_crlf_gzip_and_blanks(tmp_path):
    (tmp_path / "a.bed").write_bytes(b"chr1\t1\t2\r\nchr1\t3\t4\r\n")
    (tmp_path / "b").write_bytes(gzip.compress(b"chr1\t1\t2\nchr1\t3\t4\n"))
    (tmp_path / "c").write_bytes(b"chr1 1  2\nchr1 3 4\n")
    tables = [read_bed(tmp_path / name) for name in ("a.bed", "b", "c")]
    for table in tables:
        pd.testing.assert_frame_equal(table, tables[0])
    assert tables[0].to_numpy().tolist() == [["chr1", 1, 2], ["chr1", 3, 4]]


def test_bed_header_names_further_columns(tmp_path):
    path = tmp_path / "x.bed"
    path.write_text("#chrom\tstart\tend\tname\tscore\tstrand\tn\tp\tgene\nc\t1\t2\t.\t0\t+\t7\t0.5\tG1\nc\t2\t3\t.\t0\t+\t8\t1\tG2\n")
    table = read_bed(path)
    assert table.columns.tolist()[6:] == ["n", "p", "gene"]
    assert table["n"].tolist() == [7, 8]
    assert table["n"].dtype == np.int64
    assert table["p"].tolist() == [0.5, 1.0]
    assert table["gene"].tolist() == ["G1", "G2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t1\t2\nchr1\t5\n", "line 2 has 2 columns, expected at least"),
        ("chr1\t1\t2\nchr1\tx\t4\n", "line 2: start 'x'"),
        ("chr1\t1.5\t4\n", "line 1: start '1.5'"),
        ("# c\nchr1\t-1\t4\n", "line 2: start -1"),
        ("chr1\t9\t4\n", "start 9 and end 4 are no interval"),
        ("chr1\t1\t4\tn\t+\t0\n", r"score '\+' \(column 5\)"),
        ("chr1\t1\t4\tn\t0\tplus\n", "strand 'plus'"),
        ("chr1\t1\t4\tn\nchr1\t1\t4\n", "line 2 has 3 columns, the lines before have 4"),
        ("", "holds no interval"),
        ("# only\n", "holds no interval"),
    ],
)
def test_bad_bed_names_the_line(tmp_path, text, message):
    path = tmp_path / "x.bed"
    path.write_text(text)
    with pytest.raises(BasewiseError, match=message):
        read_bed(path)


def test_empty_bed_on_request(tmp_path):
    path = tmp_path / "x.bed"
    path.write_text("#nothing\n")
    table = read_bed(path, allow_empty=True)
    assert len(table) == 0
    assert table.columns.tolist() == ["chrom", "start", "end"]
    assert table["start"].dtype == np.int64


def test_unreadable_bed(tmp_path):
    whole = gzip.compress(b"chr1\t1\t2\n" * 2000)
    (tmp_path / "cut.gz").write_bytes(whole[:-9])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00chr")
    for name, message in [("none", "does not exist"), ("cut.gz", "truncated gzip"), ("binary", "not a text file"), ("", "cannot read")]:
        with pytest.raises(BasewiseError, match=message):
            read_bed(tmp_path / name)


def test_require_columns_lists_all_that_are_missing():
    table = sites(("a", 1, "+"))
    require_columns(table, ["chrom", "strand"], "x")
    with pytest.raises(BasewiseError, match=r"x lacks columns stran, label; it has chrom, start, end, strand. Did you mean 'strand'"):
        require_columns(table, ["stran", "label"], "x")


def test_sort_by_name_and_by_contig_order():
    table = sites(("b", 5, "+"), ("a", 9, "+"), ("b", 1, "-"))
    assert sort_intervals(table)["start"].tolist() == [9, 1, 5]
    assert sort_intervals(table, ["b", "a"])["start"].tolist() == [1, 5, 9]
    with pytest.raises(BasewiseError, match="contig 'b'"):
        sort_intervals(table, ["a"])


def test_cluster_links_at_the_gap_and_not_beyond():
    table = sites(("a", 100, "+"), ("a", 124, "+"), ("a", 149, "+"), ("a", 110, "-"), ("b", 100, "+"), ("a", 148, "+"))
    assert cluster(table, 24).tolist() == [0, 0, 0, 1, 2, 0]
    table = sites(("a", 100, "+"), ("a", 124, "+"), ("a", 149, "+"))
    assert cluster(table, 24).tolist() == [0, 0, 1]
    assert cluster(table, 23).tolist() == [0, 1, 2]


def test_cluster_of_wide_intervals_and_without_strand():
    table = pd.DataFrame({"chrom": ["a"] * 4, "start": [0, 10, 40, 61], "end": [50, 12, 45, 70], "strand": ["+", "-", "+", "+"]})
    assert cluster(table, 10, stranded=False).tolist() == [0, 0, 0, 1]
    assert cluster(table, 12, stranded=False).tolist() == [0, 0, 0, 0]
    assert cluster(table, 12).tolist() == [0, 1, 0, 0]
    assert cluster(table.iloc[:0], 12).tolist() == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.sampled_from("+-")), min_size=1, max_size=30), st.integers(0, 8))
def test_cluster_equals_transitive_closure(rows, gap):
    numbers = cluster(sites(*rows), gap)
    label = list(range(len(rows)))
    for _ in rows:
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                if a[0] == b[0] and a[2] == b[2] and abs(a[1] - b[1]) <= gap:
                    label[i] = label[j] = min(label[i], label[j])
    for i in range(len(rows)):
        for j in range(len(rows)):
            assert (numbers[i] == numbers[j]) == (label[i] == label[j])
    assert set(numbers) == set(range(max(numbers) + 1))


@given(st.lists(st.integers(0, 50), max_size=20), st.lists(st.integers(0, 50), max_size=20))
def test_nearest_equals_brute_force(query, targets):
    targets.sort()
    index, distance = nearest(np.array(query, np.int64), np.array(targets, np.int64))
    for q, i, d in zip(query, index, distance, strict=True):
        if not targets:
            assert (i, d) == (-1, NO_NEIGHBOUR)
        else:
            assert d == min(abs(q - t) for t in targets) == abs(q - targets[i])
            assert targets[i] == min(t for t in targets if abs(q - t) == d)


def test_nearest_sites_keeps_strands_and_contigs_apart():
    ours = sites(("a", 10, "+"), ("a", 10, "-"), ("b", 3, "+"), ("c", 0, "+"))
    theirs = sites(("b", 9, "+"), ("a", 100, "-"), ("a", 15, "+"), ("a", 4, "+"))
    row, distance = nearest_sites(ours, theirs)
    assert row.tolist() == [2, 1, 0, -1]
    assert distance.tolist() == [5, 90, 6, NO_NEIGHBOUR]
    row, distance = nearest_sites(ours, theirs, stranded=False)
    assert distance.tolist()[:3] == [5, 5, 6]
