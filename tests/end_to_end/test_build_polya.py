"""`basewise build polya` on a small genome: every row of the Parquet file is checked against the FASTA, by code that shares nothing."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from basewise.cli.main import app
from basewise.errors import BasewiseError

HEXAMERS = "AATAAA ATTAAA AGTAAA CATAAA TATAAA GATAAA ACTAAA AATACA AATATA AAGAAA AATAGA AATGAA TTTAAA AAAATA TATATA AGATAA ATTACA AGAATA"
PARTNER = str.maketrans("ACGTN", "TGCAN")
SIZES = {"c1": 30_000, "c2": 22_000, "c3": 16_000, "tiny": 60, "void": 0}
WINDOW = 101


def turned(text):
    return text.translate(PARTNER)[::-1]


class World:
    """A genome with soft-masking, IUPAC and N runs, its sites (one repeated, one at an edge, one in N) and genes, on disk and in memory."""

    def __init__(self, folder: Path):
        rng = np.random.default_rng(5)
        self.folder = folder
        self.text, self.sites, self.genes = {}, [], []
        fasta = []
        for name, size in SIZES.items():
            letters = rng.choice(list("ACGTacgt"), size, p=[0.2, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1])
            if size > 1000:
                letters[5000:5300] = "N"
                letters[700] = "R"
                self.sites += self._plant(rng, name, letters)
                self.sites += [(name, 20, "+"), (name, 5310, "-"), (name, 720, "+")]
                self.genes += [
                    (name, 1000, size // 3, "up", "+"),
                    (name, size // 4, size // 2, "down", "-"),
                    (name, 1500, 2500, "inner", "+"),
                ]
            text = "".join(letters)
            fasta += [f">{name} a contig", *(text[i : i + 60] for i in range(0, size, 60))]
            self.text[name] = "".join(base if base in "ACGT" else "N" for base in text.upper())
        (folder / "genome.fa").write_text("\n".join(fasta) + "\n")
        rows = [f"{chrom}\t{p}\t{p + 1}\tsite\t0\t{strand}" for chrom, p, strand in [*self.sites, self.sites[0]]]
        (folder / "sites.bed").write_text("\n".join(rows) + "\n")
        rows = [f"{chrom}\t{start}\t{end}\t{chrom}{name}\t0\t{strand}" for chrom, start, end, name, strand in self.genes]
        (folder / "genes.bed").write_text("\n".join(rows) + "\n")

    @staticmethod
    def _plant(rng, name, letters):
        """Half of the sites get AATAAA 20 upstream, most end on an A."""
        found = []
        for row, position in enumerate(range(400, len(letters) - 400, 225)):  # every other one is a decoy: the same signal, no site
            if 4800 < position < 5500:
                continue
            number, decoy = divmod(row, 2)
            strand = "+" if rng.random() < 0.5 else "-"
            signal = {0: "AATAAA", 1: "ATTAAA"}.get(number % 4, "CCCCCC")
            base, following = ("A", "C") if decoy else ("A" if number % 5 else "G", "C" if number % 7 else "A")
            local = signal + "".join(rng.choice(list("ACGT"), 13)) + "C" + base + following
            if strand == "+":
                letters[position - 20 : position + 2] = list(local)
            else:
                letters[position - 1 : position + 21] = list(turned(local))
            if not decoy:
                found.append((name, position, strand))
        return found

    def window(self, chrom, position, strand, size=WINDOW):
        """Return the window around a base as read on its strand, None where it leaves the contig."""
        text = self.text[chrom] if strand == "+" else turned(self.text[chrom])
        at = position if strand == "+" else len(text) - 1 - position
        start = at - size // 2
        return text[start : start + size] if start >= 0 and start + size <= len(text) else None

    def distance(self, chrom, position, strand):
        return min((abs(p - position) for c, p, s in self.sites if (c, s) == (chrom, strand)), default=10**9)

    def in_gene(self, chrom, position, strand):
        return any(c == chrom and low <= position < high and strand in (s, None) for c, low, high, _, s in self.genes)

    def candidates(self, chrom, upstream=tuple(HEXAMERS.split())):
        """Every candidate of the rule, the slow way: {(position, strand)}."""
        found = set()
        for strand in "+-":
            text = self.text[chrom] if strand == "+" else turned(self.text[chrom])
            for at in range(50, len(text) - 50):
                if text[at] == "A" and text[at - 1] in "CG" and any(text[at - d : at - d + 6] in upstream for d in range(10, 36)):
                    found.add((at if strand == "+" else len(text) - 1 - at, strand))
        return found

    def build(self, output, *arguments, negatives="gene"):
        files = ("--genome", self.folder / "genome.fa", "--sites", self.folder / "sites.bed", "--genes", self.folder / "genes.bed")
        command = ["build", "polya", *files, "--negatives", negatives, "-o", output, *arguments]
        done = CliRunner().invoke(app, [str(part) for part in command])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return pd.read_parquet(output / "examples.parquet"), json.loads((output / "manifest.json").read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def centers(examples):
    half = (examples["end"] - examples["start"]) // 2  # odd windows only
    return list(zip(examples["chrom"], (examples["start"] + half).tolist(), examples["strand"], strict=True))


def canonical(sequence):
    """(hexamer, distance) pairs that a window's cleavage base has 10-35 upstream, AATAAA before ATTAAA, nearest to 21 first."""
    found = [(sequence[50 - d : 56 - d], d) for d in range(10, 36) if sequence[50 - d : 56 - d] in ("AATAAA", "ATTAAA")]
    return sorted(found, key=lambda pair: (pair[0], abs(pair[1] - 21), pair[1]))


@pytest.mark.parametrize("negatives", ["gene", "intergene"])
@pytest.mark.parametrize("variant", ["published", "clean", "matched"])
def test_windows_base_by_base(world, tmp_path, negatives, variant):
    examples, manifest = world.build(tmp_path / "d", "--variant", variant, "--test-chroms", "c2", "--val-chroms", "c3", negatives=negatives)
    assert list(examples.columns) == ["chrom", "start", "end", "strand", "label", "split", "group", "sequence"]
    for (chrom, position, strand), label, sequence in zip(centers(examples), examples["label"], examples["sequence"], strict=True):
        expected = world.window(chrom, position, strand)
        if variant == "published" and label == 1:
            expected = expected[:50] + "A" + expected[51:]
        assert sequence == expected
        assert "N" not in sequence
        assert sequence[50] == "A"
        if variant != "published":
            assert sequence[51] != "A"
        if label == 1:
            assert (chrom, position, strand) in world.sites
        else:
            assert world.distance(chrom, position, strand) > 100
            assert canonical(sequence)
            assert world.in_gene(chrom, position, strand) if negatives == "gene" else not world.in_gene(chrom, position, None)
    assert len(set(centers(examples))) == len(examples)
    for _, part in examples.groupby("chrom"):
        assert (part["label"] == 0).sum() == (part["label"] == 1).sum()
    if variant == "matched":
        pairs = Counter(
            (chrom, label, canonical(s)[0]) for chrom, label, s in zip(*(examples[c] for c in ("chrom", "label", "sequence")), strict=True)
        )
        assert {key: n for key, n in pairs.items() if key[1]} == {(c, 1, pair): n for (c, label, pair), n in pairs.items() if not label}
    assert dict(zip(examples["chrom"], examples["split"], strict=True)) == {"c1": "train", "c2": "test", "c3": "val"}
    check_manifest(world, examples, manifest, variant)


def check_manifest(world, examples, manifest, variant):
    sites = [site for site in world.sites if site[0] in ("c1", "c2", "c3")]
    assert manifest["dropped"]["site: repeated in the annotation"] == 1
    kept = int((examples["label"] == 1).sum())
    assert kept + sum(n for reason, n in manifest["dropped"].items() if reason.startswith("site:")) == len(sites) + 1
    whole = [(site, world.window(*site)) for site in sites]
    assert manifest["dropped"]["site: window over the contig's end"] == sum(window is None for _, window in whole) == 3
    known = [window for _, window in whole if window is not None and "N" not in window]
    assert manifest["dropped"]["site: N in the window"] == len(sites) - 3 - len(known)
    if variant != "published":
        assert manifest["dropped"]["site: cleavage base is not A"] == sum(window[50] != "A" for window in known) > 5
        assert manifest["dropped"]["site: next base is A"] == sum(window[50:52] == "AA" for window in known) > 3
    if variant == "matched":
        clean = [window for window in known if window[50] == "A" != window[51]]
        assert manifest["dropped"]["site: no AATAAA or ATTAAA 10-35 bases upstream"] == sum(not canonical(window) for window in clean) > 5
    for split, part in examples.groupby("split"):
        assert manifest["counts"][split] == {"0": int((part["label"] == 0).sum()), "1": int((part["label"] == 1).sum())}
    assert {name: entry["path"] for name, entry in manifest["inputs"].items()} == {
        "genome": "genome.fa",
        "sites": "sites.bed",
        "genes": "genes.bed",
    }
    assert (manifest["task"], manifest["variant"], manifest["kind"], manifest["window"], manifest["seed"]) == (
        "polya",
        variant,
        "sequence",
        101,
        0,
    )
    assert (manifest["split"], manifest["test_chroms"], manifest["exclusion"]) == ("chromosome", ["c2"], 100)


def test_all_scan_examples_are_the_rules_candidates(world, tmp_path):
    examples, manifest = world.build(tmp_path / "d", "--negatives-per-positive", "all", negatives="scan")
    got = {(chrom, position, strand): label for (chrom, position, strand), label in zip(centers(examples), examples["label"], strict=True)}
    expected, between = {}, 0
    for chrom in SIZES:
        for position, strand in world.candidates(chrom):
            distance = world.distance(chrom, position, strand)
            between += 24 < distance <= 100
            if not 24 < distance <= 100:
                expected[chrom, position, strand] = int(distance <= 24)
    assert got == expected
    assert manifest["dropped"]["candidate: 25-100 bases from a site"] == between > 20
    assert manifest["variant"] == "scan"
    assert all(sequence == world.window(*center) for center, sequence in zip(centers(examples), examples["sequence"], strict=True))
    assert any("N" in sequence for sequence in examples["sequence"])  # as in a scan
    # chromosomes chosen by the builder
    splits = examples.groupby("split")["chrom"].agg(set)
    assert set(splits.index) == {"train", "val", "test"}
    assert not splits["train"] & splits["test"]
    assert not splits["train"] & splits["val"]
    assert not splits["test"] & splits["val"]
    assert manifest["test_chroms"] == sorted(splits["test"])


def test_scan_negatives_are_drawn(world, tmp_path):
    chroms = ("--test-chroms", "c2", "--val-chroms", "c3")
    every, _ = world.build(tmp_path / "all", "--negatives-per-positive", "all", *chroms, negatives="scan")
    few, manifest = world.build(tmp_path / "few", "--negatives-per-positive", "2", "--complete-eval", *chroms, negatives="scan")
    train = few[few["split"] == "train"]
    assert (train["label"] == 0).sum() == 2 * (train["label"] == 1).sum()
    for name in ("val", "test"):
        assert sorted(centers(few[few["split"] == name])) == sorted(centers(every[every["split"] == name]))
    assert set(centers(few)) < set(centers(every))
    assert manifest["dropped"]["candidate: negative not drawn"] == len(every) - len(few)


@pytest.mark.parametrize("evaluation", ["--complete-eval", "--sampled-eval"])
def test_base_level_regions(world, tmp_path, evaluation):
    size, flank = 1000, 100
    arguments = (
        "--level",
        "base",
        "--window",
        size,
        "--flank",
        flank,
        "--test-chroms",
        "c2",
        "--val-chroms",
        "c3",
        "--positive-distance",
        10,
    )
    examples, manifest = world.build(tmp_path / "d", *arguments, evaluation, "--background", 0, negatives="scan")
    scored = Counter()
    for row in examples.itertuples():
        text = world.text[row.chrom][row.start : row.end]
        assert row.sequence == (text if row.strand == "+" else turned(text))
        assert len(row.label) == len(row.sequence) == size
        for index in np.flatnonzero(row.label >= 0):
            position = row.start + index if row.strand == "+" else row.end - 1 - index
            scored[row.chrom, int(position), row.strand, int(row.label[index])] += 1
            assert row.start == 0 or position - row.start >= flank
            assert row.end == SIZES[row.chrom] or row.end - position > flank
    assert set(scored.values()) == {1}  # no base is scored twice
    expected = {
        (chrom, position, strand, int(world.distance(chrom, position, strand) <= 10))
        for chrom in ("c1", "c2", "c3")
        for position, strand in world.candidates(chrom)
        if not 10 < world.distance(chrom, position, strand) <= 100
    }
    whole = ("c2", "c3") if evaluation == "--complete-eval" else ()
    assert {key for key in scored if key[0] in whole} == {key for key in expected if key[0] in whole}
    assert set(scored) < expected
    assert {key for key in scored if key[3]} == {key for key in expected if key[3]}  # no positive is lost
    assert manifest["counts"]["train"] == {str(label): sum(key[0] == "c1" and key[3] == label for key in scored) for label in (0, 1)}
    assert (manifest["kind"], manifest["flank"], manifest["window"]) == ("base", flank, size)


def test_seeds_reproduce_and_differ(world, tmp_path):
    files = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        world.build(tmp_path / name, "--split", "random", "--seed", seed)
        files[name] = (tmp_path / name / "examples.parquet").read_bytes()
    assert files["a"] == files["b"] != files["c"]


def test_random_split_is_stratified(world, tmp_path):
    examples, manifest = world.build(tmp_path / "d", "--split", "random")
    n = len(examples) // 2
    for split, fraction in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        for label in "01":
            assert abs(manifest["counts"][split][label] - fraction * n) <= 1
    assert len(set(examples["chrom"])) == 3


def test_groups_are_genes_or_bins(world, tmp_path):
    examples, _ = world.build(tmp_path / "d", "--negatives-per-positive", "all", negatives="scan")
    for (chrom, position, strand), group in zip(centers(examples), examples["group"], strict=True):
        mine = [
            (high - low, f"{chrom}{name}") for c, low, high, name, s in world.genes if (c, s) == (chrom, strand) and low <= position < high
        ]
        assert group == (max(mine)[1] if mine else f"{chrom}:0-100000")


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (("--window", "61"), lambda before, after: set(after["sequence"].str.len()) == {61}),
        (("--exclusion", "400"), lambda before, after: len(after) != len(before) or centers(after) != centers(before)),
        (("--force-center",), lambda before, after: (after["sequence"].str[50] == "A").all()),
        (("--variant", "published"), lambda before, after: len(after) > len(before)),
        (("--test-chroms", "c1"), lambda before, after: set(after[after["chrom"] == "c1"]["split"]) == {"test"}),
        (("--val-chroms", "c1"), lambda before, after: set(after[after["chrom"] == "c1"]["split"]) == {"val"}),
    ],
)
def test_flags_change_the_file(world, tmp_path, flags, what):
    before, _ = world.build(tmp_path / "before")
    after, _ = world.build(tmp_path / "after", *flags)
    assert what(before, after)
    if flags != ("--force-center",):
        assert (tmp_path / "before/examples.parquet").read_bytes() != (tmp_path / "after/examples.parquet").read_bytes()


def test_centers_can_be_left_as_they_are(world, tmp_path):
    forced, _ = world.build(tmp_path / "a", "--variant", "published")
    free, manifest = world.build(tmp_path / "b", "--variant", "published", "--no-force-center")
    assert centers(forced) == centers(free)
    assert (forced["sequence"].str[50] == "A").all()
    assert (free["sequence"].str[50] != "A").sum() > 5
    assert manifest["force_center"] is False


@pytest.mark.parametrize(
    ("negatives", "flags", "message"),
    [
        ("scan", ("--variant", "clean"), "scan negatives have no variants"),
        ("gene", ("--level", "base"), "level 'base' needs scan negatives"),
        ("gene", ("--window", "0", "--exclusion", "-1"), "window is 0, expected at least 1; exclusion is -1"),
        ("gene", ("--split", "random", "--test-chroms", "c1"), "need the split by chromosome"),
        ("gene", ("--test-chroms", "chrom9"), "'chrom9' is not in genome"),
        ("gene", ("--test-chroms", "tiny"), "'tiny' has no annotated site"),
        ("scan", ("--level", "base", "--window", "100", "--flank", "50"), "leave nothing to score"),
        ("gene", ("--negatives-per-positive", "5"), "negatives_per_positive is 5, which nothing reads with gene negatives"),
        ("gene", ("--complete-eval", "--background", "3"), "background is 3, .*; complete_eval is True, which nothing reads"),
        ("scan", ("--flank", "10"), "flank is 10, which nothing reads with scan negatives at level 'sequence'"),
        ("scan", ("--level", "base", "--negatives-per-positive", "all"), "negatives_per_positive is None, which nothing reads"),
        ("gene", ("--exclusion", "100000"), "no example could be built.*no negative left"),
    ],
)
def test_what_cannot_be_built_is_refused(world, tmp_path, negatives, flags, message):
    with pytest.raises(BasewiseError, match=message):
        world.build(tmp_path / "d", *flags, negatives=negatives)
    assert not (tmp_path / "d").exists()


def test_strangers_and_wrong_assemblies_are_refused(world, tmp_path):
    other = World(tmp_path)
    sites = (tmp_path / "sites.bed").read_text()
    for changed, message in (
        (sites.replace("c1\t", "chrc1\t"), "sites.bed names contig 'chrc1'.*rename"),
        (sites + "c1\t900000\t900001\tx\t0\t+\n", "beyond the end of c1.*same assembly"),
    ):
        (tmp_path / "sites.bed").write_text(changed)
        with pytest.raises(BasewiseError, match=message):
            other.build(tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_as_a_user(world, tmp_path, basewise):
    files = ("--genome", world.folder / "genome.fa", "--sites", world.folder / "sites.bed", "--genes", world.folder / "genes.bed")
    done = basewise("build", "polya", *files, "--negatives", "intergene", "-o", tmp_path / "d")
    assert "positive" in done.stdout
    assert str(tmp_path / "d") in done.stdout
    before = (tmp_path / "d/examples.parquet").read_bytes()
    refused = basewise("build", "polya", *files, "--negatives", "intergene", "-o", tmp_path / "d", code=1)
    assert refused.stderr.startswith("error: output folder")
    assert len(refused.stderr.splitlines()) == 1
    basewise("build", "polya", *files, "--negatives", "intergene", "-o", tmp_path / "d", "--seed", 1, "--force")
    assert (tmp_path / "d/examples.parquet").read_bytes() != before
    assert "--negatives" in basewise("build", "polya", "--help").stdout
    basewise("build", "polya", *files, "--negatives", "genes", "-o", tmp_path / "e", code=2)
