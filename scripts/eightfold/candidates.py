"""Which pictures a job is made of, what each is called and how it is labelled: from names and tables, no pixels."""

import csv
import difflib
import logging
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from eightfold.files import UserError
from eightfold.images import SUFFIXES
from eightfold.listing import LITTER

log = logging.getLogger("eightfold")


class Candidate(NamedTuple):
    """A row that the manifest may get. ``problem`` says why it cannot be used; empty: nothing is known against it."""

    id: str
    path: str  # relative to the data root, forward slashes
    split: str  # train, valid or test
    label: str = ""  # as written: one cell may name several classes
    problem: str = ""
    group: str = ""  # what must not be torn apart by the folds; empty: on its own
    fold: str = ""  # the fold that the user's own column gives


def listed(items: Collection[str], most: int = 10) -> str:
    """The first items one a line, and how many more there are: for error messages."""
    lines = [f"\n  {item}" for item in list(items)[:most]]
    return "".join(lines) + (f"\n  ... and {len(items) - most} more" if len(items) > most else "")


def split_labels(cell: str, separator: str | None) -> list[str]:
    """The class names in a label cell, each once. Without a separator the cell is one name, spaces and all."""
    if separator is None:
        return [cell] if cell else []
    return list(dict.fromkeys(name for part in cell.split(separator) if (name := part.strip())))


def natural_key(text: str) -> tuple:
    """Sort key by which 2.png comes before 10.png; the text itself decides between 01 and 1."""
    parts = re.split("([0-9]+)", text)
    parts[1::2] = map(int, parts[1::2])
    return parts, text


def find(data: dict, files: Collection[str]) -> list[Candidate]:
    """All rows in the manifest's order: train, valid, test. ``files``: every path below data.root, relative to it.

    Raises UserError naming file and line where the tables or folders do not say clearly which rows there are.
    """
    tests = _test(data, files)
    if data["source"] == "folders":
        labelled = _folders(data, files)
    else:
        labelled = _table(data, files, {test.path for test in tests})
    reasons = {row.path: _unsafe(row.path) or _unsafe(row.label) for row in labelled + tests}
    unsafe = [f"{path!a}: {reason}" for path, reason in reasons.items() if reason]
    if unsafe:
        raise UserError(f"{data['root']}: {len(unsafe)} names cannot be used; rename them:{listed(unsafe)}")
    both = {row.path for row in labelled} & {row.path for row in tests}
    if both:
        log.warning("Warning: %d pictures are both labelled and in the test set:%s", len(both), listed(sorted(both)))
    return labelled + tests


# ---- labelled rows


def _folders(data: dict, files: Collection[str]) -> list[Candidate]:
    """<train>/<class>/**, sorted by class and name, then <valid>/<class>/**. id: path without suffix."""
    root = Path(data["root"])
    rows = []
    for split in ("train", "valid"):
        name = data[split] or ("valid" if (root / "valid").is_dir() else None)
        if name is None:
            continue
        folder, paths = _pictures(data, files, split, name)
        found = []
        for path in paths:
            label, slash, _ = path.removeprefix(folder).partition("/")
            if slash:
                found.append(Candidate(_stem(path), path, split, label))
            else:
                found.append(Candidate(_stem(path), path, split, problem="no label: it lies in no class folder"))
        with os.scandir(root / name) as entries:
            classes = {entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."} - LITTER
        for label in classes - {row.label for row in found}:
            found.append(Candidate("", folder + label, split, label, "a class folder without a picture"))
        rows += sorted(found, key=lambda row: (row.label, row.path))
    _refuse_duplicates(data["root"], ((row.id, row.path) for row in rows if row.id), "rename one of each pair")
    return rows


def _table(data: dict, files: Collection[str], tests: set[str]) -> list[Candidate]:
    """The rows of the table of labels in its order, then the pictures of the train folder that it does not name."""
    if data["valid"] is not None:
        raise UserError("data.valid: only source folders has a folder of validation pictures; remove it, or see split")
    table = Path(data["root"], data["labels"])
    folder, pictures = _pictures(data, files, "train", data["train"])
    stems = {_stem(path): path for path in pictures}
    rows, lines = [], []
    extras = {key: data[key] for key in ("group", "fold") if data[key] is not None}
    wanted = {"labels": None, "id": data["id"], "label": data["label"]} | extras
    for line, (name, label, *extra) in _read_columns(table, wanted):
        path = _place(table, line, folder, name, data["suffix"])
        problem = "" if split_labels(label.strip(), data["separator"]) else "no label"
        if path not in files:
            other = stems.get(folder + name)
            problem = "no such file" + (f", but there is {other}: is data.suffix right?" if other else "")
        for key, cell in zip(extras, extra, strict=True):
            if not cell:
                raise UserError(
                    f"{table}: line {line}: column {data[key]!r} (data.{key}) is empty; every row needs one"
                )
        problem = problem and f"{table.name} line {line}: {problem}"
        rows.append(Candidate(name, path, "train", label.strip(), problem, **dict(zip(extras, extra, strict=True))))
        lines.append(f"line {line}")
    _refuse_duplicates(table, zip((row.id for row in rows), lines, strict=True), "keep one row of each id")
    # `a` and `./a` are two ids of one file.
    _refuse_duplicates(table, zip((row.path for row in rows), lines, strict=True), "keep one row of each picture")
    known = tests | {row.path for row in rows}
    for path in pictures:
        if path not in known:
            name = path.removeprefix(folder).removesuffix(data["suffix"])
            rows.append(Candidate(name, path, "train", problem=f"no label: {table.name} does not name it"))
    return rows


# ---- test rows


def _test(data: dict, files: Collection[str]) -> list[Candidate]:
    """The rows to predict, in the order of the sample submission where there is one."""
    root = Path(data["root"])
    name = data["test"]
    if name is None and data["source"] == "folders" and (root / "test").is_dir():
        name = "test"
    sample = root / data["sample_submission"] if data["sample_submission"] else None
    ids = _read_ids(sample, "sample_submission", None) if sample else None
    if name is not None and not name.endswith(".csv"):
        return _test_folder(data, files, name, sample, ids)
    if name is not None:
        table, given = root / name, _read_ids(root / name, "test", data["id"])
        if ids is None:
            ids = given
        _refuse_stale(sample, ids, table, given)
    elif ids is not None:
        table = sample
    else:
        return []
    folder = _prefix(data["test_images"] or data["train"])
    rows = []
    for line, name in ids:
        path = _place(table, line, folder, name, data["suffix"])
        problem = "" if path in files else f"{table.name} line {line}: no such file"
        rows.append(Candidate(name, path, "test", problem=problem))
    return rows


def _test_folder(data: dict, files: Collection[str], name: str, sample: Path | None, ids) -> list[Candidate]:
    """All pictures of the folder. id: what the sample calls them, else the stem, else the path without suffix."""
    folder, paths = _pictures(data, files, "test", name)
    paths.sort(key=natural_key)
    if ids is None:
        one_each = len({_stem(posixpath.basename(path)) for path in paths}) == len(paths)
        name_of: Callable[[str], str] = posixpath.basename if one_each else lambda path: path.removeprefix(folder)
        rows = [Candidate(_stem(name_of(path)), path, "test") for path in paths]
        _refuse_duplicates(Path(data["root"], name), ((row.id, row.path) for row in rows), "rename one of each pair")
        return rows
    found: dict[str, set[str]] = {}  # what a sample may call a picture -> the pictures
    for path in paths:
        inner = path.removeprefix(folder)
        for text in {inner, _stem(inner), posixpath.basename(inner), _stem(posixpath.basename(inner))}:
            found.setdefault(text, set()).add(path)
    # A name that two pictures share is no name: `_refuse_stale` then reports both sides.
    chosen = {text: next(iter(found[text])) for _, text in ids if len(found.get(text, ())) == 1}
    names = {path: text for text, path in chosen.items()}
    _refuse_stale(
        sample, ids, Path(data["root"], name), [(0, names.get(path, path.removeprefix(folder))) for path in paths]
    )
    return [Candidate(text, chosen[text], "test") for _, text in ids]


def _refuse_stale(sample: Path | None, ids: list[tuple[int, str]], other: Path, others: list[tuple[int, str]]) -> None:
    """Raise UserError unless the sample submission and the test set name the same pictures."""
    given, there = {name for _, name in ids}, {name for _, name in others}
    sides = [(sample, sorted(given - there, key=natural_key)), (other, sorted(there - given, key=natural_key))]
    parts = [f"\n{len(names)} only in {path}:{listed(list(map(repr, names)))}" for path, names in sides if names]
    if parts:
        raise UserError(
            f"{sample}: not the sample submission of the test pictures in {other}. Get the matching one, or correct "
            f"data.test or data.sample_submission.{''.join(parts)}"
        )


# ---- names


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0]


def _prefix(folder: str) -> str:
    """A folder as the start of the paths in it: `a//b/` -> `a/b/`, `.` -> ``."""
    folder = posixpath.normpath(folder)
    return "" if folder == "." else folder + "/"


def _pictures(data: dict, files: Collection[str], key: str, name: str) -> tuple[str, list[str]]:
    """(prefix, sorted paths of the pictures below the folder data.<key>). Raises UserError if there are none."""
    full, prefix = Path(data["root"], name), _prefix(name)
    if not full.is_dir():
        folders = sorted(entry.name for entry in Path(data["root"]).iterdir() if entry.is_dir())
        raise UserError(f"{full}: no such folder (data.{key}){_nearest(name, folders, 'folders')}")
    suffixes = SUFFIXES | {posixpath.splitext("x" + data["suffix"])[1].lower()} - {""}
    inside = [path for path in files if path.startswith(prefix)]
    pictures = sorted(path for path in inside if posixpath.splitext(path)[1].lower() in suffixes)
    if len(pictures) < len(inside):
        log.info("%s: %d files are no pictures by their suffix, ignored", full, len(inside) - len(pictures))
    # A table may name pictures of any suffix, so that only its rows can tell whether there are none.
    if not pictures and (data["source"] == "folders" or key == "test"):
        raise UserError(f"{full}: holds no picture (data.{key}); put pictures there, or correct the key")
    return prefix, pictures


def _place(table: Path, line: int, folder: str, name: str, suffix: str) -> str:
    """The path of the picture that a table calls ``name``. Raises UserError if it is empty or leaves the root."""
    if not name:
        raise UserError(f"{table}: line {line}: the id is empty; give it one or remove the line")
    if name.startswith("/") or ".." in name.split("/"):
        raise UserError(f"{table}: line {line}: the id {name!r} leads out of the data folder; ids are names below it")
    return posixpath.normpath(folder + name + suffix)


def _unsafe(path: str) -> str:
    """Why a text cannot stand in a table; empty if it can."""
    if re.search("[\r\n\0]", path):
        return "the name or its label holds a line break"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "the name or its label is not UTF-8"
    return ""


def _refuse_duplicates(where: object, names: Iterable[tuple[str, str]], remedy: str) -> None:
    """Raise UserError if two of (name, place) have the same name, naming both places."""
    places: dict[str, list[str]] = {}
    for name, place in names:
        places.setdefault(name, []).append(place)
    twice = [f"{name!r}: {' and '.join(several)}" for name, several in places.items() if len(several) > 1]
    if twice:
        raise UserError(f"{where}: {len(twice)} ids stand for more than one row; {remedy}:{listed(twice)}")


def _nearest(name: str, known: Collection[str], what: str) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; {what} there: {', '.join(map(repr, known)) or 'none'}"


# ---- tables


def _read_ids(path: Path, key: str, column: str | None) -> list[tuple[int, str]]:
    """(line, id) of a table; column None: the first. Raises UserError on a table without rows or with duplicates."""
    ids = [(line, cells[0]) for line, cells in _read_columns(path, {key: None, "id": column})]
    _refuse_duplicates(path, ((name, f"line {line}") for line, name in ids), "keep one row of each id")
    return ids


def _read_columns(path: Path, wanted: dict[str, str | None]) -> list[tuple[int, list[str]]]:
    """(line, cells) of a CSV in UTF-8. ``wanted``: the config key of the file first, then key -> column (None: first).

    Everything is text: 007, 1e5 and nan stay as written. Raises UserError naming file, line and key.
    """
    key, *columns = wanted
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            rows = [(reader.line_num, cells) for cells in reader if cells]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); data.{key} names it") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: not CSV ({error}); mend the line") from error
    if not rows:
        raise UserError(f"{path}: a table without rows (data.{key})")
    ragged = [f"line {line}: {len(cells)}" for line, cells in rows if len(cells) != len(header)]
    if ragged:
        raise UserError(f"{path}: the head has {len(header)} columns, these lines have not:{listed(ragged)}")
    picks = []
    for column in columns:
        name = wanted[column]
        count = Counter(header)[name] if name is not None else 1
        if count == 0:
            raise UserError(f"{path}: no column {name!r} (data.{column}){_nearest(name, header, 'columns')}")
        if count > 1:
            raise UserError(f"{path}: {count} columns are called {name!r} (data.{column}); rename the others")
        picks.append(0 if name is None else header.index(name))
    return [(line, [cells[pick] for pick in picks]) for line, cells in rows]
