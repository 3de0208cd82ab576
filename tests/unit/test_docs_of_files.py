"""The documents name what the code has."""

import pandas as pd

from basewise.inference.calls import call_sites
from basewise.inference.overlap import overlap


def test_overlap_keys_are_documented(repo):
    text = (repo / "docs/file_formats.md").read_text()
    sites = pd.DataFrame({"chrom": ["a"], "start": [1], "end": [2], "strand": ["+"]})
    result = overlap(sites, sites, shuffles=2)
    keys = {*result, *result["sites"], *result["atlas"], *result["near_atlas"], *result["near_atlas"]["null"]}
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_site_columns_are_documented(repo):
    text = (repo / "docs/file_formats.md").read_text()
    candidates = pd.DataFrame(
        {"chrom": ["a"], "position": [1], "strand": ["+"], "hexamer": ["AATAAA"], "hexamer_offset": [20], "probability": [0.5]}
    )
    table = text.split("Columns of `sites.bed.gz`")[1].split("## ")[0]
    assert [column for column in call_sites(candidates, 0.5).columns if column not in table] == []


def test_interval_columns_are_documented(repo):
    from basewise.inference.base_merge import INTERVAL_COLUMNS

    table = (repo / "docs/file_formats.md").read_text().split("Columns of `intervals.bed.gz`")[1].split("## ")[0]
    assert [column for column in INTERVAL_COLUMNS if column not in table] == []


def test_trait_columns_are_documented(repo):
    from basewise.inference.evidence import by_contig

    chunks = pd.DataFrame({"label": [0, 0], "contig": ["a", "b"], "attention": [1.0, 1.0], "effect": [0.1, -0.3]})
    text = (repo / "docs/file_formats.md").read_text().split("`contigs.tsv` (`")[1].split("`)")[0]
    assert text.split() == by_contig(chunks).columns.tolist()
