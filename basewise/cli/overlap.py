"""`basewise overlap`: predicted sites beside an atlas."""

from pathlib import Path
from typing import Annotated, Any

import typer


def overlap(
    sites: Annotated[
        Path, typer.Argument(help="Predicted sites: sites.bed.gz of a scan, or any BED with six columns.", show_default=False)
    ],
    atlas: Annotated[
        Path, typer.Argument(help="Known sites: GENCODE polyAs, UCSC, PolyA_DB v3, PolyASite 2.0 or BED6.", show_default=False)
    ],
    window: Annotated[int, typer.Option("--window", min=0, help="How near counts, in nt.")] = 20,
    genome: Annotated[Path | None, typer.Option("--genome", help="FASTA: shuffle over its bases other than N.", show_default=False)] = None,
    gap: Annotated[int, typer.Option("--gap", min=0, help="Sites this near to each other count once, in nt.")] = 24,
    shuffles: Annotated[int, typer.Option("--shuffles", min=0, help="Random placements to compare with; 0: none.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the shuffles.")] = 0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Also write the numbers as JSON.", show_default=False)] = None,
) -> None:
    """Say how many predicted sites lie near a known one, how many known ones are found, and what chance would give.

    Strands are kept apart; sites within the gap of each other count once, on both sides.

    Examples:

        basewise overlap out/sites.bed.gz human.PAS.txt --genome hg19.fa -o overlap.json

        basewise overlap mine.bed theirs.bed.gz --window 50 --shuffles 1000
    """
    from rich.console import Console

    from basewise.files import write_json
    from basewise.inference.overlap import overlap_files

    with Console(stderr=True).status("Comparing sites ..."):
        result = overlap_files(sites, atlas, window, genome, gap=gap, shuffles=shuffles, seed=seed)
    _show(result)
    if output is not None:
        write_json(output, result)


def _show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in (f"within {result['window']} nt, same strand", "hits", "of", "fraction", "by chance", "fold", "p"):
        table.add_column(heading, justify="left" if heading.startswith("within") else "right", no_wrap=True)
    for label, key in (("predicted clusters near the atlas", "near_atlas"), ("atlas clusters recovered", "recovered")):
        verdict = result[key]
        null = verdict["null"] or {}
        spread = "" if null.get("sd") is None else f" ± {null['sd']:.4f}"
        table.add_row(
            label,
            f"{verdict['hits']:,}",
            f"{verdict['of']:,}",
            "-" if verdict["fraction"] is None else f"{verdict['fraction']:.4f}",
            f"{null['mean']:.4f}{spread}" if null else "-",
            f"{null['fold_enrichment']:.1f}" if null.get("fold_enrichment") is not None else "-",
            f"{null['p']:.3g}" if null else "-",
        )
    console = Console(width=120, highlight=False)
    console.print(table)
    elsewhere = result["atlas"]["clusters_on_contigs_without_sites"]
    if elsewhere:
        console.print(f"{elsewhere:,} atlas clusters lie on contigs without any predicted site and count as not recovered.")
    outside = result["atlas"]["sites_outside_genome"]
    if outside:
        console.print(f"{outside:,} atlas sites lie on contigs the genome does not have and were left out.")
