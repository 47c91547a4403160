"""Are the files of the data root still those that the manifest was made of? By content, at the price of names and sizes.

The manifest's job writes an index: of each file its size, its time and its digest. Whoever parses the Snakefile reads a file again
only where its size or time is another, as git does. A file that was only touched keeps its digest, and its new time is noted.
Standard library only: the Snakefile imports it.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eightfold.core.files import file_digest, fingerprint, replacing
from eightfold.core.listing import Entry

RACY_NS = 2_000_000_000  # a file this young may be written again within one tick of its file system's clock
HUGE = 2**34  # bytes; of a larger file, which takes minutes to read, a sample counts
READERS = 8  # files read at a time; the interpreter's lock is released meanwhile


def write_index(
    path: str | os.PathLike, root: str, entries: Iterable[Entry], known: Mapping[str, str], progress
) -> None:
    """Write the index of ``entries``, as they were listed before any of them was read.

    known: {name: sha256} of those that the caller has read; the others are read here. ``progress`` wraps an iteration, as
    `core.runtime.progress` does.
    """
    entries = [entry for entry in entries if entry.size >= 0]  # a dangling link has no content
    missing = [entry.name for entry in entries if entry.name not in known]
    digests = {**known, **dict(zip(missing, _read(root, missing, progress), strict=True))}
    _write(path, entries, {entry.name: [entry.size, entry.mtime_ns, digests[entry.name]] for entry in entries})


def changed_files(path: str | os.PathLike, root: str, entries: list[Entry], progress) -> list[str]:
    """Names of the files that are in the index with other content; sorted. Files that were only touched are noted there.

    Files that came or went are no matter of this: the listing has them. Empty where there is no index.
    """
    if not entries:
        return []
    try:
        stamp, _, text = Path(path).read_text(encoding="utf-8", errors="surrogateescape").partition("\n")
        if stamp == _stamp(entries):
            return []
        index = json.loads(text)
    except (OSError, ValueError):
        return []
    doubtful = [
        entry for entry in entries if entry.name in index and index[entry.name][:2] != [entry.size, entry.mtime_ns]
    ]
    resized = {entry.name for entry in doubtful if entry.size != index[entry.name][0]}
    to_read = [entry for entry in doubtful if entry.name not in resized]
    found = zip(to_read, _read(root, [entry.name for entry in to_read], progress), strict=True)
    same = {entry.name: entry for entry, digest in found if digest == index[entry.name][2]}
    if same:
        index |= {name: [entry.size, entry.mtime_ns, index[name][2]] for name, entry in same.items()}
        _write(path, entries, index)
    return sorted(entry.name for entry in doubtful if entry.name not in same)


def summary(root: str, changed: list[str]) -> str:
    """What has changed, for a person; empty where nothing has."""
    if not changed:
        return ""
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{root}/{changed[0]}{more}: not the content that the manifest was made of; it is made again."


def say_if_long(items: Iterable, total: int, label: str) -> Iterator:
    """Iterate, and say every ten seconds how far it is: for the Snakefile, where nothing else shows that it works."""
    last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > 10:
            last = time.monotonic()
            print(f"{label}, whose times have changed: {done:,} of {total:,}", file=sys.stderr, flush=True)


def _read(root: str, names: list[str], progress: Callable[..., Iterable]) -> list[str]:
    """sha256 of each file, a sample's digest of a HUGE one; empty for one that cannot be read."""

    def digest(name: str) -> str:
        path = os.path.join(root, name)
        try:
            return fingerprint(path) if os.path.getsize(path) > HUGE else file_digest(path, "sha256")
        except OSError:
            return ""

    with ThreadPoolExecutor(READERS) as pool:
        return list(progress(pool.map(digest, names), len(names), "reading the data's files"))


def _stamp(entries: Iterable[Entry]) -> str:
    """The digest of all names, sizes and times: equal where no file has to be looked at."""
    text = "\0".join(f"{name}\0{size}\0{mtime}" for name, size, mtime in entries if size >= 0)
    return hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest()


def _write(path: str | os.PathLike, entries: list[Entry], index: dict[str, list]) -> None:
    """The stamp on the first line, so that a parse that finds nothing new reads no more than that."""
    now = time.time_ns()
    racy = [name for name, (_, mtime, _) in index.items() if now - mtime < RACY_NS]
    index = {**index, **{name: [index[name][0], -1, index[name][2]] for name in racy}}
    settled = all(index.get(e.name, [None])[:2] == [e.size, e.mtime_ns] for e in entries if e.size >= 0)
    with replacing(path) as temporary:
        text = f"{_stamp(entries) if settled else ''}\n{json.dumps(index)}\n"
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
