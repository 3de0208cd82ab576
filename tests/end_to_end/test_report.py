"""`basewise report` on folders that scan and train really wrote, and the page in a real browser."""

import re
import shutil
import subprocess
from functools import partial

import pytest

from basewise.backbones.classifier import save_classifier
from basewise.inference.scan import ScanOptions, scan
from basewise.report.scan import write_scan_report
from basewise.report.scan_summary import read_summary
from basewise.testing.datasets import planted_dataset
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.models import tiny_classifier
from basewise.testing.scans import write_scan_folder
from basewise.training.baselines import train_baseline

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a genome, a model, its scan (with the page that the scan wrote) and the run of a baseline."""
    folder = tmp_path_factory.mktemp("report")
    genome = write_fasta(folder / "g.fa", random_genome(7, {"chr1": 20_000, "chr2": 5_000, "empty": 0}, n_runs=2, at=0.7))
    save_classifier(tiny_classifier(window=101, threshold=0.5), folder / "model")
    options = ScanOptions(genome, folder / "out", model=str(folder / "model"), workers=1)
    scan(options, report=partial(write_scan_report, genome=genome, model_folder=folder / "model"))
    from basewise.datasets.folder import open_dataset

    train_baseline("kmer-lr", open_dataset(planted_dataset(folder / "data", n=300)), folder / "run")
    return folder


def test_a_scan_writes_its_page(place):
    summary = read_summary(place / "out")
    page = (place / "out" / "report.html").read_text(encoding="utf-8")
    assert f"{summary.totals.sites:,} sites among {summary.totals.candidates:,} candidates" in page
    assert summary.model.sha256 in page
    assert (place / "out" / "run.json").stat().st_mtime_ns >= (place / "out" / "report.html").stat().st_mtime_ns


def test_report_of_a_scan_and_a_run_side_by_side(place, tmp_path, basewise):
    done = basewise("report", place / "out", place / "run", "-o", tmp_path / "both.html", "--genome", place / "g.fa", "-m", place / "model")
    assert done.stdout.strip() == str(tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "Results side by side" in page
    assert "Poly(A) sites in g" in page
    assert "Motif around the cleavage base" in page
    assert "Precision and recall" in page
    without = tmp_path / "without.html"
    basewise("report", place / "out", "-o", without)
    assert "the genome was not at hand" in without.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda p: p / "missing", "is no folder"), (lambda p: (p / "empty").mkdir() or p / "empty", "holds neither summary.json")],
    ids=["no folder", "an unfinished one"],
)
def test_report_refuses_other_folders_in_one_line(tmp_path, basewise, make, message):
    done = basewise("report", make(tmp_path), "-o", tmp_path / "report.html", code=1)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


DRIVE = """
<script>
const table = [...document.querySelectorAll("div.table")].at(-1);
const note = (name, value) => document.documentElement.setAttribute("data-" + name, value);
const rows = () => [...table.querySelectorAll("tbody tr")];
const cell = (row, at) => row.children[at].textContent;
const heads = [...table.querySelectorAll("thead button")];
note("drawn", rows().length);
note("wide", document.documentElement.scrollWidth > window.innerWidth);
const before = performance.now();
heads[2].click(); heads[2].click();
note("lowest", cell(rows()[0], 2));
note("sort", table.querySelectorAll("thead th")[2].getAttribute("aria-sort"));
const field = table.querySelector("input");
field.value = "AATAAA +"; field.dispatchEvent(new Event("input"));
note("count", table.querySelector(".count").textContent);
note("hexamers", [...new Set(rows().map((row) => cell(row, 5)))].join());
field.value = ""; field.dispatchEvent(new Event("input"));
note("milliseconds", Math.round(performance.now() - before));
document.getElementById("theme").click();
note("paper", getComputedStyle(document.body).backgroundColor);
</script></body>"""


def open_page(path, *flags):
    """Return the page's HTML after its scripts ran, and what the browser complained about."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *flags, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.browser
@needs_chromium
def test_page_runs_in_a_browser_without_complaint(place):
    html, complaints = open_page(place / "out" / "report.html")
    assert complaints == []
    drawn = re.search(r'id="sites-1".*?<tbody>(.*?)</tbody>', html, re.DOTALL)[1]
    assert drawn.count('class="copy"') == min(100, read_summary(place / "out").totals.sites)  # the script drew them, so its hash is right


@pytest.mark.browser
@needs_chromium
def test_ten_thousand_rows_sort_and_filter(tmp_path):
    """The page's own script, driven by another (for which the policy of the copy is taken out)."""
    genome = write_fasta(tmp_path / "g.fa", random_genome(1, {"c": 1_200_000}, at=0.7))
    sites = write_scan_folder(tmp_path / "out", genome, threshold=0.005)
    assert len(sites) > 10_000
    page = write_scan_report(tmp_path / "out", None).read_text(encoding="utf-8")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", DRIVE)
    (tmp_path / "driven.html").write_text(page, encoding="utf-8")
    html, complaints = open_page(tmp_path / "driven.html", "--window-size=500,900")
    assert complaints == []
    notes = dict(re.findall(r'data-([a-z]+)="([^"]*)"', html[: html.index("<head")]))
    top = sites.sort_values("probability", ascending=False, kind="stable").head(10_000)
    wanted = top[(top["hexamer"] == "AATAAA") & (top["strand"] == "+")]
    assert notes["drawn"] == "100"
    assert notes["wide"] == "false"
    assert (notes["lowest"], notes["sort"]) == (f"{top['probability'].min():.4f}", "ascending")
    assert notes["count"] == f"{len(wanted):,} of 10,000 rows"
    assert notes["hexamers"] == "AATAAA"
    assert notes["paper"] == "rgb(20, 23, 26)"
    assert int(notes["milliseconds"]) < 10_000  # two sorts and two filters; generous, since the machine may be busy
