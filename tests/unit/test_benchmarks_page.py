"""The benchmark runner: what it writes, what it keeps, what it refuses."""

import sys
from types import SimpleNamespace

import pytest

from basewise.errors import BasewiseError
from basewise.files import read_json, write_json
from benchmarks.__main__ import main, names


def test_results_are_written_and_older_ones_kept(tmp_path, monkeypatch, repo):
    assert "candidate_rule" in names()
    rows = [{"engine": "numba", "Mbp/s": 1234.5, "ratio": 12.345}, {"engine": "numpy", "Mbp/s": 100.0}]
    monkeypatch.setitem(sys.modules, "benchmarks.candidate_rule", SimpleNamespace(main=lambda: {"title": "The rule", "rows": rows}))
    write_json(tmp_path / "benchmarks.json", {"gone": {"title": "no longer there", "rows": []}})
    main(["candidate_rule"], tmp_path)
    stored = read_json(tmp_path / "benchmarks.json")
    assert set(stored) == {"candidate_rule"}
    assert stored["candidate_rule"]["rows"] == rows
    page = (tmp_path / "benchmarks.md").read_text()
    assert "## The rule" in page
    assert "| numba | 1,234 | 12.3 |" in page
    assert "| numpy | 100 |  |" in page


def test_unknown_benchmarks_are_refused(tmp_path):
    with pytest.raises(BasewiseError, match="Did you mean 'candidate_rule'"):
        main(["candidat_rule"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_table_version_of_the_benchmark_gives_the_same_answer(repo):
    from basewise.genome.fasta import open_genome
    from basewise.tasks.pas_rule import find_candidates
    from benchmarks.candidate_rule import table_positions

    with open_genome(repo / "examples/chr22_20-21Mb.fa.gz") as genome:
        (chrom, _), *_ = genome.contigs.items()
        bases = genome.fetch(chrom, 0, 200_000)
    plus, minus = table_positions(bases)
    found = find_candidates(bases)
    assert plus.tolist() == found.position[found.strand > 0].tolist()
    assert minus.tolist() == found.position[found.strand < 0].tolist()
