"""The page of a scan of every base: its numbers are those of the files, and torn folders are refused."""

import json
import re
import shutil

import numpy as np
import pytest

from basewise.backbones.classifier import save_classifier
from basewise.cli.report import report
from basewise.errors import BasewiseError
from basewise.genome.fasta import open_genome
from basewise.inference import engine
from basewise.inference.scan import ScanOptions, scan
from basewise.report.base_figures import FLANK, K, word_counts
from basewise.report.base_summary import read_base_summary, read_intervals
from basewise.report.scan import write_scan_report
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.models import tiny_classifier


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    write_fasta(folder / "g.fa", random_genome(3, {"chr1": 9000, "chr2": 1500, "n": 0}, n_runs=2))
    save_classifier(tiny_classifier(kind="base", task="zdna", window=31, threshold=0.6, labels=("other", "Z<DNA")), folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "CHUNK", 512)
        for name, settings in {"out": {}, "each": {"strands": "each"}, "none": {"threshold": 1.0}}.items():
            scan(ScanOptions(folder / "g.fa", folder / name, str(folder / "model"), workers=1, **settings))
    return folder


def page_of(place, name, genome=True):
    return write_scan_report(place / name, place / "g.fa" if genome else None).read_text(encoding="utf-8")


def test_numbers_are_those_of_the_files(place):
    page, summary = page_of(place, "out"), read_base_summary(place / "out")
    intervals = read_intervals(place / "out", summary)
    assert f"{summary.totals.intervals:,} intervals of Z&lt;DNA in 10.5 kb of sequence" in page
    assert "Z<DNA" not in page
    data = [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)]
    best = intervals.loc[intervals["name"] == "interval_1"].iloc[0]
    assert data[-1]["rows"][0][:2] == [f"{best['chrom']}:{best['start'] + 1}-{best['end']}", best["end"] - best["start"]]
    assert len(data[-1]["rows"]) == len(intervals)
    contigs = data[0]["rows"]
    assert [row[0] for row in contigs] == ["chr1", "chr2"]  # not the empty one
    assert sum(row[3] for row in contigs) == summary.totals.called
    assert sum(row[1] for row in contigs) == 10_500
    assert "this page cannot say how often its calls are right" in page


def test_strands_and_emptiness_are_said(place):
    assert "each strand by itself" in page_of(place, "each")
    assert "plus.bw, minus.bw" in page_of(place, "each")
    assert "No run of 1 or more bases reaches the threshold of 1" in page_of(place, "none")
    assert "Words are left out" in page_of(place, "out", genome=False)


def test_words_are_counted_inside_and_beside(place):
    intervals = read_intervals(place / "out", read_base_summary(place / "out"))
    some = intervals.iloc[[0, len(intervals) // 2, len(intervals) - 1]]
    inside, beside = word_counts(some, place / "g.fa")

    def plain(text):
        text, counts = text.upper(), {}
        for i in range(len(text) - K + 1):
            word = text[i : i + K]
            if set(word) <= set("ACGT"):
                turned = word[::-1].translate(str.maketrans("ACGT", "TGCA"))
                counts[min(word, turned)] = counts.get(min(word, turned), 0) + 1
        return counts

    expected = [{}, {}]
    with open_genome(place / "g.fa") as genome:
        for row in some.itertuples():
            text = genome.window(row.chrom, row.start - FLANK, row.end + FLANK).tobytes().decode()
            for where, pieces in enumerate(((text[FLANK:-FLANK],), (text[:FLANK], text[-FLANK:]))):
                for piece in pieces:
                    for word, n in plain(piece).items():
                        expected[where][word] = expected[where].get(word, 0) + n
    for counts, wanted in zip((inside, beside), expected, strict=True):
        found = {"".join("ACGT"[n // 4 ** (K - 1 - i) % 4] for i in range(K)): int(counts[n]) for n in np.flatnonzero(counts)}
        assert found == wanted
    assert sum(expected[1].values()) > 1000


def test_report_verb_reads_it_beside_others(place, tmp_path):
    report([place / "out", place / "each"], tmp_path / "page.html", place / "g.fa", None)
    assert (tmp_path / "page.html").read_text().count("Genome scan for Z&lt;DNA") == 2


def test_torn_folders_are_refused(place, tmp_path):
    shutil.copytree(place / "out", tmp_path / "torn")
    shutil.copy(place / "none" / "intervals.bed.gz", tmp_path / "torn")
    with pytest.raises(BasewiseError, match=r"holds 0 intervals, summary.json counts [\d,]+: they come from different scans"):
        write_scan_report(tmp_path / "torn", None)
    (tmp_path / "torn" / "intervals.bed.gz").unlink()
    with pytest.raises(BasewiseError, match="does not exist"):
        write_scan_report(tmp_path / "torn", None)
    summary = json.loads((place / "out" / "summary.json").read_text())
    del summary["reading"]
    (tmp_path / "torn" / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(BasewiseError, match="reading: missing"):
        write_scan_report(tmp_path / "torn", None)
