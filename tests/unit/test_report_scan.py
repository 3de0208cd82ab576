"""The page of a scan: its numbers are those of the files, sequence is read on the right strand, and torn folders are refused."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from basewise.errors import BasewiseError
from basewise.genome.alphabet import codes, reverse_complement
from basewise.genome.fasta import open_genome
from basewise.report import scan_figures
from basewise.report.scan import write_scan_report
from basewise.report.scan_figures import FLANK, base_counts
from basewise.report.scan_summary import read_sites, read_summary
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.scans import Gene, write_scan_folder

EVIL = "<script>x</script>"


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    return write_fasta(folder / "g.fa", random_genome(3, {"chr1": 30_000, "chr2": 9_000}, at=0.7, n_runs=2))


def page_of(out, genome, **options):
    path = write_scan_report(out, genome, **options)
    assert path == out / "report.html"
    return path.read_text(encoding="utf-8")


def test_numbers_are_those_of_the_files(genome, tmp_path):
    genes = [Gene("chr1", 100, 20_000, EVIL, "+"), Gene("chr2", 0, 9_000, "NA", "-")]
    sites = write_scan_folder(tmp_path, genome, genes, threshold=0.3)
    page, summary = page_of(tmp_path, genome), read_summary(tmp_path)
    assert 10 < len(sites) < summary.totals.candidates
    assert f"{summary.totals.sites:,} sites among {summary.totals.candidates:,} candidates in 39 kb" in page
    assert EVIL not in page
    data = [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)]
    rows = next(table["rows"] for table in data if len(table["columns"]) == 10)
    best = sites.sort_values("probability", ascending=False, kind="stable")
    assert [row[0] for row in rows] == [f"{c}:{e}" for c, e in zip(best["chrom"], best["end"], strict=True)]
    assert [row[2] for row in rows] == best["probability"].tolist()
    assert {row[3] for row in rows} == {EVIL, "NA", None}  # a gene called NA is no missing value
    contigs = next(table["rows"] for table in data if len(table["columns"]) == 7)
    assert [row[:4] for row in contigs] == [
        [name, length, *(sum(getattr(c, key) for c in summary.contigs if c.chrom == name) for key in ("candidates", "sites"))]
        for name, length in (("chr1", 30_000), ("chr2", 9_000))
    ]
    assert sum(row[6] for row in contigs) == int((sites["region"] == "genic").sum())


def test_sites_are_read_back(genome, tmp_path):
    written = write_scan_folder(tmp_path, genome, [Gene("chr1", 0, 30_000, "A#B", "+")], threshold=0.3)
    pd.testing.assert_frame_equal(read_sites(tmp_path), written, check_dtype=False)


def test_sequence_is_read_on_the_strand_of_the_site(genome, tmp_path):
    write_scan_folder(tmp_path, genome, threshold=0.3)
    sites = read_sites(tmp_path)
    counts = base_counts(sites, genome)
    assert set(sites["strand"]) == {"+", "-"}
    assert counts[FLANK].tolist() == [len(sites), 0, 0, 0]  # the rule: A at the cleavage base ...
    assert counts[FLANK - 1, [0, 3]].tolist() == [0, 0]  # ... after C or G
    expected = np.zeros((101, 5), int)
    with open_genome(genome) as opened:
        for site in sites.itertuples():
            bases = opened.fetch(site.chrom, site.start - 50, site.start + 51)
            expected[np.arange(101), codes(bases if site.strand == "+" else reverse_complement(bases))] += 1
    np.testing.assert_array_equal(counts, expected[:, :4])


def test_beyond_the_edge_nothing_is_counted(tmp_path):
    genome = write_fasta(tmp_path / "g.fa", {"c": "ACGTA"})
    sites = pd.DataFrame({"chrom": ["c", "c"], "start": [0, 4], "strand": ["+", "-"]})
    counts = base_counts(sites, genome)
    assert counts.sum() == 10
    assert counts[FLANK].tolist() == [1, 0, 0, 1]
    with pytest.raises(BasewiseError, match="expected \\+ or -"):
        base_counts(sites.assign(strand="."), genome)


def test_many_sites_are_sampled_and_the_page_says_so(genome, tmp_path, monkeypatch):
    monkeypatch.setattr(scan_figures, "LOGO_SITES", 7)
    sites = write_scan_folder(tmp_path, genome, threshold=0.3)
    page = page_of(tmp_path, genome)
    assert f"7 of {len(sites):,} sites, drawn at random" in page
    assert page_of(tmp_path, genome).split("<main")[1].split('id="origin"')[0] == page.split("<main")[1].split('id="origin"')[0]


def test_many_contigs_are_added_up_in_the_figure(genome, tmp_path, monkeypatch):
    monkeypatch.setattr(scan_figures, "MOST_CONTIGS", 1)
    write_scan_folder(tmp_path, genome, threshold=0.3)
    summary = read_summary(tmp_path)
    others = sum(c.candidates for c in summary.contigs if c.chrom == "chr2")
    assert f"1 others: {others:,} candidates" in page_of(tmp_path, genome)


def test_without_genome_the_page_says_so(genome, tmp_path):
    write_scan_folder(tmp_path, genome, threshold=0.3)
    page = page_of(tmp_path, None)
    assert "the genome was not at hand" in page
    assert "Sequence logo" not in page


def test_no_site(genome, tmp_path):
    sites = write_scan_folder(tmp_path, genome, threshold=1.0)
    assert len(sites) == 0
    page = page_of(tmp_path, genome)
    assert "No candidate reaches the threshold of 1" in page
    assert "Probabilities of all candidates" in page
    assert 'id="sites"' not in page


def test_no_candidate(tmp_path):
    genome = write_fasta(tmp_path / "g.fa", {"c": "ACGT" * 10, "empty": ""})
    write_scan_folder(tmp_path / "out", genome, [])
    page = page_of(tmp_path / "out", genome)
    assert "No base fulfils the rule" in page
    assert "<figure" not in page


def test_an_empty_sites_file_without_header(genome, tmp_path):
    import gzip

    write_scan_folder(tmp_path, genome, threshold=1.0)
    with gzip.open(tmp_path / "sites.bed.gz", "wb"):
        pass
    assert len(read_sites(tmp_path)) == 0


def change(path, edit):
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


TORN = {
    "no summary": (lambda out: (out / "summary.json").unlink(), "summary.json does not exist"),
    "missing keys": (
        lambda out: change(out / "summary.json", lambda v: (v["totals"].pop("sites"), v.pop("gap"))),
        "gap: missing; totals.sites: missing|totals.sites: missing; .*gap: missing",
    ),
    "wrong type": (lambda out: change(out / "summary.json", lambda v: v.update(threshold="high")), "threshold: got 'high'"),
    "other counts": (lambda out: change(out / "summary.json", lambda v: v["totals"].update(sites=1)), "but summary.json counts 1"),
    "other candidates": (lambda out: change(out / "summary.json", lambda v: v["totals"].update(candidates=1)), "candidates.parquet has"),
    "no sites": (lambda out: (out / "sites.bed.gz").unlink(), "sites.bed.gz does not exist"),
    "sites are no gzip": (lambda out: (out / "sites.bed.gz").write_bytes(b"chr1\t1"), "cannot be read"),
    "no candidates": (lambda out: (out / "candidates.parquet").unlink(), "candidates.parquet does not exist"),
    "candidates are no parquet": (lambda out: (out / "candidates.parquet").write_bytes(b"PAR1"), "candidates.parquet cannot be read"),
}


@pytest.mark.parametrize(("tear", "message"), TORN.values(), ids=TORN.keys())
def test_a_torn_folder_is_refused_in_one_line(genome, tmp_path, tear, message):
    write_scan_folder(tmp_path, genome, threshold=0.3)
    tear(tmp_path)
    with pytest.raises(BasewiseError, match=message) as caught:
        write_scan_report(tmp_path, genome)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()
    assert not list(tmp_path.glob(".partial-*"))


def test_a_genome_without_the_contigs_is_refused(genome, tmp_path):
    write_scan_folder(tmp_path / "out", genome, threshold=0.3)
    with pytest.raises(BasewiseError, match="chr1"):
        write_scan_report(tmp_path / "out", write_fasta(tmp_path / "other.fa", {"1": "ACGT" * 30, "2": "ACGT"}))


def test_held_out_results_are_shown_only_for_the_same_weights(genome, tmp_path):
    from basewise.files import sha256_of

    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    metric = {"value": 0.25, "low": 0.2, "high": 0.3}
    test = {"n": 9000, "n_positive": 45, "prevalence": 0.005, "threshold": 0.4, "metrics": {"precision": metric, "recall": {"value": 0.61}}}
    results = {"recipe": "r", "kind": "sequence", "parameters": 1, "steps": 1, "stopped_early": False, "threshold": 0.4}
    results |= {"best": {"step": 1, "metric": "auprc", "value": None}, "splits": {"test": test}}
    (model / "results.json").write_text(json.dumps(results))
    write_scan_folder(tmp_path / "out", genome, threshold=0.3)
    change(tmp_path / "out" / "summary.json", lambda v: v["model"].update(sha256=sha256_of(model / "model.safetensors")))
    page = page_of(tmp_path / "out", None, model_folder=model)
    assert "(9,000 examples, 45 of them positive (0.5 %))" in page
    assert "25 % of its calls were annotated sites, and it found 61 % of the sites" in page
    assert "No held-out results" not in page
    (model / "model.safetensors").write_bytes(b"other weights")
    assert "No held-out results" in page_of(tmp_path / "out", None, model_folder=model)
    with pytest.raises(BasewiseError, match=r"holds no model.safetensors"):
        write_scan_report(tmp_path / "out", genome, model_folder=tmp_path / "out")
