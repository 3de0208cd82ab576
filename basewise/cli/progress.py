"""How a long job tells where it is: a bar with rate and time left on a terminal, a line now and then elsewhere. Always on stderr."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_LINE_EVERY = 30.0  # seconds between lines where there is no terminal


class Bases:
    """Progress counted in bases; a `basewise.inference.scan.Watcher` and a context manager."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._total = self._done = self._candidates = 0
        self._begun = self._said = time.monotonic()
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[rate]}"),
            )
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Show a sentence."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            sys.stderr.write(text + "\n")

    def begin(self, bases: int) -> None:
        """Set the total; start the clock."""
        self._total, self._begun = bases, time.monotonic()
        self._said = self._begun
        if self._bar is not None:
            self._task = self._bar.add_task(self._title, total=bases, rate="")

    def advance(self, bases: int, candidates: int) -> None:
        """Count a stretch that is done."""
        self._done += bases
        self._candidates += candidates
        now = time.monotonic()
        passed = max(now - self._begun, 1e-9)
        rate = f"{self._done / passed / 1e6:.2f} Mb/s"
        if self._candidates:
            rate += f", {self._candidates / passed:,.0f} candidates/s"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, rate=rate)
        elif now - self._said >= _LINE_EVERY:
            self._said = now
            left = (self._total - self._done) * passed / max(self._done, 1)
            self.say(f"{self._title}: {self._done / 1e6:,.1f} of {self._total / 1e6:,.1f} Mb, {rate}, {_clock(left)} left")

    def stage(self, name: str) -> None:
        """Show what comes after the bases."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=name)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
