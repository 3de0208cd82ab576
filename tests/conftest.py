"""Fixtures shared by all tests: where the real data are, and how to run the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let whoever has published checkpoints run the tests that need them: --official DIR, one folder a repository name."""
    parser.addoption("--official", metavar="DIR", help="folder of published checkpoints, DIR/<repository name>/config.json ...")


@pytest.fixture(scope="session")
def official_folder(pytestconfig: pytest.Config) -> Path:
    """Folder of --official; skips the test without it."""
    folder = pytestconfig.getoption("--official")
    if not folder:
        pytest.skip("--official DIR is not given")
    return Path(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `data` unless BASEWISE_TEST_DATA names the folder that holds data/ and golden/."""
    if os.environ.get("BASEWISE_TEST_DATA"):
        return
    for item in items:
        if "data" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="BASEWISE_TEST_DATA is not set"))


@pytest.fixture(scope="session")
def shared() -> Path:
    return Path(os.environ["BASEWISE_TEST_DATA"])


@pytest.fixture(scope="session")
def repo() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def planted(tmp_path: Path):
    """Make a small cohort with a planted Y-like contig: planted(share=..., people=...); see basewise.testing.cohorts."""

    def make(**settings):
        from basewise.testing.cohorts import planted_cohort

        return planted_cohort(tmp_path / "planted", **{"share": 0.1, "autosome": 8000, "people": 16, "variants": 20, **settings})

    return make


@pytest.fixture
def basewise():
    """Run `basewise ARGS` as a user would; assert the exit code, return the finished process with stdout and stderr as text."""

    def run(*args: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([sys.executable, "-m", "basewise", *map(str, args)], capture_output=True, text=True, check=False)
        assert done.returncode == code, f"exit {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}"
        return done

    return run
