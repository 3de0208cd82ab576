"""What cohorts, runs and tables may not be: every one a single line that says what to do, and nothing half-written."""

import gzip

import pandas as pd
import pytest
from typer.testing import CliRunner

from basewise.cli.main import app
from basewise.recipes.schema import apply_overrides, load_recipe
from basewise.testing.datasets import planted_dataset
from basewise.training.individuals import train_individuals

SMALL = [
    "backbone.config.width=4",
    "chunks.length=40",
    "chunks.count=2",
    "chunks.pool=8",
    "chunks.validation_groups=2",
    "train.steps=1",
    "train.batch_size=2",
    "evaluate.bootstrap=0",
]


@pytest.fixture
def refused():
    """Run the command line, expect exit 1, and return its one line."""

    def run(*args: object) -> str:
        done = CliRunner().invoke(app, list(map(str, args)))
        assert done.exit_code == 1, done.output
        line = str(done.exception)
        assert "\n" not in line
        assert type(done.exception).__name__ == "BasewiseError"
        return line

    return run


@pytest.fixture
def made(tmp_path, planted):
    """A cohort and the arguments of `individuals vcf` that make it."""
    cohort = planted(people=8)
    folder = cohort.path.parent

    def arguments(vcf="variants.vcf", samples="samples.tsv"):
        return ["individuals", "vcf", "--genome", folder / "genome.fa", "--vcf", folder / vcf, "--samples", folder / samples, "-o"]

    return cohort, folder, arguments


def test_a_reference_that_differs(made, refused, tmp_path):
    _, folder, arguments = made
    lines = (folder / "variants.vcf").read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    fields = lines[first].split("\t")
    fields[3] = next(b for b in "ACGT" if b not in fields[3:5])
    lines[first] = "\t".join(fields)
    (folder / "other.vcf").write_text("".join(lines))
    line = refused(*arguments(vcf="other.vcf"), tmp_path / "o")
    assert f"chr1:{fields[1]}: REF is '{fields[3]}', but the genome has" in line
    assert "another assembly" in line
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace({"S03": "S99"}), "sample 'S99' is not in the VCF; correct the table"),
        (lambda t: t.assign(sex=["", *t["sex"][1:]]), "sample 'S00' has no known sex"),
        (lambda t: t.assign(sex="female"), "holds one class only (sex = female)"),
        (lambda t: t.iloc[:0], "lists no samples"),
        (lambda t: t.drop(columns="sex"), "has no column 'sex'"),
    ],
)
def test_samples_that_do_not_fit(made, refused, tmp_path, change, said):
    _, folder, arguments = made
    change(pd.read_csv(folder / "samples.tsv", sep="\t", dtype=str)).to_csv(folder / "changed.tsv", sep="\t", index=False)
    assert said in refused(*arguments(samples="changed.tsv"), tmp_path / "o")
    assert not (tmp_path / "o").exists()
    assert "absent.tsv does not exist" in refused(*arguments(samples="absent.tsv"), tmp_path / "o")


def test_a_split_of_one_class_and_contigs_that_match_nothing(made, refused, tmp_path):
    cohort, folder, arguments = made
    table = pd.read_csv(folder / "samples.tsv", sep="\t", dtype=str)
    table["split"] = ["train" if sex == "male" else "val" for sex in table["sex"]]
    table.to_csv(folder / "apart.tsv", sep="\t", index=False)
    done = CliRunner().invoke(app, list(map(str, [*arguments(samples="apart.tsv"), tmp_path / "apart"])))
    assert done.exit_code == 0
    line = refused("train", "gena_lm_sex/small", "--data", tmp_path / "apart", "-o", tmp_path / "r")
    assert "split 'train' of" in line
    assert "one class only (male)" in line
    for key in ("force", "drop"):
        setting = f'chunks.{key}=["chrQ"]'
        line = refused("train", "gena_lm_sex/small", "--data", cohort.path, "-o", tmp_path / "r", "--set", setting)
        assert line.startswith(f"chunks.{key} 'chrQ' matches no contig; there are chr1, chr2, chrX, chrY. Did you mean 'chr")
    assert not (tmp_path / "r").exists()
    assert "--contigs names contig 'chrQ'" in refused(*arguments(), tmp_path / "o", "--contigs", "chrQ")


@pytest.mark.parametrize("name", ["reads.fq", "reads.fq.gz"])
def test_a_truncated_fastq(refused, tmp_path, name):
    text = b"@r1\nACGT\n+\nIIII\n@r2\nACGTA\n+\nII"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    (tmp_path / "ok.fq").write_bytes(b"@r1\nACGT\n+\nIIII\n")
    (tmp_path / "s.tsv").write_text(f"sample\tcoat\tfastq\na\tw\tok.fq\nb\tk\t{name}\n")
    arguments = ["individuals", "fastq", "--samples", tmp_path / "s.tsv", "--trait", "coat", "-o", tmp_path / "o"]
    assert f"{name}, read 2: 5 bases but 2 qualities; the record is truncated" in refused(*arguments)
    if name.endswith("gz"):
        (tmp_path / name).write_bytes(gzip.compress(text)[:-6])
        assert f"{name} is truncated gzip" in refused(*arguments)
    assert not (tmp_path / "o").exists()


def test_cohorts_and_their_runs_where_sequences_are_expected(made, refused, tmp_path):
    cohort, folder, _ = made
    run = tmp_path / "run"
    train_individuals(apply_overrides(load_recipe("gena_lm_sex/small"), SMALL), cohort, run)
    dataset = planted_dataset(tmp_path / "d", n=40)
    (tmp_path / "s.fa").write_text(">a\nACGTACGTTTAGC\n")
    for question in (
        ("evaluate", "polya", "--data", cohort.path),
        ("predict", "polya", cohort.path, "-o", tmp_path / "o.tsv"),
        ("explain", "polya", cohort.path, "-o", tmp_path / "e"),
        ("leakage", cohort.path),
    ):
        line = refused(*question)
        assert "is a cohort of individuals, expected a" in line
        assert f"`basewise trait predict RUN {cohort.path}`" in line
    for question in (
        ("evaluate", run, "--data", dataset),
        ("predict", run, tmp_path / "s.fa", "-o", tmp_path / "o.tsv"),
        ("perturb", run, tmp_path / "s.fa", "-o", tmp_path / "p", "--motifs", "ACG"),
        ("scan", folder / "genome.fa", "-m", run, "-o", tmp_path / "scan"),
    ):
        line = refused(*question)
        assert "this model (sex) answers about individuals" in line
        assert "`basewise trait predict RUN COHORT`" in line
    line = refused("trait", "predict", "polya", cohort.path, "-o", tmp_path / "t.tsv")
    assert "polya is no run folder (no recipe.toml in it)" in line
    assert "holds no cohort.json" in refused("trait", "predict", run, dataset, "-o", tmp_path / "t.tsv")
