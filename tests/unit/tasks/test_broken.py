"""Natural windows and their broken copies: where they come from, what is replaced, who is left out."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from basewise.cli.main import app
from basewise.datasets.folder import open_dataset
from basewise.errors import BasewiseError
from basewise.genome.alphabet import reverse_complement
from basewise.genome.fasta import open_genome
from basewise.tasks.broken import BrokenOptions, broken, build_broken


@pytest.fixture
def genome(tmp_path):
    """Four contigs of 2,000 bases, the second with a run of N, the third poor in GC."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACGT"), 2000, p=p)) for p in ([0.25] * 4, [0.25] * 4, [0.45, 0.05, 0.05, 0.45], [0.25] * 4)]
    texts[1] = texts[1][:500] + "N" * 900 + texts[1][1400:].lower()
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">c{i}\n{text}\n" for i, text in enumerate(texts)))
    with open_genome(path) as opened:
        yield opened


CHROMS = {"test_chroms": ("c1",), "val_chroms": ("c2",)}


def test_natural_windows_are_the_genomes_and_copies_differ_by_whole_blocks(genome):
    examples, manifest = build_broken(genome, BrokenOptions(window=40, count=300, block=10, first=5, **CHROMS))
    assert len(examples) == 600
    assert manifest["val_chroms"] == ["c2"]
    assert examples["split"].equals(examples["chrom"].map({"c0": "train", "c1": "test", "c2": "val", "c3": "train"}))
    natural, copies = examples[examples["label"] == 1], examples[examples["label"] == 0]
    assert natural["group"].tolist() == copies["group"].tolist()
    assert set(natural["strand"]) == {"+", "-"}
    changed = np.zeros(5)
    for row, copy in zip(natural.itertuples(), copies["sequence"], strict=True):
        bases = bytes(genome.fetch(row.chrom, row.start, row.end)).decode().upper()
        assert row.sequence == (bases if row.strand == "+" else reverse_complement(bases))
        assert "N" not in row.sequence
        differ = np.array([a != b for a, b in zip(row.sequence, copy, strict=True)])
        changed += [differ[low:high].any() for low, high in ((0, 5), (5, 15), (15, 25), (25, 35), (35, 40))]
    assert (np.abs(changed / 300 - [0.6 * (1 - 0.25**n) for n in (5, 10, 10, 10, 5)]) < 0.1).all()


def test_replaced_blocks_are_uniform_and_one_is_always_replaced():
    windows = np.full((4000, 20), ord("A"), np.uint8)
    copies = broken(windows, BrokenOptions(window=20, block=10, first=10, replaced=1e-9), np.random.default_rng(0))
    halves = (copies != ord("A")).reshape(4000, 2, 10).any(axis=2)
    assert (halves.sum(axis=1) <= 1).all()  # a chance of nearly nothing, and yet one block
    assert abs(halves.mean() - 0.5 * (1 - 0.25**10)) < 0.03
    every = broken(windows, BrokenOptions(window=20, replaced=1), np.random.default_rng(0))
    share = np.bincount(every.ravel(), minlength=128)[list(b"ACGT")] / every.size
    assert np.abs(share - 0.25).max() < 0.01


def test_gc_stride_and_count_are_kept(genome):
    examples, _ = build_broken(genome, BrokenOptions(window=50, min_gc=0.5, stride=10, test_chroms=("c0",), val_chroms=("c1",)))
    natural = examples[examples["label"] == 1]
    assert (natural["start"] % 10 == 0).all()
    assert natural["sequence"].map(lambda text: (text.count("G") + text.count("C")) / 50 >= 0.5).all()
    assert "c2" not in set(natural["chrom"])
    assert not natural.duplicated(["chrom", "start"]).any()
    assert len(build_broken(genome, BrokenOptions(window=50, count=9, seed=3))[0]) == 18


def test_given_sequences_join_the_training_split(genome):
    given = ["ACGT" * 10, "ggcc" * 10]
    examples, _ = build_broken(genome, BrokenOptions(window=40, count=50, copies=3, **CHROMS), given)
    own = examples[(examples["chrom"] == ".") & (examples["label"] == 1)]
    assert own["sequence"].tolist() == ["ACGT" * 10] * 3 + ["GGCC" * 10] * 3
    assert set(own["split"]) == {"train"}
    assert examples.loc[(examples["chrom"] == ".") & (examples["label"] == 0), "sequence"].nunique() == 6


@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ({"window": 0}, [], "window is 0"),
        ({"replaced": 0}, [], "replaced 0"),
        ({"min_gc": 1.0}, [], "no window of 70 known bases"),
        ({"test_chroms": ("chr9",), "val_chroms": ("c1",)}, [], "'chr9' has no examples"),
        (CHROMS, ["ACGT"], r"sequence 1 has 4 letters .* expected 70"),
        (CHROMS, ["N" * 70], "expected 70 of A, C, G and T"),
    ],
)
def test_what_cannot_be_is_refused(genome, options, given, said):
    with pytest.raises(BasewiseError, match=said):
        build_broken(genome, BrokenOptions(**options), given)


def test_the_command_takes_training_sequences_of_label_1(genome, tmp_path):
    rows = {"sequence": ["A" * 40, "C" * 40, "G" * 40], "label": [1, 0, 1], "split": ["train", "train", "val"]}
    pd.DataFrame(rows).to_csv(tmp_path / "own.csv", index=False)
    command = ["build", "broken", "--genome", str(genome.path), "--window", "40", "--count", "60", "--sequences", str(tmp_path / "own.csv")]
    done = CliRunner().invoke(app, [*command, "--copies", "2", "--test-chroms", "c1", "--val-chroms", "c2", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    dataset = open_dataset(tmp_path / "out")
    assert dataset.manifest["inputs"]["sequences"] == {"path": "own.csv", "used": 1}
    assert (
        dataset.examples.loc[(dataset.examples["chrom"] == ".") & (dataset.examples["label"] == 1), "sequence"].tolist() == ["A" * 40] * 2
    )
