import gzip

import numpy as np
import pandas as pd
import pytest

from basewise.datasets.folder import open_dataset, refuse_existing, write_dataset
from basewise.datasets.table import EXAMPLE_COLUMNS, kind_of, read_examples, validate, write_examples
from basewise.errors import BasewiseError


def table(**changes):
    columns = {
        "chrom": ["c1", "c2"],
        "start": [3, 10],
        "end": [7, 14],
        "strand": ["+", "-"],
        "label": [0, 1],
        "split": ["train", "test"],
        "group": ["g", "h"],
        "sequence": ["ACGT", "NNAC"],
    }
    return pd.DataFrame(columns | changes)


def base_table():
    return table(label=pd.Series([np.array([-1, 0, 1, -1], np.int8), np.array([0, -1, -1, 0], np.int8)], dtype=object))


@pytest.mark.parametrize("make", [table, base_table])
def test_written_examples_read_back(tmp_path, make):
    import pyarrow as pa
    import pyarrow.parquet as pq

    examples = make()
    write_examples(examples, tmp_path / "examples.parquet")
    schema = pq.read_schema(tmp_path / "examples.parquet")
    assert tuple(schema.names) == EXAMPLE_COLUMNS
    assert schema.field("label").type == (pa.int64() if make is table else pa.list_(pa.int8()))
    for read in (read_examples(tmp_path), read_examples(tmp_path / "examples.parquet")):
        assert kind_of(read) == ("sequence" if make is table else "base")
        for column in EXAMPLE_COLUMNS:
            assert [np.asarray(value).tolist() for value in read[column]] == [np.asarray(value).tolist() for value in examples[column]]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.csv.gz", "x.tsv.gz", "x.parquet"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_users_file_needs_a_sequence_and_a_label(tmp_path, name, end):
    path = tmp_path / name
    separator = "\t" if "tsv" in name else ","
    text = end.join([separator.join(row) for row in (["sequence", "label", "note"], ["NA", "1", "first"], ["acgtN", "0", "second"])]) + end
    if name.endswith("parquet"):
        pd.DataFrame({"sequence": ["NA", "acgtN"], "label": [1, 0], "note": ["first", "second"]}).to_parquet(path)
    else:
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    examples = read_examples(path)
    assert examples["sequence"].tolist() == ["NA", "acgtN"]  # "NA" is DNA, not a missing value
    assert examples["label"].tolist() == [1, 0]
    assert examples["label"].dtype == np.int64
    assert examples["end"].tolist() == [2, 5]
    assert examples["group"].tolist() == ["row0", "row1"]
    assert examples["note"].tolist() == ["first", "second"]
    assert set(examples["split"]) == {""}


def test_labels_are_optional_where_they_are_not_needed(tmp_path):
    (tmp_path / "x.csv").write_text("sequence\nACGT\n")
    assert read_examples(tmp_path / "x.csv", need_label=False)["label"].tolist() == [-1]
    with pytest.raises(BasewiseError, match="no column 'label'"):
        read_examples(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Sequence,label\nACGT,1\n", "no column 'sequence'.*Rename 'Sequence' to 'sequence'"),
        ("sequence,lable\nACGT,1\n", "no column 'label'.*Rename 'lable' to 'label'"),
        ("sequence,label\nACGT,1\nACGT,yes\n", "row 2: label is 'yes', expected a whole number"),
        ("sequence,label\nACGT,0.5\n", "row 1: label is '0.5'"),
        ("sequence,label\nACGT,\n", "row 1: label is ''"),
        ("sequence,label\nACGT,-2\n", "row 1: label is -2"),
        ("sequence,label\nACGT,0\nAC GT,0\n", "row 2: sequence is 'AC GT', expected letters only"),
        ("sequence,label\n,0\n", "row 1: sequence is '', expected at least one base"),
        ("sequence,label\n", "holds no examples"),
        ("sequence,label,split\nACGT,1,tset\n", "row 1: split is 'tset', expected one of train, val, test"),
        ("sequence,label,strand\nACGT,1,plus\n", "row 1: strand is 'plus'"),
        ("sequence,label,start,end\nACGT,1,0,7\n", "row 1: end is 7, expected start"),
        ("", "cannot read"),
    ],
)
def test_bad_files_are_explained(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(BasewiseError, match=message):
        read_examples(tmp_path / "x.csv")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BasewiseError, match="does not exist"):
        read_examples(tmp_path / "none.csv")
    with pytest.raises(BasewiseError, match=r"holds no examples\.parquet"):
        read_examples(tmp_path)
    for name, content in (("x.bam", b""), ("x.parquet", b"PAR1 cut"), ("x.csv.gz", b"no gzip")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BasewiseError, match=r"cannot (tell|read)"):
            read_examples(tmp_path / name)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1, -1], [0, 0, 0, 0]], "row 1: label holds 3 values"),
        ([[0, 1, -1, 0], [0, 0, 0, -2]], "row 2: labels reach from -2"),
        ([[0, 1, -1, 0], 1], "row 2: label is 1, expected a list"),
        ([[0, 1, -1, 0.5], [0, 0, 0, 0]], "row 1: label holds 4 values of type float64"),
    ],
)
def test_base_labels_are_checked(labels, message):
    with pytest.raises(BasewiseError, match=message):
        validate(table(label=pd.Series(labels, dtype=object)))


def test_dataset_folder_round_trip(tmp_path):
    examples = base_table()
    written = write_dataset(tmp_path / "d", examples, {"task": "polya", "seed": 3})
    opened = open_dataset(tmp_path / "d")
    assert opened.manifest == written.manifest
    assert opened.manifest["counts"] == {"test": {"0": 2}, "train": {"0": 1, "1": 1}}
    assert (opened.kind, opened.manifest["kind"], opened.manifest["seed"]) == ("base", "base", 3)
    assert opened.part("test")["sequence"].tolist() == ["NNAC"]
    with pytest.raises(BasewiseError, match="no examples of split 'val'; it has 'train', 'test'"):
        opened.part("val")


def test_a_dataset_is_whole_or_refused(tmp_path):
    write_dataset(tmp_path / "d", table(), {"task": "polya"})
    for refuse in (lambda: write_dataset(tmp_path / "d", table(), {}), lambda: refuse_existing(tmp_path / "d", force=False)):
        with pytest.raises(BasewiseError, match="--force"):
            refuse()
    write_dataset(tmp_path / "d", table(label=[1, 1]), {"task": "polya"}, force=True)
    assert open_dataset(tmp_path / "d").examples["label"].tolist() == [1, 1]
    (tmp_path / "d" / "manifest.json").write_text("{}")
    with pytest.raises(BasewiseError, match="lacks task, kind, counts"):
        open_dataset(tmp_path / "d")
    (tmp_path / "d" / "manifest.json").unlink()
    with pytest.raises(BasewiseError, match="interrupted"):
        open_dataset(tmp_path / "d")
    with pytest.raises(BasewiseError, match="is not a folder"):
        open_dataset(tmp_path / "e")
    (tmp_path / "f").touch()
    with pytest.raises(BasewiseError, match="is a file"):
        refuse_existing(tmp_path / "f", force=True)


@pytest.mark.data
def test_gue_files_are_read(shared):
    examples = read_examples(shared / "data/gue/prom_core_tata/dev.csv.gz")
    assert len(examples) > 500
    assert set(examples["label"]) == {0, 1}
    assert set(examples["sequence"].str.len()) == {70}
