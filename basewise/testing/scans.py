"""Scan folders without a model: real candidates of the rule, invented probabilities. For tests of whatever reads scans."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from basewise.genome.fasta import open_genome
from basewise.tasks.pas_rule import FIRST, HEXAMERS, LAST, describe, find_candidates

GAP = 24
BINS = 20


class Gene(NamedTuple):
    """A gene on a strand, 0-based half-open."""

    chrom: str
    start: int
    end: int
    name: str
    strand: str


def write_scan_folder(
    out: Path, genome: Path, genes: Sequence[Gene] | None = None, *, threshold: float = 0.5, seed: int = 0
) -> pd.DataFrame:
    """Write candidates.parquet, sites.bed.gz and summary.json as a scan of `genome` would; return the sites.

    Probabilities come from the hexamer, its distance and a seeded draw: they mean nothing.
    """
    out.mkdir(parents=True, exist_ok=True)
    with open_genome(genome) as opened:
        contigs, name = dict(opened.contigs), opened.name
        tables = [_candidates(chrom, opened.fetch(chrom, 0, length), seed) for chrom, length in contigs.items()]
    candidates = pd.concat(tables, ignore_index=True)
    candidates["gene"] = _genes_of(candidates, genes)
    sites = _sites(candidates, threshold, known=genes is not None)
    candidates.drop(columns=["gene"]).to_parquet(out / "candidates.parquet", index=False)
    with gzip.open(out / "sites.bed.gz", "wt", encoding="utf-8") as stream:
        stream.write("#chrom\tstart\tend\tname\tscore\tstrand\tprobability\thexamer\thexamer_offset\tn_in_cluster\tregion\tgene\n")
        sites.to_csv(stream, sep="\t", header=False, index=False, quoting=3, escapechar="\\")
    summary = _summary(name, contigs, candidates, sites, threshold, known=genes is not None)
    (out / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return sites


def _candidates(chrom: str, bases: Any, seed: int) -> pd.DataFrame:
    found = find_candidates(bases, engine="numpy")
    hexamer, offset = describe(bases, found.position, found.strand)
    noise = np.random.default_rng(seed).normal(0, 1.6, len(hexamer))
    logit = -5.2 + 3.4 * (hexamer < 2) - 0.08 * np.abs(offset.astype(float) - 21) + noise
    return pd.DataFrame(
        {
            "chrom": pd.Series([chrom] * len(hexamer), dtype="str"),
            "position": found.position,
            "strand": np.where(found.strand > 0, "+", "-"),
            "hexamer": [HEXAMERS[i] for i in hexamer],
            "hexamer_offset": offset.astype(np.int64),
            "probability": (1 / (1 + np.exp(-logit))).astype(np.float32),
        }
    )


def _genes_of(table: pd.DataFrame, genes: Sequence[Gene] | None) -> pd.Series:
    names = pd.Series([""] * len(table), dtype="str")
    for gene in genes or ():
        inside = (table["chrom"] == gene.chrom) & (table["strand"] == gene.strand) & table["position"].between(gene.start, gene.end - 1)
        names[inside & (names == "")] = gene.name
    return names


def _sites(candidates: pd.DataFrame, threshold: float, *, known: bool) -> pd.DataFrame:
    good = candidates[candidates["probability"] >= threshold].sort_values(["chrom", "strand", "position"])
    new = (good["chrom"] != good["chrom"].shift()) | (good["strand"] != good["strand"].shift()) | (good["position"].diff() > GAP)
    cluster = new.cumsum()
    best = good.loc[good.groupby(cluster)["probability"].idxmax()] if len(good) else good
    sizes = cluster.value_counts(sort=False).to_numpy()
    region = np.where(best["gene"] != "", "genic", "intergenic") if known else "."
    table = pd.DataFrame(
        {
            "chrom": best["chrom"],
            "start": best["position"],
            "end": best["position"] + 1,
            "name": [f"site{i}" for i in range(1, len(best) + 1)],
            "score": (1000 * best["probability"]).round().astype(int),
            "strand": best["strand"],
            "probability": best["probability"].round(4),
            "hexamer": best["hexamer"],
            "hexamer_offset": best["hexamer_offset"],
            "n_in_cluster": sizes,
            "region": region,
            "gene": best["gene"].where(best["gene"] != "", "."),
        }
    )
    return table.sort_values(["chrom", "start", "strand"], kind="stable").reset_index(drop=True)


def _summary(
    name: str, contigs: dict[str, int], candidates: pd.DataFrame, sites: pd.DataFrame, threshold: float, *, known: bool
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for chrom, length in contigs.items():
        for strand in "+-":
            mine = candidates[(candidates["chrom"] == chrom) & (candidates["strand"] == strand)]
            called = sites[(sites["chrom"] == chrom) & (sites["strand"] == strand)]
            genic = int((called["region"] == "genic").sum())
            rows.append(
                {
                    "chrom": chrom,
                    "strand": strand,
                    "bases": length,
                    "candidates": len(mine),
                    "candidates_in_genes": int((mine["gene"] != "").sum()) if known else None,
                    "sites": len(called),
                    "genic": genic if known else None,
                    "intergenic": len(called) - genic if known else None,
                }
            )
    of_genes = ("candidates_in_genes", "genic", "intergenic")
    counts: dict[str, Any] = {key: sum(row[key] or 0 for row in rows) for key in ("bases", "candidates", "sites", *of_genes)}
    totals = {key: None if key in of_genes and not known else value for key, value in counts.items()}
    totals["bases"] = sum(contigs.values())
    both = {"candidates": candidates, "sites": sites}
    edges = np.linspace(0, 1, BINS + 1)
    return {
        "task": "polya",
        "genome": {"name": name, "sha256": "0" * 64, "bases": totals["bases"], "contigs": len(contigs)},
        "model": {"name": "invented", "sha256": None, "window": 101},
        "regions": None,
        "genes": {"name": "genes.bed", "sha256": "1" * 64, "genes": 0} if known else None,
        "threshold": threshold,
        "gap": GAP,
        "device": "cpu",
        "totals": totals,
        "contigs": rows,
        "hexamers": [{"hexamer": h, **{k: int((t["hexamer"] == h).sum()) for k, t in both.items()}} for h in HEXAMERS],
        "offsets": [{"offset": o, **{k: int((t["hexamer_offset"] == o).sum()) for k, t in both.items()}} for o in range(FIRST, LAST + 1)],
        "probabilities": {
            "edges": edges.round(6).tolist(),
            **{k: np.histogram(t["probability"], edges)[0].tolist() for k, t in both.items()},
        },
        "timing": {"total_s": 1.5},
    }
