"""`basewise overlap` as a user runs it: the numbers in the file, each flag, and errors in one line."""

import gzip
import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from basewise.cli.main import app
from basewise.genome.tracks import write_bed
from basewise.testing.genomes import random_genome, write_fasta

POLYASITE = "chr1\t90\t130\tchr1:112:+\t1\t+\nchr1\t400\t420\tchr1:405:-\t1\t-\nchr2\t5\t9\tchr2:7:+\t1\t+\n"


@pytest.fixture
def files(tmp_path):
    sites = pd.DataFrame(
        {
            "chrom": ["chr1", "chr1", "chr1"],
            "start": [100, 404, 700],
            "end": [101, 405, 701],
            "name": ["site_1", "site_2", "site_3"],
            "score": [900, 800, 700],
            "strand": ["+", "-", "+"],
            "probability": [0.9, 0.8, 0.7],
        }
    )
    write_bed(sites, tmp_path / "sites.bed.gz")
    (tmp_path / "atlas.bed.gz").write_bytes(gzip.compress(POLYASITE.encode()))
    write_fasta(tmp_path / "g.fa", random_genome(1, {"chr1": 1000, "chr2": 100}))
    return tmp_path / "sites.bed.gz", tmp_path / "atlas.bed.gz", tmp_path / "g.fa"


def test_numbers_in_the_file_and_on_screen(basewise, files, tmp_path):
    sites, atlas, genome = files
    done = basewise("overlap", sites, atlas, "--genome", genome, "-o", tmp_path / "o.json", "--shuffles", 20)
    result = json.loads((tmp_path / "o.json").read_text())
    assert result["near_atlas"]["hits"] == 2
    assert result["near_atlas"]["of"] == 3
    assert result["recovered"]["hits"] == 2
    assert result["recovered"]["of"] == 3
    assert result["signed_distance"]["-11"] == 1
    assert result["signed_distance"]["0"] == 1
    assert result["atlas"]["clusters_on_contigs_without_sites"] == 1
    assert len(result["inputs"]["genome"]["sha256"]) == 64
    assert result["provenance"]["command"].startswith("basewise overlap")
    assert "0.6667" in done.stdout
    assert "1 atlas clusters lie on contigs without any predicted site" in done.stdout


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (["--window", 5], "near_atlas"),
        (["--gap", 400], "near_atlas"),
        (["--shuffles", 7], "near_atlas"),
        (["--seed", 5, "--shuffles", 200], "near_atlas"),
        (["--genome", "g.fa"], "background"),
    ],
)
def test_every_flag_changes_the_result(files, tmp_path, flags, changed):
    sites, atlas, genome = files
    flags = [genome if flag == "g.fa" else flag for flag in flags]
    plain = ["--shuffles", 200] if "--seed" in flags else []
    if "--gap" in flags:
        sites.unlink()
        write_bed(pd.DataFrame({"chrom": "chr1", "start": [100, 300], "end": [101, 301], "name": ".", "score": 0, "strand": "+"}), sites)
    for arguments, name in ((plain, "a.json"), (flags, "b.json")):
        done = CliRunner().invoke(app, [str(word) for word in ("overlap", sites, atlas, *arguments, "-o", tmp_path / name)])
        assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "a.json").read_text())[changed] != json.loads((tmp_path / "b.json").read_text())[changed]


def test_errors_are_one_line_and_write_nothing(basewise, files, tmp_path):
    sites, atlas, _ = files
    other = tmp_path / "other.bed"
    other.write_text("1\t5\t6\tx\t0\t+\n")
    for arguments, message in [
        ((other, atlas), "names contig '1'"),
        ((tmp_path / "none.bed", atlas), "does not exist"),
        ((sites, atlas, "--genome", tmp_path / "none.fa"), "does not exist"),
    ]:
        done = basewise("overlap", *arguments, "-o", tmp_path / "o.json", code=1)
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
        assert not (tmp_path / "o.json").exists()
    basewise("overlap", sites, atlas, "--window", -1, code=2)


@pytest.mark.data
def test_real_atlases_agree(basewise, shared, tmp_path):
    labels = shared / "data/labels"
    atlases = labels / "polyasite2_predominant_clusters.bed.gz", labels / "polya_db3_sites.bed.gz"
    basewise("overlap", *atlases, "--genome", shared / "data/genome/hg19_pieces.fa.gz", "-o", tmp_path / "o.json", "--shuffles", 20)
    result = json.loads((tmp_path / "o.json").read_text())
    assert result["near_atlas"]["fraction"] > 0.7
    assert result["near_atlas"]["null"]["fold_enrichment"] > 100
