"""What users hand in, in every format, and what is refused."""

import gzip

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.errors import BasewiseError
from basewise.genome.alphabet import reverse_complement
from basewise.inference.inputs import open_inputs
from basewise.testing.genomes import write_fasta

GENOME = {"x": "ACGTTGCATTACGGATCCAAGTCTGACTTGAC", "y": "GGGTTT"}


def read(path, *args, **kwargs):
    inputs = open_inputs(path, *args, **kwargs)
    return inputs, pd.concat(list(inputs.pieces()), ignore_index=True)


def write(path, text):
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("name", ["a.fa", "a.fasta", "a"])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_fasta(tmp_path, name, rows):
    inputs, table = read(write(tmp_path / name, ">one first|x\r\nACG\r\nTn\r\n\r\n>two\r\n>three\r\nA"), rows=rows)
    assert (inputs.format, inputs.columns) == ("fasta", ("id", "sequence"))
    assert table.to_dict("list") == {"id": ["one", "two", "three"], "sequence": ["ACGTn", "", "A"]}


def test_gzipped_fasta(tmp_path):
    (tmp_path / "a.fa.gz").write_bytes(gzip.compress(b">one\nACGT\n"))
    assert read(tmp_path / "a.fa.gz")[1]["sequence"].tolist() == ["ACGT"]


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.tsv", "\t"), ("a.txt", "\t"), ("unknown", ","), ("unknown", "\t")])
@pytest.mark.parametrize("rows", [1, 100])
def test_text_tables_keep_all_columns_and_values(tmp_path, name, mark, rows):
    lines = [["code", "sequence", "label", "note"], ["007", "ACG", "1", "NA"], ["12", "t", "-3", ""], ["5", "NN", "0", "1.50"]]
    path = write(tmp_path / name, "\ufeff" + "\r\n".join(mark.join(line) for line in lines) + "\r\n")
    inputs, table = read(path, rows=rows)
    assert inputs.columns == ("code", "sequence", "label", "note")
    assert table["code"].tolist() == ["007", "12", "5"]
    assert table["sequence"].tolist() == ["ACG", "t", "NN"]
    assert table["label"].tolist() == [1, -3, 0]
    assert table["label"].dtype == "int64"
    assert table["note"].tolist() == ["NA", "", "1.50"]


def test_parquet_keeps_types(tmp_path):
    source = pa.table({"sequence": ["ACG", None], "label": pa.array([1, None], pa.int8()), "tags": [["a"], []], "empty": pa.nulls(2)})
    pq.write_table(source, tmp_path / "a.parquet")
    _, table = read(tmp_path / "a.parquet", rows=1)
    assert table["sequence"].tolist() == ["ACG", ""]
    back = pa.Table.from_pandas(table[["label", "tags", "empty"]], preserve_index=False)
    assert back.schema.types == source.drop_columns(["sequence"]).schema.types
    assert back["label"].to_pylist() == [1, None]


def by_hand(chrom, center, strand, window):
    """Bases around `center`, which becomes base window // 2 as read on `strand`."""
    whole = GENOME[chrom]
    padded = "N" * 100 + whole + "N" * 100
    if strand == "-":
        return reverse_complement(padded)[100 + len(whole) - 1 - center - window // 2 :][:window]
    return padded[100 + center - window // 2 :][:window]


@given(st.integers(0, 31), st.integers(1, 9), st.sampled_from("+-."), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_bed_is_centred_on_its_strand(tmp_path_factory, start, length, strand, window):
    folder = tmp_path_factory.mktemp("bed")
    fasta = write_fasta(folder / "g.fa", GENOME)
    end = min(start + length, 32)
    bed = write(folder / "a.bed", f"x\t{start}\t{end}\tname\t0\t{strand}\n")
    inputs, table = read(bed, fasta, window)
    interval = GENOME["x"][start:end]
    center = (end - start) // 2
    place = end - 1 - center if strand == "-" else start + center
    assert table["sequence"].tolist() == [by_hand("x", place, strand, window)]
    assert "sequence" not in inputs.columns
    whole = read(bed, fasta)[1]["sequence"][0]
    assert whole == (reverse_complement(interval) if strand == "-" else interval)
    assert whole[len(whole) // 2] == table["sequence"][0][window // 2]


def test_bed_columns_are_kept_in_pieces(tmp_path):
    fasta = write_fasta(tmp_path / "g.fa", GENOME)
    bed = write(tmp_path / "a.bed", "#chrom\tstart\tend\tname\tscore\tstrand\tgene\ny\t1\t2\ta\t5\t+\tABC\nx\t0\t1\tb\t7\t-\tDEF\n")
    inputs, table = read(bed, fasta, 3, rows=1)
    assert inputs.columns == ("chrom", "start", "end", "name", "score", "strand", "gene")
    assert table["gene"].tolist() == ["ABC", "DEF"]
    assert table["sequence"].tolist() == ["GGG", "GTN"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.fa", None, "does not exist"),
        ("a.fa", "", "holds no sequence"),
        ("a.fa", "ACGT\n>x\nA\n", "line 1: 'ACGT' stands before the first header"),
        ("a.fa", ">x\nA\n> \nC\n", "line 3: a FASTA header without a name"),
        ("a.csv", "id,Sequence\n1,A\n", "no column 'sequence', it has id, Sequence.*Did you mean 'sequence'"),
        ("a.csv", "id,sequence\n", "holds no row"),
        ("a.csv", "", "cannot read .*No columns"),
        ("a.csv", "id,sequence\n1,A,extra\n2,C,extra\n", "cannot read"),
        ("a.csv", 'id,sequence\n1,"A\n', "cannot read"),
        ("a.parquet", "not parquet", "cannot read .*Parquet"),
        ("a.xyz", "hello\n", "format of .* is not known"),
        ("a.bed", "x\t1\t2\n", "add -g GENOME"),
    ],
)
def test_bad_inputs_are_one_line(tmp_path, name, text, message):
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(BasewiseError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_truncated_gzip_is_one_line(tmp_path):
    (tmp_path / "a.fa.gz").write_bytes(gzip.compress(b">one\n" + b"ACGT" * 100)[:-12])
    with pytest.raises(BasewiseError, match="cannot read .*is it whole"):
        read(tmp_path / "a.fa.gz")


@pytest.mark.parametrize(
    ("bed", "message"),
    [
        ("z\t1\t2\n", "z"),
        ("x\t1\t99\n", "x:1-99 is empty or reaches beyond its contig of 32 bases"),
        ("x\t3\t3\n", "x:3-3 is empty"),
    ],
)
def test_intervals_off_the_genome_are_refused(tmp_path, bed, message):
    fasta = write_fasta(tmp_path / "g.fa", GENOME)
    with pytest.raises(BasewiseError, match=message):
        read(write(tmp_path / "a.bed", bed), fasta, 5)


def test_a_genome_without_intervals_is_refused(tmp_path):
    fasta = write_fasta(tmp_path / "g.fa", GENOME)
    with pytest.raises(BasewiseError, match="leave out -g"):
        open_inputs(fasta, fasta)
