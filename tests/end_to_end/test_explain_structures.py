"""What the embedded zdna and g4 say their answers rest on, on a chromosome that none of their weights saw."""

import gzip
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from basewise.cli.main import app
from basewise.genome.fasta import open_genome

CONTIG, WINDOW, EXAMPLES = "chr19_50000001_59128983", 240, 8


def windows(shared, labels):
    """Return a table of windows around intervals of the test chromosome, evenly spread, with a label a base."""
    with gzip.open(shared / "data" / "labels" / labels, "rt") as lines:
        places = [line.split("\t")[:3] for line in lines if line.startswith(CONTIG)]
    intervals = sorted((int(start), int(end)) for _, start, end in places)
    rows = []
    with open_genome(shared / "data" / "genome" / "hg19_pieces.fa.gz") as genome:
        for i in np.linspace(0, len(intervals) - 1, EXAMPLES).round().astype(int):
            first = sum(intervals[i]) // 2 - WINDOW // 2
            label = np.zeros(WINDOW, dtype=np.int64)
            for start, end in intervals:
                label[max(0, start - first) : max(0, end - first)] = 1
            rows.append({"sequence": bytes(genome.window(CONTIG, first, first + WINDOW)).decode().upper(), "label": label.tolist()})
    return pd.DataFrame(rows)


def alternates(kmer):
    """Say whether purines and pyrimidines take turns, as they do in Z-DNA."""
    purine = [base in "AG" for base in kmer]
    return all(one != other for one, other in pairwise(purine))


@pytest.mark.data
@pytest.mark.parametrize(
    ("model", "labels", "rank", "expected"),
    [
        # what zhunt says it says of all 12 bases of a window, so that means rank the edges of a window as high as its core
        ("zdna", "zdna_kouzine.bed.gz", "sum_score", lambda kmer: alternates(kmer) and "CG" in kmer),
        ("g4", "g4_kex.bed.gz", "mean_score", lambda kmer: "CCC" in kmer or "GGG" in kmer),
    ],
)
def test_leading_kmers(shared, tmp_path, model, labels, rank, expected):
    windows(shared, labels).to_parquet(tmp_path / "in.parquet", index=False)
    runner = CliRunner()
    asked = ["explain", model, str(tmp_path / "in.parquet"), "--target", "tp", "--steps", "8", "-o", str(tmp_path / "why")]
    assert runner.invoke(app, asked, catch_exceptions=False).exit_code == 0
    asked = ["kmers", str(tmp_path / "why"), "--restrict", "tp", "--merge-strands", "--min-count", "2", "-o", str(tmp_path / "k.tsv")]
    assert runner.invoke(app, asked, catch_exceptions=False).exit_code == 0
    kmers = pd.read_csv(tmp_path / "k.tsv", sep="\t").sort_values(rank, ascending=False, kind="stable", ignore_index=True)["kmer"]
    assert len(kmers) > 10
    assert expected(kmers[0])
    assert sum(map(expected, kmers.head(10))) >= 7
