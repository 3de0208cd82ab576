"""Who is told how a scan goes."""

from typing import Protocol


class Watcher(Protocol):
    """Who is told how a scan goes; every method returns at once."""

    def say(self, text: str) -> None:
        """Take a sentence worth telling."""

    def begin(self, bases: int) -> None:
        """Learn how many bases are to be scanned now."""

    def advance(self, bases: int, candidates: int) -> None:
        """Learn that a tile of that many bases is done."""

    def stage(self, name: str) -> None:
        """Learn what comes after the tiles."""


class Silent:
    """A Watcher that tells nobody."""

    def say(self, text: str) -> None:
        """Do nothing."""

    def begin(self, bases: int) -> None:
        """Do nothing."""

    def advance(self, bases: int, candidates: int) -> None:
        """Do nothing."""

    def stage(self, name: str) -> None:
        """Do nothing."""
