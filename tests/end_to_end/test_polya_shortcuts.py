"""What single rules reach on the variants, on real data: the reason why there are variants (docs/tasks/polya.md)."""

import numpy as np
import pytest

from basewise.genome.annotation import read_genes, read_sites
from basewise.genome.fasta import open_genome
from basewise.genome.intervals import nearest
from basewise.tasks.pas_rule import iter_candidates
from basewise.tasks.polya import build_polya

pytestmark = [pytest.mark.data, pytest.mark.slow]
TEST, VAL = ("chr19_50000001_59128983",), ("chr7_150000001_159138663",)


@pytest.fixture(scope="module")
def inputs(shared):
    with open_genome(shared / "data/genome/hg19_pieces.fa.gz") as genome:
        yield genome, read_sites(shared / "data/labels/polya_db3_sites.bed.gz"), read_genes(shared / "data/labels/gencode_v19_genes.bed.gz")


def shortcuts(examples):
    site = examples["label"] == 1
    canonical = examples["sequence"].str.slice(15, 46).str.contains("AATAAA|ATTAAA")  # starts 10-35 before index 50
    next_is_a = examples["sequence"].str[51] == "A"
    center_is_a = examples["sequence"].str[50] == "A"
    return {
        "no canonical hexamer = site": float((site == ~canonical).mean()),
        "next base is not A = site": float((site == ~next_is_a).mean()),
        "base 51 is A = site": float((site == center_is_a).mean()),
    }


@pytest.mark.parametrize("negatives", ["gene", "intergene"])
def test_published_has_shortcuts_that_the_variants_lose(inputs, negatives):
    measured = {}
    for variant in ("published", "clean", "matched"):
        examples, manifest = build_polya(*inputs, negatives, variant, test_chroms=TEST, val_chroms=VAL)
        measured[variant] = shortcuts(examples)
        assert manifest["dropped"].get("site: next base is A", 0) == 0  # PolyA_DB never places a site before an A
    assert measured["published"]["no canonical hexamer = site"] == pytest.approx(0.79, abs=0.02)
    assert measured["published"]["next base is not A = site"] > 0.62
    for variant in ("clean", "matched"):
        assert measured[variant]["next base is not A = site"] == measured[variant]["base 51 is A = site"] == 0.5
    assert measured["matched"]["no canonical hexamer = site"] == 0.5


def test_scan_prevalence(inputs):
    genome = inputs[0]
    chroms = {"test_chroms": TEST, "val_chroms": VAL}
    windows, manifest = build_polya(*inputs, "scan", complete_eval=True, **chroms)
    base, base_manifest = build_polya(*inputs, "scan", level="base", window=4096, **chroms)
    for split in ("test", "val"):  # both levels hold every candidate of the evaluation chromosomes
        assert base_manifest["counts"][split] == manifest["counts"][split]
    assert base_manifest["counts"]["train"]["1"] == manifest["counts"]["train"]["1"]
    test = windows[windows["split"] == "test"]
    assert len(test) == pytest.approx(372_000, rel=0.01)
    assert (test["label"] == 1).mean() == pytest.approx(0.014, abs=0.001)
    (chrom,) = TEST
    found = sum(part.position.size for part in iter_candidates(genome, chrom))
    assert found - len(test) == pytest.approx(4_500, rel=0.2)  # 25-100 bases from a site
    assert len(base) < len(windows) / 20


def test_the_rules_recall_ceiling(inputs):
    """No model behind the rule can find more than the sites that have a candidate near them."""
    genome, sites, _ = inputs
    found = total = 0
    for chrom, mine in sites.drop_duplicates(["chrom", "start", "strand"]).groupby("chrom"):
        parts = list(iter_candidates(genome, chrom))
        for strand, sign in (("+", 1), ("-", -1)):
            candidates = np.concatenate([part.position[part.strand == sign] for part in parts])
            positions = mine.loc[mine["strand"] == strand, "start"].to_numpy(np.int64)
            found += int((nearest(positions, candidates)[1] <= 24).sum())
            total += positions.size
    assert found / total == pytest.approx(0.74, abs=0.01)
