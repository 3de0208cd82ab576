"""What is written is read back, by us and by the programs the files are for."""

import gzip

import numpy as np
import pandas as pd
import pyBigWig
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.errors import BasewiseError
from basewise.genome.intervals import read_bed
from basewise.genome.tracks import read_bigwig, read_table, write_bed, write_bedgraph, write_bigwig, write_parquet

CONTIGS = {"chr2": 3000, "empty": 0, "chr1": 100, "bare": 50}


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "chrom": ["chr2", "chr2", "chr1"],
            "start": [5, 900, 3],
            "end": [6, 901, 4],
            "name": ['a"b', "c d", None],
            "score": [1000.0, 7.0, 0.0],
            "strand": ["+", "-", "+"],
            "probability": np.array([0.1, 1 / 3, 1.0], np.float32),
            "gene": ["G1,G2", "", "NA"],
        }
    )


def part(chrom, positions, values):
    return chrom, np.array(positions, np.int64), np.array(values, np.float32)


def collect(parts) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for chrom, positions, values in parts:
        assert positions.dtype == np.int64
        assert values.dtype == np.float32
        found.setdefault(chrom, {}).update(zip(positions.tolist(), values.tolist(), strict=True))
    return found


def test_bed_gz_round_trip_and_tabix(tmp_path, table):
    path = tmp_path / "sites.bed.gz"
    write_bed(table, path)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["sites.bed.gz", "sites.bed.gz.tbi"]
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert lines[0] == "#chrom\tstart\tend\tname\tscore\tstrand\tprobability\tgene"
    assert lines[1] == 'chr2\t5\t6\ta"b\t1000\t+\t0.1\tG1,G2'
    assert lines[3] == "chr1\t3\t4\t.\t0\t+\t1.0\tNA"
    again = read_bed(path)
    assert again["probability"].to_numpy(np.float32).tolist() == table["probability"].tolist()
    assert again["gene"].tolist() == ["G1,G2", ".", "NA"]
    with pysam.TabixFile(str(path)) as tabix:
        assert tabix.contigs == ["chr2", "chr1"]
        assert [row.split("\t")[3] for row in tabix.fetch("chr2", 900, 901)] == ["c d"]
        assert list(tabix.fetch("chr2", 6, 900)) == []


def test_bed_three_columns_has_no_header(tmp_path, table):
    write_bed(table[["chrom", "start", "end"]], tmp_path / "x.bed")
    assert (tmp_path / "x.bed").read_text() == "chr2\t5\t6\nchr2\t900\t901\nchr1\t3\t4\n"
    write_bed(table[["chrom", "start", "end", "strand"]], tmp_path / "x.bed")
    assert (tmp_path / "x.bed").read_text().splitlines()[1] == "chr2\t900\t901\t.\t0\t-"
    write_bed(table.iloc[[2, 0]], tmp_path / "x.bed")  # plain BED need not be sorted
    assert read_bed(tmp_path / "x.bed")["chrom"].tolist() == ["chr1", "chr2"]


def test_empty_bed_is_valid(tmp_path, table):
    path = tmp_path / "x.bed.gz"
    write_bed(table.iloc[:0], path)
    assert len(read_bed(path, allow_empty=True)) == 0
    with pysam.TabixFile(str(path)) as tabix:
        assert tabix.contigs == []
    write_bed(table.iloc[:0], tmp_path / "y.bed")
    assert (tmp_path / "y.bed").read_text().startswith("#chrom\tstart")


def test_far_interval_gets_a_csi_index(tmp_path):
    path = tmp_path / "x.bed.gz"
    write_bed(pd.DataFrame({"chrom": ["c"], "start": [5], "end": [6]}), path)
    far = 600_000_000
    write_bed(pd.DataFrame({"chrom": ["c"], "start": [far], "end": [far + 1]}), path)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["x.bed.gz", "x.bed.gz.csi"]
    with pysam.TabixFile(str(path), index=f"{path}.csi") as tabix:
        assert list(tabix.fetch("c", far, far + 1)) == [f"c\t{far}\t{far + 1}"]


def test_bad_bed_leaves_nothing_behind(tmp_path, table):
    cases = [
        (table.iloc[[1, 0, 2]], "not sorted"),
        (table.iloc[[0, 2, 1]], "not sorted"),
        (table.drop(columns="end"), "lacks column end"),
        (table.assign(name=["a", "b\tc", "d"]), "cannot hold tabs"),
    ]
    for bad, message in cases:
        with pytest.raises(BasewiseError, match=message):
            write_bed(bad, tmp_path / "x.bed.gz")
    with pytest.raises(BasewiseError, match="choose a folder"):
        write_bed(table, tmp_path / "none" / "x.bed.gz")
    assert list(tmp_path.iterdir()) == []


def test_bedgraph_merges_equal_neighbours(tmp_path):
    parts = [part("chr2", [1, 2, 3, 5, 6], [0.5, 0.5, 0.25, 0.25, 0.25]), part("chr1", [0], [0.1])]
    expected = "chr2\t1\t3\t0.5\nchr2\t3\t4\t0.25\nchr2\t5\t7\t0.25\nchr1\t0\t1\t0.1\n"
    write_bedgraph(tmp_path / "x.bedgraph", CONTIGS, parts)
    assert (tmp_path / "x.bedgraph").read_text() == expected
    write_bedgraph(tmp_path / "x.bedgraph.gz", CONTIGS, parts)
    with pysam.TabixFile(str(tmp_path / "x.bedgraph.gz")) as tabix:
        assert list(tabix.fetch("chr2", 2, 6)) == expected.splitlines()[:3]
    assert gzip.decompress((tmp_path / "x.bedgraph.gz").read_bytes()).decode() == expected


def test_bigwig_values_as_pybigwig_sees_them(tmp_path):
    path = tmp_path / "x.bw"
    parts = [part("chr2", [0, 7, 8], [0.5, 0.25, 0.125]), part("chr2", [2999], [0.75]), part("chr1", [99], [1])]
    write_bigwig(path, CONTIGS, parts)
    track = pyBigWig.open(str(path))
    assert track.chroms() == {"chr2": 3000, "chr1": 100, "bare": 50}
    assert track.intervals("chr2") == ((0, 1, 0.5), (7, 8, 0.25), (8, 9, 0.125), (2999, 3000, 0.75))
    assert track.intervals("chr1") == ((99, 100, 1.0),)
    assert track.intervals("bare") is None
    assert track.header()["nBasesCovered"] == 5
    track.close()


def test_bigwig_without_any_value_opens(tmp_path):
    for parts in ([], [part("chr1", [], [])]):
        write_bigwig(tmp_path / "x.bw", CONTIGS, parts)
        assert list(read_bigwig(tmp_path / "x.bw")) == []
        track = pyBigWig.open(str(tmp_path / "x.bw"))
        assert track.isBigWig()
        assert track.chroms("chr2") == 3000
        track.close()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_bigwig_round_trip(tmp_path_factory, data):
    """Scattered bases, runs long and short, several parts a contig: all come back, in both directions."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    density = data.draw(st.sampled_from([0.01, 0.5, 0.999, 1.0]))
    parts, truth = [], {}
    for chrom, length in CONTIGS.items():
        positions = np.flatnonzero(rng.random(length) < density)
        values = rng.random(len(positions)).astype(np.float32)
        truth[chrom] = dict(zip(positions.tolist(), values.tolist(), strict=True))
        cut = int(rng.integers(0, len(positions) + 1))
        parts += [(chrom, positions[:cut], values[:cut]), (chrom, positions[cut:], values[cut:])]
    path = tmp_path_factory.mktemp("bw") / "x.bw"
    write_bigwig(path, CONTIGS, iter(parts))
    assert collect(read_bigwig(path)) == {chrom: values for chrom, values in truth.items() if values}
    write_bigwig(path.with_name("y.bw"), CONTIGS, read_bigwig(path))
    assert collect(read_bigwig(path.with_name("y.bw"))) == collect(read_bigwig(path))
    assert collect(read_bigwig(path, "chr2")) == ({"chr2": truth["chr2"]} if truth["chr2"] else {})


def test_bigwig_of_other_programs_with_spans(tmp_path):
    path = tmp_path / "x.bw"
    track = pyBigWig.open(str(path), "w")
    track.addHeader([("c", 3_000_000)])
    track.addEntries(["c", "c"], [10, 1_048_574], ends=[13, 1_048_578], values=[1.5, 2.5])
    track.close()
    assert collect(read_bigwig(path)) == {"c": {10: 1.5, 11: 1.5, 12: 1.5, **dict.fromkeys(range(1_048_574, 1_048_578), 2.5)}}


@pytest.mark.parametrize("write", [write_bigwig, write_bedgraph])
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([("chr9", [1], [1])], "'chr9', which is not among"),
        ([("chr1", [1], [1]), ("chr2", [1], [1])], "'chr2' comes after 'chr1'"),
        ([("chr2", [1, 1], [1, 1])], "strictly increasing"),
        ([("chr2", [5], [1]), ("chr2", [5], [1])], "strictly increasing"),
        ([("chr2", [-1, 4], [1, 1])], "strictly increasing"),
        ([("chr2", [3000], [1])], "beyond the end"),
        ([("chr2", [1], [np.nan])], "finite"),
        ([("chr2", [1, 2], [1])], "2 positions and 1 values"),
    ],
)
def test_bad_tracks_leave_nothing_behind(tmp_path, write, parts, message):
    with pytest.raises(BasewiseError, match=message):
        write(tmp_path / "x", CONTIGS, [part(*each) for each in parts])
    assert list(tmp_path.iterdir()) == []


def test_unreadable_bigwig(tmp_path):
    (tmp_path / "x").write_text("no")
    for name in ("x", "none"):
        with pytest.raises(BasewiseError, match="missing or no bigWig"):
            list(read_bigwig(tmp_path / name))
    write_bigwig(tmp_path / "x.bw", CONTIGS, [])
    with pytest.raises(BasewiseError, match="no contig 'chr7'"):
        list(read_bigwig(tmp_path / "x.bw", "chr7"))
    with pytest.raises(BasewiseError, match="no contig has a base"):
        write_bigwig(tmp_path / "y.bw", {"a": 0}, [])


def test_parquet_round_trip_and_compression(tmp_path, table):
    import pyarrow.parquet as pq

    write_parquet(table, tmp_path / "x.parquet")
    again = read_table(tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    assert again["probability"].dtype == np.float32
    assert pq.ParquetFile(tmp_path / "x.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


def test_parquet_streamed(tmp_path, table):
    write_parquet((table.iloc[i : i + 1] for i in range(3)), tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "x.parquet"), table, check_dtype=False)
    write_parquet(table.iloc[:0], tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet").columns.tolist() == table.columns.tolist()
    (tmp_path / "x.parquet").unlink()
    for parts, message in [
        ([], "no table"),
        ([table, table.drop(columns="gene")], "differs"),
        ([table, table.assign(start="x")], "differs"),
    ]:
        with pytest.raises(BasewiseError, match=message):
            write_parquet(parts, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.CSV", "x.csv.gz", "x.tsv.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_text_tables(tmp_path, name, end):
    separator = "," if "csv" in name.lower() else "\t"
    text = end.join(separator.join(row) for row in [["sequence", "label"], ["ACGT", "1"], ["ac", "0"]]) + end
    raw = b"\xef\xbb\xbf" + text.encode()  # with the byte order mark that spreadsheets write
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    table = read_table(tmp_path / name)
    assert table.columns.tolist() == ["sequence", "label"]
    assert table["sequence"].tolist() == ["ACGT", "ac"]
    assert table["label"].dtype == np.int64


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("x.xlsx", b"", "expected .csv"),
        ("x.gz", b"", "expected .csv"),
        ("x.csv", b"", "cannot read table"),
        ("x.csv", b"a,a\n1,2\n", r"repeated or empty column names \('a'\)"),
        ("x.csv", b"a,\n1,2\n", "repeated or empty"),
        ("x.csv", b"a,b\n1,2,3\n4,5,6\n", "cannot read table"),
        ("x.csv", b"a,b\n1,2\n1,2,3\n", "cannot read table"),
        ("x.csv", b"\xff\xfe\x00", "cannot read table"),
        ("x.csv.gz", b"a,b\n1,2\n", "truncated, or not gzip"),
        ("x.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99)[:-9], "truncated"),
        ("x.parquet", b"a,b\n", "cannot read table"),
    ],
)
def test_bad_tables(tmp_path, name, raw, message):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(BasewiseError, match=message):
        read_table(tmp_path / name)
    with pytest.raises(BasewiseError, match="does not exist"):
        read_table(tmp_path / "none.csv")
