"""From scored candidates to called sites, and where the sites lie."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.errors import BasewiseError
from basewise.genome.intervals import cluster, require_columns, sort_intervals, strand_groups

GAP = 24  # sites at most this far apart are one cleavage event; PolyA_DB and PolyASite 2.0 use 24 and 25
CANDIDATE_COLUMNS = ("chrom", "position", "strand", "probability")
SITE_COLUMNS = ("chrom", "start", "end", "name", "score", "strand", "probability")
GENIC, INTERGENIC, NO_GENE = "genic", "intergenic", "."


def call_sites(candidates: pd.DataFrame, threshold: float, gap: int = GAP, contigs: Iterable[str] | None = None) -> pd.DataFrame:
    """Return the sites table: candidates at or above `threshold`, one for every cluster of its strand.

    Clusters are single linkage, neighbours at most `gap` nt apart, each strand for itself. The most probable candidate stands
    for its cluster; of equally probable ones the most upstream on its strand (lowest coordinate on +, highest on -).

    Parameters
    ----------
    candidates
        chrom, position (0-based cleavage base), strand ("+" or "-"), probability, and any further columns (hexamer,
        hexamer_offset), which are kept.
    threshold
        Lowest probability that counts, 0-1. Candidates without a probability (NaN) never count.
    gap
        Widest gap inside a cluster, in nt.
    contigs
        Their order in the result; that of first appearance when None.

    Returns
    -------
    pandas.DataFrame
        chrom start end name score strand probability [further columns] n_in_cluster; 1-bp intervals sorted by contig, start,
        strand. `name` is ``site_<rank>``, 1 the most probable; `score` = round(1000 probability), half to even;
        `n_in_cluster` counts the candidates at or above the threshold that the site stands for.

    Raises
    ------
    BasewiseError
        A column is missing, the threshold is not in 0-1, a strand is not + or -.

    """
    require_columns(candidates, CANDIDATE_COLUMNS, "the candidates table")
    if not 0 <= threshold <= 1:
        raise BasewiseError(f"threshold {threshold} is no probability, expected 0 to 1")
    order = list(contigs) if contigs is not None else candidates["chrom"].unique().tolist()
    kept = candidates[candidates["probability"].to_numpy() >= threshold]
    if not kept["strand"].isin(["+", "-"]).all():
        raise BasewiseError("the candidates table holds a strand other than + and -")
    position = kept["position"].to_numpy(np.int64)
    sites = kept.drop(columns="position").assign(start=position, end=position + 1).reset_index(drop=True)
    number = cluster(sites, gap)
    probability = sites["probability"].to_numpy(np.float64)
    upstream = np.where(sites["strand"].to_numpy() == "+", position, -position)
    ranked = np.lexsort((upstream, -probability, number))
    best = ranked[np.diff(number[ranked], prepend=-1) > 0]  # cluster numbers run from 0: the first row of each
    sites = sites.iloc[best].assign(
        n_in_cluster=np.bincount(number).astype(np.int64), score=np.rint(1000 * probability[best]).astype(np.int64)
    )
    sites = sort_intervals(sites.sort_values("strand", kind="stable"), order)
    rank = np.empty(len(sites), np.int64)
    rank[np.argsort(-sites["probability"].to_numpy(np.float64), kind="stable")] = np.arange(1, len(sites) + 1)
    sites = sites.assign(name=pd.Series([f"site_{number}" for number in rank], dtype="str"))
    further = [column for column in sites.columns if column not in (*SITE_COLUMNS, "n_in_cluster")]
    return sites[[*SITE_COLUMNS, *further, "n_in_cluster"]]


def genes_at(sites: pd.DataFrame, genes: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return, int64 (n,), the row of `genes` that each 1-bp site lies in on its own strand; -1 where there is none.

    Of several genes the one whose 3' end (last base on its strand) is nearest to the site is taken, for a poly(A) site ends a
    transcript; of equally near ones the first in the table. Only `chrom`, `start`, `strand` (and `end` of genes) are read.
    """
    row = np.full(len(sites), -1, np.int64)
    away = np.full(len(sites), np.iinfo(np.int64).max)
    position = sites["start"].to_numpy(np.int64)
    starts, ends = genes["start"].to_numpy(np.int64), genes["end"].to_numpy(np.int64)
    inside = strand_groups(genes)
    for (chrom, strand), group in strand_groups(sites).items():
        ordered = group[np.argsort(position[group], kind="stable")]
        places = position[ordered]
        for gene in inside.get((chrom, strand), ()):
            low, high = np.searchsorted(places, [starts[gene], ends[gene]])
            tail = ends[gene] - 1 if strand == "+" else starts[gene]
            distance = np.abs(places[low:high] - tail)
            nearer = ordered[low:high][distance < away[ordered[low:high]]]
            row[nearer] = gene
            away[nearer] = np.abs(position[nearer] - tail)
    return row


def classify_by_genes(sites: pd.DataFrame, genes: pd.DataFrame) -> pd.DataFrame:
    """Return `sites` with columns `region` and `gene`: "genic" and the gene's name, or "intergenic" and ".".

    A site is genic when it lies in a gene (start to end, introns and UTRs included) on the same strand; in several, `gene` is
    the one whose 3' end is nearest (see `genes_at`). A site antisense to a gene is intergenic.
    """
    require_columns(genes, ("chrom", "start", "end", "strand", "name"), "the genes table")
    row = genes_at(sites, genes)
    names = np.array([*genes["name"].tolist(), NO_GENE], dtype=object)  # -1 is the last
    region = np.where(row >= 0, GENIC, INTERGENIC)
    return sites.assign(
        region=pd.Series(region, index=sites.index, dtype="str"),
        gene=pd.Series(names[row], index=sites.index, dtype="str"),
    )
