"""From variants to a curve, on a cohort with a planted Y-like contig; the numbers in the files are what is checked."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from basewise.backbones.classifier import load_classifier
from basewise.cli.main import app
from basewise.datasets.cohort import open_cohort
from basewise.errors import BasewiseError
from basewise.recipes.schema import Recipe, apply_overrides, recipe_from
from basewise.training.individuals import train_individuals


@pytest.fixture
def cli():
    """Run the command line in this process; what `basewise` of conftest does, without importing torch anew every time."""

    def run(*args: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, list(map(str, args)))
        assert (1 if done.exception else 0) == code, f"{done.output}\n{done.exception!r}"
        return str(done.exception) if code else done.output

    return run


def _recipe(**chunks) -> Recipe:
    return recipe_from(
        {
            "name": "planted",
            "head": {"kind": "individual", "labels": ["male", "female"]},
            "backbone": {"name": "convnet", "config": {"width": 16, "stem_kernel": 9, "blocks": [{"kernel": 3, "dilation": 2}]}},
            "chunks": {"count": 8, "length": 120, "pool": 400, "validation_groups": 24, "force": ["chrY"], **chunks},
            "train": {
                "steps": 200,
                "batch_size": 64,
                "lr": 1e-2,
                "scheduler": "constant_with_warmup",
                "warmup": 0.05,
                "validate_every": 50,
                "freeze_backbone": True,
                "weight_decay": 0.0,
            },
            "evaluate": {"bootstrap": 0, "calibrate": "none"},
        },
        "test",
    )


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A cohort, and a run on it: the head on a frozen, random backbone."""
    from basewise.testing.cohorts import planted_cohort

    folder = tmp_path_factory.mktemp("planted")
    cohort = planted_cohort(folder, share=0.1, autosome=8000, people=32, variants=20)
    results = train_individuals(_recipe(), cohort, folder / "run")
    return folder, cohort, results


def test_the_planted_signal_is_learned(learned):
    folder, _, results = learned
    depth = pd.DataFrame(results["individuals"])
    everyone = depth[depth["species"] == "all"].set_index("K")
    assert everyone.loc[300, "mean"] >= 0.98
    assert everyone.loc[10, "mean"] < everyone.loc[300, "mean"]
    assert (everyone["mean"] <= everyone["oracle"] + 0.02).all()
    assert results["splits"]["test"]["metrics"]["auroc"]["value"] > 0.6  # single groups: most males' hold a Y chunk, not all
    assert (folder / "run" / "run.json").is_file()
    assert load_classifier(folder / "run").config.kind == "individual"


def test_predict_curve_and_evidence(learned, cli, tmp_path):
    folder, cohort, _ = learned
    run, data = folder / "run", cohort.path
    done = cli("trait", "predict", run, data, "--chunks", 60, "-o", tmp_path / "p.tsv", "--split", "test")
    table = pd.read_csv(tmp_path / "p.tsv", sep="\t")
    assert table.columns.tolist() == ["sample", "probability", "ratio", "label", "K"]
    truth = cohort.samples.set_index("sample")["sex"]
    assert (truth[table["sample"]].to_numpy() == table["label"].to_numpy()).mean() >= 0.9
    assert len(table) == 8
    assert (table["K"] == 60).all()
    assert "threshold on the ratio" in done
    assert "exists" in cli("trait", "predict", run, data, "-o", tmp_path / "p.tsv", code=1)

    cli("trait", "curve", run, data, "--K", "3,200", "--repeats", 50, "--groups", 500, "--drop-contigs", "Y,X", "-o", tmp_path / "c")
    curve = pd.read_csv(tmp_path / "c" / "curve.tsv", sep="\t").query("species == 'all'").set_index(["genome", "K"])
    assert curve.loc[("whole genome", 200), "mean"] >= 0.95
    assert curve.loc[("without X", 200), "mean"] >= 0.95
    assert curve.loc[("without Y", 200), "oracle"] == 0.5
    assert 0.2 <= curve.loc[("without Y", 200), "mean"] <= 0.8
    assert curve.loc[("whole genome", 200), "oracle"] > curve.loc[("whole genome", 3), "oracle"] > 0.9
    page = (tmp_path / "c" / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace("http://creativecommons.org", "")

    cli("trait", "evidence", run, data, "--groups", 500, "-o", tmp_path / "e")
    contigs = pd.read_csv(tmp_path / "e" / "contigs.tsv", sep="\t")
    males = contigs[contigs["label"] == "male"]
    assert males["contig"].iloc[0] == "chrY"
    assert males["enrichment"].iloc[0] > 2
    assert males["effect"].iloc[0] < 0  # towards labels[0]
    bed = pd.read_csv(tmp_path / "e" / "top.bed", sep="\t", header=None)
    assert (bed[2] - bed[1] == 120).all()
    assert json.loads((tmp_path / "e" / "run.json").read_text())["model_sha256"]
    error = cli("trait", "curve", run, data, "--drop-contigs", "chrQ", "-o", tmp_path / "d", code=1)
    assert error.startswith("--drop-contigs 'chrQ' matches no contig")
    assert "\n" not in error


def test_individuals_of_unknown_trait_are_predicted(learned, cli, tmp_path):
    folder, cohort, _ = learned
    table = pd.read_csv(folder / "samples.tsv", sep="\t", dtype=str).assign(trait=lambda t: t["sex"])
    table.loc[table["split"] == "test", ["trait", "split"]] = ["", ""]
    table.to_csv(tmp_path / "some.tsv", sep="\t", index=False)
    inputs = ["--genome", folder / "genome.fa", "--vcf", folder / "variants.vcf", "--samples", tmp_path / "some.tsv", "--trait", "trait"]
    assert "has no known trait" in cli("individuals", "vcf", *inputs, "-o", tmp_path / "c", code=1)
    made = cli("individuals", "vcf", *inputs, "--labels", "male,female", "--keep-unknown", "-o", tmp_path / "c")
    assert "no split    8 individuals: 0 male, 0 female, 8 not known" in made
    cli("trait", "predict", folder / "run", tmp_path / "c", "--chunks", 60, "-o", tmp_path / "p.tsv")
    predicted = pd.read_csv(tmp_path / "p.tsv", sep="\t").set_index("sample")["label"]
    new = cohort.samples.loc[cohort.samples["split"] == "test"].set_index("sample")["sex"]
    assert (predicted[new.index] == new).mean() >= 0.9
    table["trait"] = ""
    table.to_csv(tmp_path / "none.tsv", sep="\t", index=False)
    inputs[5] = tmp_path / "none.tsv"
    cli("individuals", "vcf", *inputs, "--labels", "male,female", "--keep-unknown", "-o", tmp_path / "d")
    assert (open_cohort(tmp_path / "d").samples["label"] == -1).all()
    cli("trait", "predict", folder / "run", tmp_path / "d", "--chunks", 5, "--threshold", 0.8, "-o", tmp_path / "q.tsv")
    assert "has none; give --threshold" in cli(
        "trait", "predict", folder / "run", tmp_path / "d", "--chunks", 5, "-o", tmp_path / "r.tsv", code=1
    )


def test_shuffled_labels_give_chance(tmp_path, planted):
    cohort = planted(people=32, shuffle=True)
    recipe = apply_overrides(_recipe(), ['head.labels=["black", "white"]', "train.steps=100"])
    results = train_individuals(recipe, cohort, tmp_path / "run")
    assert 0.25 <= results["splits"]["test"]["metrics"]["auroc"]["value"] <= 0.75


def test_the_backbone_is_trained_too_and_resumes_to_the_same_weights(tmp_path, planted):
    cohort = planted(people=8, share=0.3)
    changes = ["train.freeze_backbone=false", "train.steps=8", "train.validate_every=4", "train.batch_size=4", "chunks.pool=40"]
    recipe = apply_overrides(_recipe(validation_groups=4), changes)
    whole = train_individuals(recipe, cohort, tmp_path / "whole")
    before = load_classifier(tmp_path / "whole")

    class Killed(Exception):  # noqa: N818
        pass

    def kill(event) -> None:
        if event.step > 4:
            raise Killed

    with pytest.raises(Killed):
        train_individuals(recipe, cohort, tmp_path / "killed", progress=kill)
    again = train_individuals(recipe, open_cohort(cohort.path), tmp_path / "killed", resume=True)
    assert again["best"] == whole["best"]
    after = load_classifier(tmp_path / "killed")
    for (name, one), two in zip(before.state_dict().items(), after.state_dict().values(), strict=True):
        assert np.array_equal(one.numpy(), two.numpy()), name


def test_train_refuses_what_cannot_be(tmp_path, planted, cli):
    cohort = planted(people=8)
    with pytest.raises(BasewiseError, match="has labels male, female, the recipe black, white"):
        train_individuals(apply_overrides(_recipe(), ['head.labels=["black", "white"]']), cohort, tmp_path / "r")
    cohort.samples["split"] = ["train", "val"] * 4  # males train, females validate
    with pytest.raises(BasewiseError, match=r"split 'train' .* holds one class only"):
        train_individuals(_recipe(), cohort, tmp_path / "r")
    error = cli("train", "--data", cohort.path, "--backbone", "convnt", "-o", tmp_path / "x", code=1)
    assert "\n" not in error
    assert "Did you mean 'convnet'" in error


def test_individuals_vcf_on_the_command_line(tmp_path, planted, cli):
    folder = planted(people=8).path.parent
    arguments = ["--genome", folder / "genome.fa", "--vcf", folder / "variants.vcf", "--samples", folder / "samples.tsv"]
    done = cli("individuals", "vcf", *arguments, "-o", tmp_path / "c", "--fasta")
    assert "train       4 individuals: 2 male, 2 female" in done
    made, known = open_cohort(tmp_path / "c"), open_cohort(folder / "COHORT")
    assert made.manifest["inputs"]["genome"]["sha256"]
    for row in (0, 1):
        a, b = made.genome(row), known.genome(row)
        assert a.lengths.tolist() == b.lengths.tolist()
        text = (tmp_path / "c" / "fasta" / f"S0{row}.fa").read_text().split(">")[1:]
        assert ["".join(part.splitlines()[1:]) for part in text] == [a.read(i, 0, 10**6).tobytes().decode() for i in range(len(a.copies))]
    assert "exists and is not empty" in cli("individuals", "vcf", *arguments, "-o", tmp_path / "c", code=1)
    whole = open_cohort(tmp_path / "c").contigs
    cli("individuals", "vcf", *arguments, "-o", tmp_path / "c", "--contigs", "chr1,chrY", "--force")
    assert open_cohort(tmp_path / "c").contigs == ["chr1", "chrY"] != whole


def test_a_trait_of_three_values(tmp_path, planted, cli):
    """Whatever column of the samples table: three colours, class weights, every verb."""
    folder = planted(people=32, share=0.3).path.parent
    table = pd.read_csv(folder / "samples.tsv", sep="\t", dtype=str)
    table["coat"] = ["black" if sex == "male" else ("white", "brown")[i // 16] for i, sex in enumerate(table["sex"])]
    table.to_csv(folder / "coats.tsv", sep="\t", index=False)
    inputs = ["--genome", folder / "genome.fa", "--vcf", folder / "variants.vcf", "--samples", folder / "coats.tsv", "--trait", "coat"]
    cli("individuals", "vcf", *inputs, "-o", tmp_path / "c")
    assert open_cohort(tmp_path / "c").labels == ("black", "brown", "white")
    settings = ['head.labels=["black", "brown", "white"]', 'train.loss="weighted_ce"', "train.class_weights=[1.0, 2.0, 2.0]"]
    recipe = apply_overrides(_recipe(), [*settings, "train.steps=100", "train.metric=accuracy"])
    train_individuals(recipe, open_cohort(tmp_path / "c"), tmp_path / "run")
    cli("trait", "curve", tmp_path / "run", tmp_path / "c", "--K", "5,50", "--groups", 200, "-o", tmp_path / "k")
    curve = pd.read_csv(tmp_path / "k" / "curve.tsv", sep="\t").query("species == 'all'").set_index("K")
    assert curve.loc[50, "mean"] >= 0.5  # males are black; which female is brown, nothing tells
    confusion = pd.read_csv(tmp_path / "k" / "confusion.tsv", sep="\t").query("species == 'all' and K == 50")
    cells = confusion.set_index(["truth", "called"])["individuals"]
    assert cells["black", "black"] == pytest.approx(cells["black"].sum())
    cli("trait", "predict", tmp_path / "run", tmp_path / "c", "--chunks", 20, "--split", "test", "-o", tmp_path / "p.tsv")
    predicted = pd.read_csv(tmp_path / "p.tsv", sep="\t").set_index("sample")
    assert set(predicted["label"]) <= {"black", "brown", "white"}
    cli("trait", "evidence", tmp_path / "run", tmp_path / "c", "--groups", 100, "-o", tmp_path / "e")
    assert set(pd.read_csv(tmp_path / "e" / "contigs.tsv", sep="\t")["label"]) == {"black", "brown", "white"}
    cli("report", tmp_path / "k", tmp_path / "e", tmp_path / "run", "-o", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert all(title in page for title in ("Accuracy against depth", "Which chunks decided"))


@pytest.mark.data
def test_the_real_cohort(tmp_path, shared, basewise):
    data = shared / "data"
    x, y = "chrX_150000001_155270560", "chrY_50000001_59373566"
    arguments = ["--genome", data / "genome" / "hg19_pieces.fa.gz", "--vcf", data / "variants" / "1000g_26samples_chrX.phased.vcf.gz"]
    arguments += ["--samples", data / "variants" / "samples.tsv", "--x", x, "--y", y, "--haploid", "chrM_1_16571", "-o", tmp_path / "c"]
    assert "'HG00104' has no known sex" in basewise("individuals", "vcf", *arguments, code=1).stderr
    error = basewise("individuals", "vcf", *arguments, "--skip-unknown", code=1).stderr
    assert "is male but has two different alleles" in error
    par = ["--par", f"{x}:4931044-5260560", "--par", f"{y}:9034050-9363566"]
    done = basewise("individuals", "vcf", *arguments, "--skip-unknown", *par)
    assert "left out 1: sex not known" in done.stdout
    cohort = open_cohort(tmp_path / "c")
    assert len(cohort.samples) == 25
    for row, sex in enumerate(cohort.samples["sex"]):
        genome = cohort.genome(row)
        held = dict(zip(*np.unique(genome.contigs.astype(str), return_counts=True), strict=True))
        assert held[x] == 2
        assert held.get(y, 0) == (2 if sex == "male" else 0)  # before and behind its PAR
        assert held["chrM_1_16571"] == 1
