"""The progress of a training on stderr: steps, time left, loss and the metric that chooses the weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def training_bar(metric: str) -> Iterator[Callable[[Any], None]]:
    """Yield what takes a training's events; shows a bar on a terminal, a line a validation elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=None, now="")
        validated = ""

        def report(event: Any) -> None:
            nonlocal validated
            if event.validation is not None:
                value = event.validation[metric]
                validated = f"val {metric} " + ("undefined" if value is None else f"{value:.4f}")
                if not console.is_terminal:
                    console.print(f"step {event.step}/{event.total} loss {event.loss:.4f} {validated}")
            progress.update(task, completed=event.step, total=event.total, now=f"loss {event.loss:.4f} {validated}")

        yield report
