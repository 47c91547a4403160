"""Files from strangers: which may be read at all, whose names a table can carry, and which are not taken for images."""

import errno
import os
import posixpath
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from eightfold.core.listing import NOTES

MAX_FILE = 2**30  # bytes: twice the largest image that images.py takes, as RGB
# Labels and notes are meant to lie beside images; whoever leaves those out leaves out nothing.
BESIDE = NOTES | {".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".xlsx", ".xls", ".ods"}


def content_of(path: str | os.PathLike) -> bytes:
    """The bytes of a plain file. Raises OSError for one that has no end (a pipe, a device) or is too large."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "no plain file", path)
    if found.st_size > MAX_FILE:
        raise OSError(errno.EFBIG, f"{found.st_size:,} bytes, more than {MAX_FILE:,}", path)
    return Path(path).read_bytes()


def problem_of_name(text: str) -> str:
    """Why a text cannot stand in a table; empty if it can."""
    if re.search("[\r\0]", text):  # a line feed is quoted in every table; these no CSV reader takes
        return "the name or its label holds a carriage return or a zero byte"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "the name or its label is not UTF-8"
    return ""


def printable(name: str) -> str:
    """A name with what no table can carry written as \\xfc or \\r."""
    return os.fsencode(name).decode("utf-8", "backslashreplace").replace("\r", "\\r").replace("\0", "\\0")


def suffix_of(path: str) -> str:
    """The suffix in small letters, with its dot; empty where there is none."""
    return posixpath.splitext(path)[1].lower()


def not_taken(paths: Iterable[str], suffixes: Collection[str]) -> list[tuple[str, str]]:
    """(path, reason), sorted, of those that are neither images by their suffix nor meant to lie beside images."""
    found = sorted(path for path in paths if suffix_of(path) not in {*suffixes, *BESIDE})
    return [(path, f"not taken for an image: {_kind(suffix_of(path))}") for path in found]


def counted_by_suffix(paths: Iterable[str]) -> str:
    """How many of each suffix, the most first: `12 of suffix .xyz, 3 without a suffix`."""
    return ", ".join(f"{count} {_kind(suffix)}" for suffix, count in Counter(map(suffix_of, paths)).most_common())


def _kind(suffix: str) -> str:
    return f"of suffix {suffix}" if suffix else "without a suffix"
