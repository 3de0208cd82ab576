"""The embedded model `polya`: small, calibrated, offline, and right about real genes."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from basewise import zoo
from basewise.backbones.classifier import load_classifier
from basewise.datasets.folder import open_dataset
from basewise.evaluation.evaluate import evaluate_model
from basewise.genome.annotation import read_genes
from basewise.genome.fasta import open_genome
from basewise.inference.engine import score_positions
from basewise.inference.predict import predict_sequences
from basewise.tasks.pas_rule import find_candidates


def test_the_model_folder_is_whole_and_small() -> None:
    folder = zoo.folder("polya")
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.suffix == ".safetensors") < 4_000_000
    for name in ("config.json", "README.md", "recipe.toml", "results.json"):
        assert (folder / name).is_file(), name
    results = json.loads((folder / "results.json").read_text())
    classifier = load_classifier("polya")
    assert classifier.config.threshold == results["threshold"]
    assert classifier.config.calibration.model_dump() == results["calibration"]
    assert sum(p.numel() for p in classifier.parameters()) == results["parameters"]


def test_the_last_bases_of_genes_stand_out_on_the_example(repo) -> None:
    """GENCODE gene ends on a piece of chr22 that no training saw: candidates there score far above others of their strand."""
    classifier = load_classifier("polya")
    genes = read_genes(repo / "examples" / "chr22_20-21Mb.genes.bed")
    with open_genome(repo / "examples" / "chr22_20-21Mb.fa.gz") as genome:
        (chrom,) = genome.contigs
        bases = genome.fetch(chrom, 100_000, 400_000)
        found = find_candidates(bases)
        p = score_positions(classifier, lambda a, b: genome.window(chrom, a + 100_000, b + 100_000), found.position, found.strand)
    ends = np.where(genes["strand"] == "+", genes["end"] - 1, genes["start"]) - 100_000
    near = np.zeros(len(p), bool)
    for end, strand in zip(ends, genes["strand"], strict=True):
        near |= (np.abs(found.position - end) <= 24) & (found.strand == (1 if strand == "+" else -1))
    assert near.sum() >= 3
    assert np.median(p[near]) > np.quantile(p[~near], 0.9)
    assert 0 < p.mean() < 0.05  # calibrated for candidates, of which about one in 200 is a site


def test_a_short_sequence_is_answered_and_its_signal_matters() -> None:
    """101 bp without any context: breaking AATAAA of a textbook site (SV40 late) lowers the probability."""
    classifier = load_classifier("polya")
    site = "GTAACCATTATAAGCTGCAATAAACAAGTTAACAACAACAATTGCATTCATTTTATGTTTCAGGTTCAGGGGGAGGTGTGGGAGGTTTTTTAAAGCAAGTAA"
    broken = site.replace("AATAAA", "AGTCAC")
    p = predict_sequences(classifier, [site, broken])
    assert p[0] > p[1]


@pytest.mark.data
@pytest.mark.slow
def test_held_out_candidates_of_chr19_are_ranked_as_the_card_says(shared, basewise, tmp_path) -> None:
    data = shared / "data"
    piece = "chr19_50000001_59128983"
    with open_genome(data / "genome" / "hg19_pieces.fa.gz") as genome:
        sequence = genome.fetch(piece, 0, 1_500_000).tobytes().decode()
    fasta = tmp_path / "g.fa"
    fasta.write_text(f">{piece}\n{sequence}\n")
    for name in ("polya_db3_sites", "gencode_v19_genes"):
        table = pd.read_csv(data / "labels" / f"{name}.bed.gz", sep="\t", header=None)
        table = table[(table[0] == piece) & (table[2] <= 1_500_000)]
        table.to_csv(tmp_path / f"{name}.bed", sep="\t", header=False, index=False)
    dataset = tmp_path / "dataset"
    basewise(
        *("build", "polya", "--genome", fasta, "--sites", tmp_path / "polya_db3_sites.bed", "--genes", tmp_path / "gencode_v19_genes.bed"),
        *(
            "--negatives",
            "scan",
            "--level",
            "base",
            "--window",
            32768,
            "--flank",
            8192,
            "--split",
            "random",
            "--background",
            1000,
            "-o",
            dataset,
        ),
    )
    torch.set_num_threads(1)
    verdict = evaluate_model("polya", open_dataset(dataset), split="all", prevalence=0.005, bootstrap=0, batch_size=4)["overall"]
    assert verdict["metrics"]["auroc"]["value"] > 0.84
