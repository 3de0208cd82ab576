"""The page of a genome scan: OUT/report.html from what the scan left in OUT, and the genome for the sequence around the sites."""

from pathlib import Path

import pandas as pd

from basewise.files import read_json
from basewise.provenance import provenance
from basewise.report.model_card import held_out_blocks
from basewise.report.origin import origin_section
from basewise.report.page import Block, Chapter, Fact, Facts, Note, Points, Prose, Section, Tile, Tiles, write_page
from basewise.report.scan_figures import chromosome_blocks, probability_blocks, sequence_blocks
from basewise.report.scan_summary import Summary, check_folder, read_sites, read_summary
from basewise.report.tables import Cell, Column, Table

TABLE_SITES = 10_000
_TABLE = ("chrom", "end", "strand", "probability", "hexamer", "hexamer_offset", "n_in_cluster", "region", "gene")
FILES = (
    ("sites.bed.gz", "the sites, for a genome browser (with its index .tbi)"),
    ("candidates.parquet", "every candidate with its probability, for Python, R or SQL"),
    ("plus.bw, minus.bw", "probability at each candidate base, one track a strand"),
    ("summary.json", "the counts of this page"),
    ("run.json", "versions, checksums and command"),
)
# Source: PolyA_DB v3 sites on 50 Mb of hg19 (ten pieces), share with a candidate of the rule within 24 nt
RULE_CEILING = "about 74 % of the annotated human sites (PolyA_DB v3) have such a candidate within 24 nt"


def write_scan_report(out: str | Path, genome: str | Path | None, *, model_folder: str | Path | None = None) -> Path:
    """Write OUT/report.html from a finished scan in `out` and return its path.

    `genome` is the scanned FASTA, for logo and composition; None leaves them out, and the page says so. `model_folder` overrides
    where the model's held-out results are looked for (else the embedded model of that name and checksum).
    Raises BasewiseError when a file of the scan is missing, lacks a key, or counts differ from one file to another.
    """
    path = Path(out) / "report.html"
    write_page([scan_chapter(out, genome, model_folder=model_folder)], path)
    return path


def scan_chapter(out: str | Path, genome: str | Path | None, *, model_folder: str | Path | None = None) -> Chapter:
    """Return what the scan in `out` has to say."""
    if read_json(Path(out) / "summary.json").get("kind") == "bases":
        from basewise.report.base_scan import base_scan_chapter

        return base_scan_chapter(out, genome, model_folder=model_folder)
    summary, sites = read_summary(out), read_sites(out)
    check_folder(out, summary, sites)
    run = Path(out) / "run.json"
    facts = read_json(run) if run.is_file() else provenance()
    sections = [
        Section("numbers", "Key numbers", (_tiles(summary), *_empty_notes(summary))),
        Section("asked", "What was asked", (_asked(summary),)),
    ]
    if summary.totals.candidates:
        sections.append(Section("chromosomes", "Where the sites are", chromosome_blocks(summary)))
        sections.append(Section("sequence", "The sequence around the sites", sequence_blocks(summary, sites, genome)))
    held_out = held_out_blocks(summary.model.name, summary.model.sha256, model_folder)
    sections.append(Section("trust", "How far to trust a site", (*held_out, *probability_blocks(summary))))
    if len(sites):
        sections.append(Section("sites", "The sites", (_site_table(sites),)))
    sections.append(Section("limits", "Method and limits", (_method(summary), Points(_limits(summary)))))
    sections.append(Section("files", "Files", (Facts(tuple(Fact(name, text) for name, text in FILES)),)))
    sections.append(origin_section(facts, [("Genome", summary.genome.name, summary.genome.sha256), ("Model weights", *_model_id(summary))]))
    return Chapter("Genome scan for poly(A) sites", f"Poly(A) sites in {summary.genome.name}", _lead(summary), tuple(sections))


def _model_id(summary: Summary) -> tuple[str, str | None]:
    return summary.model.name, summary.model.sha256


def percent(part: float, whole: float) -> str:
    """Return a share as text, "–" where there is nothing to share."""
    return f"{100 * part / whole:.3g} %" if whole else "–"


def bases_text(bases: int) -> str:
    """Return a length as text: 950 bp, 12.3 kb, 1.00 Mb, 3.10 Gb."""
    for size, unit in ((1e9, "Gb"), (1e6, "Mb"), (1e3, "kb")):
        if bases >= size:
            return f"{bases / size:.3g} {unit}"
    return f"{bases} bp"


def _lead(summary: Summary) -> str:
    totals = summary.totals
    found = f"{totals.sites:,} site{'' if totals.sites == 1 else 's'}" if totals.sites else "No site"
    text = f"{found} among {totals.candidates:,} candidates in {bases_text(totals.bases)} of sequence"
    if totals.sites and totals.genic is not None:
        text += f"; {percent(totals.genic, totals.sites)} of the sites lie in genes"
    return text + f". A site is a candidate to which the model gives a probability of at least {summary.threshold:.3g}."


def _tiles(summary: Summary) -> Tiles:
    totals, n_contigs = summary.totals, len({contig.chrom for contig in summary.contigs})
    tiles = [
        Tile("Sites", f"{totals.sites:,}", f"{1e6 * totals.sites / totals.bases:.3g} a megabase" if totals.bases else ""),
        Tile("Candidates", f"{totals.candidates:,}", "bases that fulfil the rule, both strands"),
        Tile("Candidates that are sites", percent(totals.sites, totals.candidates), "the best of each cluster"),
    ]
    if totals.genic is not None:
        in_genes = totals.candidates_in_genes
        beside = f"candidates: {percent(in_genes, totals.candidates)}" if in_genes is not None else ""
        tiles.append(Tile("Sites in genes", percent(totals.genic, totals.sites), beside))
    tiles.append(Tile("Sequence read", bases_text(totals.bases), f"{n_contigs:,} contig{'' if n_contigs == 1 else 's'}, both strands"))
    tiles.append(Tile("Time", f"{summary.timing.total_s:,.3g} s", summary.device))
    return Tiles(tuple(tiles))


def _empty_notes(summary: Summary) -> tuple[Block, ...]:
    totals = summary.totals
    if not totals.candidates:
        return (Note("No base fulfils the rule, so there is nothing to draw. Is the sequence long enough (101 bases), and not all N?"),)
    if not totals.sites:
        return (
            Note(
                f"No candidate reaches the threshold of {summary.threshold:.3g}. The figures show the candidates; a lower --threshold "
                "gives sites, with more false ones among them."
            ),
        )
    return ()


def _asked(summary: Summary) -> Facts:
    window = f", sees {summary.model.window} bases around a position" if summary.model.window else ""
    return Facts(
        (
            Fact("Question", "Where does cleavage and polyadenylation take place?"),
            Fact("Genome", f"{summary.genome.name}, {summary.genome.bases:,} bases"),
            Fact("Regions", summary.regions.name if summary.regions else "the whole genome"),
            Fact("Genes", summary.genes.name if summary.genes else "none given: sites are not classed as genic or intergenic"),
            Fact("Model", f"{summary.model.name}{window}"),
            Fact("Threshold", f"probability ≥ {summary.threshold:.4g}"),
            Fact("Clusters", f"sites of a strand no further than {summary.gap} nt from the next count once, as the most probable one"),
        )
    )


def _site_table(sites: pd.DataFrame) -> Table:
    top = sites.sort_values("probability", ascending=False, kind="stable").head(TABLE_SITES)
    rows: list[tuple[Cell, ...]] = []
    for chrom, end, strand, probability, hexamer, offset, n, *names in zip(*(top[name].tolist() for name in _TABLE), strict=True):
        region, gene = (None if text in (".", "") else text for text in names)
        rows.append((f"{chrom}:{end}", strand, probability, gene, region, hexamer, offset, n, chrom, end))
    columns = (
        Column("Locus", "locus"),
        Column("Strand"),
        Column("Probability", "number", 4),
        Column("Gene"),
        Column("Region"),
        Column("Hexamer"),
        Column("Distance (nt)", "number"),
        Column("In cluster", "number"),
        Column("Chromosome"),
        Column("Position", "number"),
    )
    which = "All sites" if len(top) == len(sites) else f"The {len(top):,} most probable of {len(sites):,} sites (all are in sites.bed.gz)"
    caption = (
        f"{which}, the most probable first. Positions count from 1, as genome browsers do; paste a locus into the search field of "
        "UCSC or IGV. Distance is from the first base of the hexamer to the cleavage base."
    )
    return Table(caption, columns, rows, "sites")


def _method(summary: Summary) -> Prose:
    return Prose(
        "Stage 1 looks at every base of both strands and keeps an A that follows a C or G and has one of 18 known signal hexamers "
        "starting 10 to 35 bases upstream, within a 101-base window that lies inside its contig. Stage 2 gives each of these candidates "
        f"a probability with the model {summary.model.name}. Candidates at or above the threshold, each no further than {summary.gap} nt "
        "from the next on its strand, are one cleavage event; the most probable stands for it." + _stages(summary)
    )


def _stages(summary: Summary) -> str:
    """Return what a first stage and half precision did, nothing without them."""
    text = ""
    first, precision = summary.first_stage, summary.precision
    if first is not None and first["used"]:
        text += (
            f" A small network in front, the first stage, dropped {first['dropped']:,} of {summary.totals.candidates:,} candidates, which "
            f"the model did not see; on contigs held out from it ({', '.join(first['contigs'])}) it kept {first['recall']:.2%} of the "
            f"{first['calls']:,} candidates that the model calls. basewise scan --exact goes without it."
        )
    if precision is not None and "rescored" in precision:
        text += (
            f" Probabilities are of {precision['name']} precision; the {precision['rescored']:,} candidates near the threshold or above "
            "were scored again in fp32, so that the sites are those of fp32."
        )
    return text


def _limits(summary: Summary) -> tuple[str, ...]:
    calibrated = (
        "A probability is calibrated for the species and the kind of sequence the model was trained on. On another genome take the "
        "order of the sites more seriously than the numbers."
    )
    limits = [
        f"The rule is a ceiling: {RULE_CEILING}. The others cannot be found here, whatever the model.",
        "The model reads DNA only. It does not know in which tissue a gene is expressed or which of its sites is used.",
        calibrated,
        "A prediction is a hypothesis: 3′-end sequencing decides.",
    ]
    if summary.genes:
        where = "genic means inside one of its intervals on the same strand; just downstream of a gene's end is intergenic."
        limits.append(f"Genes are those of {summary.genes.name}: {where}")
    return tuple(limits)
