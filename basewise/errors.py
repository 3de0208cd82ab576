"""The one error basewise raises on purpose, and the hint that goes with unknown words."""

from collections.abc import Iterable
from difflib import get_close_matches


class BasewiseError(Exception):
    """Say in one line what was got, what was expected and what to do next.

    The command line prints the message and exits 1; a traceback is shown only with ``--debug``.
    """


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest choice, or ``""`` when nothing is close.

    >>> did_you_mean("pubished", ["published", "clean"])
    " Did you mean 'published'?"
    """
    close = get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
