"""What lies below a folder, fast enough to ask whenever the Snakefile is parsed. Standard library only."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from eightfold.core.files import UserError, digest, file_digest, fingerprint

# What Windows, macOS, a NAS and Linux leave behind, in small letters; hidden names (.DS_Store, .ipynb_checkpoints, ._x.jpg) too.
LITTER = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "__macosx", "icon\r"}
    | {"@eadir", "#recycle", "@recycle", "#snapshot", "lost+found"}
)
NOTES = frozenset(
    {".txt", ".md", ".rst", ".pdf", ".html", ".docx", ".log", ".ipynb", ".py", ".sh"}
)  # no images, no tables
LARGE = 64 * 2**20  # bytes, a tenth of a second to read


class Entry(NamedTuple):
    """A file below a folder: its path relative to that with forward slashes, its bytes, its time of change (ns)."""

    name: str
    size: int
    mtime_ns: int


def files_below(root: str | os.PathLike) -> Iterator[tuple[str, int]]:
    """Yield (path relative to ``root`` with forward slashes, bytes) of every file below it, in no special order; see `entries_below`."""
    return ((name, size) for name, size, _ in entries_below(root))


def entries_below(root: str | os.PathLike) -> Iterator[Entry]:
    """Yield every file below a folder, in no special order.

    Litter (`is_litter`) is left out, links are followed; a dangling link, a pipe and a device count as files of -1 bytes.
    Raises UserError naming a folder that is missing or unreadable, or a link that leads back into itself.
    """
    folders = [("", os.fspath(root), ())]  # (prefix of the relative paths, folder, link targets on the way to it)
    while folders:
        prefix, folder, links = folders.pop()
        try:
            with os.scandir(folder) as found:
                entries = [entry for entry in found if not is_litter(entry.name)]
        except FileNotFoundError as error:
            raise UserError(f"{folder}: no such folder; set data.root to the folder that holds the data") from error
        except OSError as error:
            raise UserError(f"{folder}: cannot be read as a folder ({error.strerror})") from error
        for entry in entries:
            name = prefix + entry.name
            if is_folder(entry):
                inner = links
                if entry.is_symlink():
                    target = os.path.realpath(entry.path)
                    if target in links:
                        raise UserError(f"{entry.path}: a link that leads back into itself; remove it")
                    inner = (*links, target)
                folders.append((name + "/", entry.path, inner))
            else:
                yield Entry(name, *_size_and_time(entry))


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is nobody's data: hidden, or left behind by a system."""
    return name.startswith(".") or name.lower() in LITTER


def data_files(data: Mapping) -> list[Entry]:
    """The files below the ``root`` of a config's data, sorted, but for notes of people, unless the config names them."""
    named = {os.path.normpath(value) for value in data.values() if isinstance(value, str)}
    found = entries_below(data["root"])
    return sorted(e for e in found if os.path.splitext(e.name)[1].lower() not in NOTES or e.name in named)


def listing_digest(root: str | os.PathLike, entries: Iterable[Entry] | None = None) -> str:
    """32 hex digits that identify the names and sizes of the files below ``root``, not their times.

    Tables (.csv, .json) count with their content, because a corrected label often leaves the size as it was; of one
    too large to be read again and again, a sample. An archive counts by its own name and size.
    ``entries``: what is below ``root``, where that is known.
    Raises UserError like ``files_below``.
    """
    result = hashlib.blake2b(digest_size=16)
    for name, size, _ in sorted(entries_below(root) if entries is None else entries):
        content = _content(os.path.join(root, name), size) if name.endswith((".csv", ".json")) and size >= 0 else ""
        result.update(os.fsencode(f"{name}\0{size}\0{content}\0"))
    return result.hexdigest()


def finished_runs(results: str | os.PathLike) -> dict[str, str]:
    """{folder of a run that has its metrics.json: digest of the small files that a comparison reads}, sorted."""
    found = {}
    for metrics in sorted(Path(results).glob("*/metrics.json")):
        run = metrics.parent
        names = ["metrics.json", "config.json", "timings.csv", "review/tables.json"]
        paths = [*(run / name for name in names), *sorted(run.glob("fold*/*/history.csv"))]
        found[run.as_posix()] = digest([[str(path), file_digest(path)] for path in paths if path.is_file()])
    return found


def _content(path: str, size: int) -> str:
    """What a table holds; nothing for one that may not be read, which the job that needs it says."""
    try:
        return fingerprint(path) if size > LARGE else file_digest(path)
    except OSError:
        return ""


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder, or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _size_and_time(entry: os.DirEntry) -> tuple[int, int]:
    try:
        found = entry.stat()
    except OSError:  # a dangling link, or one to itself
        return -1, -1
    if not stat.S_ISREG(found.st_mode):  # who opens a pipe waits for its other end; /dev/zero has no end
        return -1, -1
    return found.st_size, found.st_mtime_ns
