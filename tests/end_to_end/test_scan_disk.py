"""A real file system that fills up or turns read-only while a scan writes to it. Needs the right to mount one."""

import shutil
import subprocess

import pytest

from basewise.backbones.classifier import save_classifier
from basewise.errors import BasewiseError
from basewise.inference.scan import ScanOptions, Silent, scan
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.models import tiny_classifier

COMPARED = ("candidates.parquet", "sites.bed.gz", "sites.bed.gz.tbi", "plus.bw", "minus.bw")


@pytest.fixture
def small_disk(tmp_path):
    """Return (folder, remount): a tmpfs of 40 KiB, and what gives it other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "none", folder], capture_output=True).returncode
    ):
        pytest.skip("may not mount a file system")
    yield folder, lambda what: subprocess.run(["mount", "-o", f"remount,{what}", folder], check=True)
    subprocess.run(["umount", folder], check=True)


def options(tmp_path, out):
    return ScanOptions(tmp_path / "g.fa", out, str(tmp_path / "model"), workers=1, tile_size=1)


@pytest.fixture
def inputs(tmp_path):
    write_fasta(tmp_path / "g.fa", random_genome(5, {"a": 200_000}, at=0.65))
    save_classifier(tiny_classifier(window=101), tmp_path / "model")


def check_resumed(tmp_path, out):
    scan(options(tmp_path, out))
    scan(options(tmp_path, tmp_path / "straight"))
    for name in COMPARED:
        assert (out / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name
    assert {path.name for path in out.iterdir()} == {*COMPARED, "summary.json", "run.json", ".basewise"}


def test_a_full_disk(tmp_path, small_disk, inputs):
    folder, remount = small_disk
    with pytest.raises(BasewiseError, match=r"No space left on device.*; what is done is kept, run the same command again to go on"):
        scan(options(tmp_path, folder / "out"))
    assert not list((folder / "out").rglob(".partial-*"))
    remount("size=4m")
    check_resumed(tmp_path, folder / "out")


def test_a_disk_made_read_only_midway(tmp_path, small_disk, inputs):
    folder, remount = small_disk
    remount("size=4m")

    class Watcher(Silent):
        done = 0

        def advance(self, bases, candidates):
            self.done += 1
            if self.done == 2:
                remount("ro")

    with pytest.raises(BasewiseError, match=r"Read-only file system.*; what is done is kept, run the same command again to go on"):
        scan(options(tmp_path, folder / "out"), Watcher())
    remount("rw")
    check_resumed(tmp_path, folder / "out")
