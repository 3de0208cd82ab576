"""`basewise kmers`: which k-mers a model's attributions lie on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    import pandas as pd

    from basewise.interpretation.kmers import Row


def kmers(
    folders: Annotated[
        list[Path], typer.Argument(help="Output folders of basewise explain; several give their consensus.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("-o", "--out", help="TSV file to write.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, help="Bases a k-mer.")] = 5,
    restrict: Annotated[
        Literal["tp"] | None, typer.Option(help="tp: only k-mers wholly inside true positives.", show_default="all k-mers")
    ] = None,
    of: Annotated[
        Literal["mean", "sum"] | None,
        typer.Option(help="A k-mer's score is the mean or the sum over its bases.", show_default="mean; sum for models of bases"),
    ] = None,
    min_count: Annotated[int, typer.Option(min=1, help="Leave out k-mers scored fewer times.")] = 1,
    merge_strands: Annotated[bool, typer.Option("--merge-strands", help="A k-mer and its reverse complement are one.")] = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="Divide scores by the Euclidean norm of their sequence.")] = False,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of whole sequences for the 95 % interval.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    meme: Annotated[
        Path | None, typer.Option(help="Also write the motifs of runs of high scores, in MEME format.", show_default=False)
    ] = None,
) -> None:
    """Rank k-mers by the attributions of their bases, and by how often they lie inside true positives.

    Columns: kmer, count, mean_score, sum_score, low, high, tp, occurrences, importance (tp / occurrences). Of several folders: kmer,
    count, mean_score and deviation of each (percent from the mean of its k-mers), mean_deviation.

    Examples:

        basewise kmers why -k 6 -o kmers.tsv

        basewise kmers why_ig why_smooth --restrict tp --min-count 20 -o consensus.tsv
    """
    from basewise.errors import BasewiseError
    from basewise.interpretation.explain import kmer_rows, read_explained
    from basewise.interpretation.kmers import consensus, kmer_table
    from basewise.interpretation.seqlets import find_seqlets, motifs_of, write_meme
    from basewise.interpretation.tsv import write_tsv

    if bootstrap and len(folders) > 1:
        raise BasewiseError("--bootstrap is for the k-mers of one folder; a consensus has no intervals, leave it out")
    names = _names(folders)
    tables: dict[str, pd.DataFrame] = {}
    all_rows: list[Row] = []
    for name, folder in zip(names, folders, strict=True):
        summary, table = read_explained(folder)
        rows = kmer_rows(summary, table)
        if restrict == "tp" and not any(row.positive.any() for row in rows):
            raise BasewiseError(f"{folder} knows no true positive: explain an input with a column `label`, or leave out --restrict")
        tables[name] = kmer_table(
            rows,
            k,
            restrict=restrict,
            of=of or ("sum" if summary["kind"] == "base" else "mean"),
            normalize=normalize,
            min_count=min_count,
            merge_strands=merge_strands,
            bootstrap=bootstrap,
            seed=seed,
        )
        all_rows += rows
    result = tables[names[0]] if len(folders) == 1 else consensus(tables)
    write_tsv(result, output)
    if meme is not None:
        write_meme(meme, motifs_of(all_rows, find_seqlets(all_rows), width=k))
    typer.echo(f"{output}\t{len(result):,} k-mers, the first {', '.join(result['kmer'].head(5))}")


def _names(folders: list[Path]) -> list[str]:
    """Return the folders' names, told apart by a number where two are alike."""
    names: list[str] = []
    for folder in folders:
        name = folder.resolve().name
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    return names
