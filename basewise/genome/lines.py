"""Lines of the text files that hold annotation: gzipped or not, LF or CRLF, always with their number for messages."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from basewise.errors import BasewiseError

GZIP_MAGIC = b"\x1f\x8b"


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (1-based number, text without line end) of every non-blank line; gzip and bgzip are recognised by content.

    Raises
    ------
    BasewiseError
        The file is missing, truncated gzip, or not text.

    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            for number, line in enumerate(stream, 1):
                text = line.rstrip(b"\r\n").decode("utf-8")
                if text.strip():
                    yield number, text
    except FileNotFoundError as error:
        raise BasewiseError(f"{path} does not exist") from error
    except EOFError as error:
        raise BasewiseError(f"{path} is truncated gzip; fetch it again") from error
    except UnicodeDecodeError as error:
        raise BasewiseError(f"{path} is not a text file, expected BED, GTF, GFF3 or a tab-separated table (gzipped or not)") from error
    except (OSError, zlib.error) as error:
        raise BasewiseError(f"cannot read {path}: {error}") from error


def is_comment(line: str) -> bool:
    """Tell the lines of BED, GTF and UCSC tables that hold no record: ``#``, ``track`` and ``browser`` lines."""
    return line.startswith("#") or line.split(maxsplit=1)[0] in ("track", "browser")


def is_integer(text: str) -> bool:
    """Tell whether `text` is a whole number in plain digits (a minus sign allowed)."""
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def place(path: str | Path, number: int) -> str:
    """Return ``path line n``, for messages."""
    return f"{path} line {number}"
