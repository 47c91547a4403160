"""Which images a job is made of, what each is called and how it is labelled: from names and tables, no pixels."""

import logging
import os
import posixpath
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from eightfold.config.schema import is_table
from eightfold.core.files import UserError
from eightfold.core.listing import is_folder, is_litter
from eightfold.core.ordering import natural_key
from eightfold.core.wording import listed
from eightfold.raw import tables
from eightfold.raw.images import SUFFIXES
from eightfold.raw.patterns import searching
from eightfold.raw.stores import Store
from eightfold.raw.strangers import counted_by_suffix, not_taken, problem_of_name, suffix_of
from eightfold.raw.tables import Row, nearest, refuse_duplicates

log = logging.getLogger("eightfold")


class Candidate(NamedTuple):
    """A row that the manifest may get. ``problem`` says why it cannot be used; empty: nothing is known against it."""

    id: str
    path: str  # relative to the data root, forward slashes
    split: str  # train, valid or test
    labels: tuple[str, ...] = ()
    problem: str = ""
    group: str = ""  # what must not be torn apart by the folds; empty: on its own
    fold: str = ""  # the fold that the user's own column gives


class Found(NamedTuple):
    """``rows``: all, in the manifest's order (train, valid, test). ``separator``: what joins several labels of a row, None: each
    has one. ``not_taken``: (path, split, reason) of the files among the images that are not images by their suffix."""

    rows: list[Candidate]
    separator: str | None
    not_taken: list[tuple[str, str, str]]


def find(data: dict, store: Store) -> Found:
    """The rows of a job.

    Raises UserError naming file and line where the tables or folders do not say clearly which rows there are.
    """
    keys = ("train", "valid", "test", "test_images")
    files = store.files(data[key] for key in keys if data[key] is not None and not is_table(data, data[key]))
    places = _Places(data, store, files)
    tests = _test(places)
    if data["source"] in ("folders", "filename"):
        labelled, label_separator = _named(places), None
    else:
        labelled, label_separator = _tabled(places, {test.path for test in tests})
    reasons = {row.path: problem_of_name("".join((row.path, row.id, *row.labels))) for row in labelled + tests}
    unsafe = [f"{path!a}: {reason}" for path, reason in reasons.items() if reason]
    if unsafe:
        raise UserError(f"{data['root']}: {len(unsafe)} names cannot be used; rename them:{listed(unsafe)}")
    both = {row.path for row in labelled} & {row.path for row in tests}
    if both:
        log.warning("Warning: %d images are both labelled and in the test set:%s", len(both), listed(sorted(both)))
    return Found(labelled + tests, label_separator, places.not_taken({row.path for row in labelled + tests}))


class _Places:
    """Where the images of a job are. ``files``: every path below data.root, relative to it."""

    def __init__(self, data: dict, store: Store, files: set[str]):
        self.data, self.store, self.files, self.root = data, store, files, Path(data["root"])
        self.suffixes = SUFFIXES | {posixpath.splitext("x" + data["suffix"])[1].lower()} - {""}
        self._inner: dict[str, dict[str, list[str]]] = {}
        self._others: dict[str, tuple[str, str]] = {}  # path -> (split, reason)

    def images(self, key: str, name: str) -> tuple[str, list[str]]:
        """(prefix, sorted paths of the images below the folder data.<key>). Raises UserError if there are none."""
        full, prefix = self.root / name, _prefix(name)
        if not self.store.is_folder(name):
            hint = nearest(name, self.store.folders(), "folders")
            raise UserError(f"{full}: no such folder (data.{key}){hint}")
        inside = [path for path in self.files if path.startswith(prefix)]
        found = sorted(path for path in inside if self.is_image(path))
        others = not_taken((path for path in inside if not self.is_image(path)), self.suffixes)
        self._others |= {path: (key, reason) for path, reason in others}
        # A table may name images of any suffix, so that only its rows can tell whether there are none.
        if not found and (self.data["source"] in ("folders", "filename") or key == "test"):
            raise UserError(f"{full}: holds no image (data.{key}); put images there, or correct the key")
        return prefix, found

    def not_taken(self, used: Collection[str]) -> list[tuple[str, str, str]]:
        """(path, split, reason) of the files in the folders of images that no row is of, with a warning that counts them."""
        found = [(path, split, reason) for path, (split, reason) in self._others.items() if path not in used]
        for split in dict.fromkeys(split for _, split, _ in found):
            paths = [path for path, other, _ in found if other == split]
            log.warning(
                "Warning: %s: %d files are not taken for images: %s. They are listed in rejected.csv; give images their usual "
                "suffix, or name the suffix by data.suffix",
                self.root / (self.data[split] or split),
                len(paths),
                counted_by_suffix(paths),
            )
        return found

    def is_image(self, path: str) -> bool:
        return self.store.holds_arrays(posixpath.dirname(path)) or suffix_of(path) in self.suffixes

    def of_row(self, table: Path, row: Row, folder: str) -> tuple[str, str]:
        """(path of the image that a row of a table means, what is wrong with it).

        That is the id with the suffix; or the id as it stands; or the one file of that name in a folder below. Raises
        UserError if the id is empty or leaves the root.
        """
        name, suffix = row.file or row.id, "" if row.file else self.data["suffix"]
        if not name or not row.id:
            raise UserError(f"{table}: {row.place}: the id is empty; give it one or remove the {row.place.split()[0]}")
        if name.startswith("/") or ".." in name.split("/"):
            what = f"the file name {name!r}" if row.file else f"the id {name!r}"
            raise UserError(f"{table}: {row.place}: {what} leads out of the data folder; ids are names below it")
        full, bare = posixpath.normpath(folder + name + suffix), posixpath.normpath(folder + name)
        for path in (full, bare):
            if path in self.files:
                return path, ""
        deeper = [path for path in self._below(folder).get(name + suffix, []) if path.endswith("/" + name + suffix)]
        if len(deeper) == 1:
            return deeper[0], ""
        if deeper:
            return full, f"{len(deeper)} files have this name: {', '.join(sorted(deeper)[:3])}"
        alike = self._below(folder).get(posixpath.splitext(name)[0], [])
        other = next((path for path in alike if _stem(path) == _stem(bare) or len(alike) == 1), "")
        hint = f", but there is {other}: is data.suffix right?" if other else ""
        if not other and name != name.strip():
            hint = f": the id {name!r} has spaces at its ends"
        return full, f"no such file{hint}"

    def _below(self, folder: str) -> dict[str, list[str]]:
        """File name, with and without its suffix -> the paths below a folder that have it."""
        if folder not in self._inner:
            self._inner[folder] = found = {}
            for path in self.files:
                if path.startswith(folder):
                    name = posixpath.basename(path)
                    for text in {name, _stem(name)}:
                        found.setdefault(text, []).append(path)
        return self._inner[folder]


# ---- labelled rows


def _named(places: _Places) -> list[Candidate]:
    """Rows of the train folder, then of the valid folder, whose labels are in the names of folders or of files."""
    data = places.data
    if data["source"] == "filename":
        with searching(data["pattern"]) as search:
            return _named_rows(places, lambda path, split, folder: _from_pattern(path, split, folder, search))
    return _named_rows(places, _from_folder)


def _named_rows(places: _Places, row_of: Callable[[str, str, str], Candidate]) -> list[Candidate]:
    """``row_of``: the row of (path, split, prefix of the folder)."""
    data = places.data
    rows = []
    for split in ("train", "valid"):
        name = data[split] or ("valid" if data["source"] == "folders" and (places.root / "valid").is_dir() else None)
        if name is None:
            continue
        folder, paths = places.images(split, name)
        found = [row_of(path, split, folder) for path in paths]
        if data["source"] == "folders":
            found += _empty_classes(places.root, name, split, {label for row in found for label in row.labels})
        rows += sorted(found, key=lambda row: (row.labels, row.path))
    refuse_duplicates(data["root"], ((row.id, row.path) for row in rows if row.id), "rename one of each pair")
    return rows


def _from_folder(path: str, split: str, folder: str) -> Candidate:
    """<folder>/<class>/**: id is the path without suffix."""
    label, slash, _ = path.removeprefix(folder).partition("/")
    if slash:
        return Candidate(_stem(path), path, split, (label,))
    return Candidate(_stem(path), path, split, problem="no label: it lies in no class folder")


def _from_pattern(path: str, split: str, folder: str, search: Callable[[str], re.Match | None]) -> Candidate:
    """By data.pattern: id is the path below the folder, or its group id."""
    inner = path.removeprefix(folder)
    match = search(inner)
    if match is None:
        return Candidate(_stem(inner), path, split, problem=f"no label: {inner!r} does not match data.pattern")
    groups = {key: value or "" for key, value in match.groupdict().items()}
    problem = "" if groups["label"].strip() else f"no label: the group `label` of data.pattern is empty for {inner!r}"
    labels = (groups["label"].strip(),) if not problem else ()
    return Candidate(
        groups.get("id") or _stem(inner), path, split, labels, problem, groups.get("group", ""), groups.get("fold", "")
    )


def _empty_classes(root: Path, name: str, split: str, known: set[str]) -> list[Candidate]:
    """A row for each class folder without an image, so that nobody trains without a class that is there."""
    if not (root / name).is_dir():
        return []
    with os.scandir(root / name) as entries:
        classes = {entry.name for entry in entries if is_folder(entry) and not is_litter(entry.name)}
    return [
        Candidate("", _prefix(name) + label, split, (label,), "a class folder without an image")
        for label in classes - known
    ]


def _tabled(places: _Places, tests: set[str]) -> tuple[list[Candidate], str | None]:
    """(the rows of the tables of labels in their order, then the images of the train folder that they do not name,
    what joins several labels)."""
    data, root = places.data, places.root
    if data["valid"] is not None and not is_table(data, data["valid"]):
        raise UserError(
            "data.valid: with a table of labels, validation rows come in a table too (.csv, .json); give one, remove the "
            "key, or see split"
        )
    listings = [("labels", "train")] + [("valid", "valid")] * (data["valid"] is not None)
    found = {key: tables.rows(places.store, data, key, labelled=True) for key, _ in listings}
    label_separator = tables.separator(data, [row for rows in found.values() for row in rows])
    folder, images = places.images("train", data["train"])
    rows, stands = [], []
    for key, split in listings:
        table = root / data[key]
        for row in found[key]:
            path, problem = places.of_row(table, row, folder)
            if not problem and not row.labels and (label_separator is None or label_separator == data["separator"]):
                problem = "no label"
            problem = problem and f"{table.name} {row.place}: {problem}"
            rows.append(Candidate(row.id, path, split, row.labels, problem, row.group, row.fold))
            stands.append(row.place if split == "train" else f"{table.name} {row.place}")
    table = root / data["labels"]
    refuse_duplicates(table, zip((row.id for row in rows), stands, strict=True), "keep one row of each id")
    # `a` and `./a`, and with data.suffix .jpg `a` and `a.jpg`, are two ids of one file.
    refuse_duplicates(table, zip((row.path for row in rows), stands, strict=True), "keep one row of each image")
    known = tests | {row.path for row in rows}
    for path in images:
        if path not in known:
            name = path.removeprefix(folder).removesuffix(data["suffix"])
            rows.append(Candidate(name, path, "train", problem=f"no label: {table.name} does not name it"))
    return rows, label_separator


# ---- test rows


def _test(places: _Places) -> list[Candidate]:
    """The rows to predict, in the order of the sample submission where there is one."""
    data, root = places.data, places.root
    name = data["test"]
    if name is None and data["source"] == "folders" and (root / "test").is_dir():
        name = "test"
    sample = root / data["sample_submission"] if data["sample_submission"] else None
    rows = tables.rows(places.store, data, "sample_submission", labelled=False) if sample else None
    if name is not None and not is_table(data, name):
        return _test_folder(places, name, sample, rows)
    if name is not None:
        table, given = root / name, tables.rows(places.store, data, "test", labelled=False)
        if rows is not None:
            _refuse_stale(sample, rows, table, {row.id: row.place for row in given})
        # The list may tell where an image is, the sample only its id.
        by_id = {row.id: row for row in given}
        rows = given if rows is None else [by_id[row.id] for row in rows]
    elif rows is not None:
        table = sample
    else:
        return []
    folder = _prefix(data["test_images"] or data["train"])
    tests = []
    for row in rows:
        path, problem = places.of_row(table, row, folder)
        tests.append(Candidate(row.id, path, "test", problem=problem and f"{table.name} {row.place}: {problem}"))
    refuse_duplicates(
        table, ((test.path, row.place) for test, row in zip(tests, rows, strict=True)), "keep one row of each image"
    )
    return tests


def _test_folder(places: _Places, name: str, sample: Path | None, rows: list[Row] | None) -> list[Candidate]:
    """All images of the folder. id: what the sample calls them, else the stem, else the path without suffix."""
    folder, paths = places.images("test", name)
    paths.sort(key=natural_key)

    def stem(path: str) -> str:
        return path if places.store.holds_arrays(folder) else _stem(path)

    if rows is None:
        one_each = len({stem(posixpath.basename(path)) for path in paths}) == len(paths)
        name_of: Callable[[str], str] = posixpath.basename if one_each else lambda path: path.removeprefix(folder)
        tests = [Candidate(stem(name_of(path)), path, "test") for path in paths]
        refuse_duplicates(places.root / name, ((row.id, row.path) for row in tests), "rename one of each pair")
        return tests
    found: dict[str, set[str]] = {}  # what a sample may call an image -> the images
    for path in paths:
        inner = path.removeprefix(folder)
        for text in {inner, stem(inner), posixpath.basename(inner), stem(posixpath.basename(inner))}:
            found.setdefault(text, set()).add(path)
    # A name that two images share is not a name: `_refuse_stale` then reports both sides.
    chosen = {row.id: next(iter(found[row.id])) for row in rows if len(found.get(row.id, ())) == 1}
    refuse_duplicates(sample, ((path, repr(text)) for text, path in chosen.items()), "keep one row of each image")
    names = {path: text for text, path in chosen.items()}
    there = {names.get(path, path.removeprefix(folder)): "" for path in paths}
    _refuse_stale(sample, rows, places.root / name, there)
    return [Candidate(row.id, chosen[row.id], "test") for row in rows]


def _refuse_stale(sample: Path, rows: list[Row], other: Path, there: dict[str, str]) -> None:
    """Raise UserError unless the sample submission and the test set name the same images. there: by name, its place or ''."""
    given = {row.id: row.place for row in rows}
    lone = [sorted(given.keys() - there.keys(), key=natural_key), sorted(there.keys() - given.keys(), key=natural_key)]
    parts = [
        f"\n{len(names)} only in {path}:{listed([f'{name!r} ({place[name]})' if place[name] else repr(name) for name in names])}"
        for path, names, place in ((sample, lone[0], given), (other, lone[1], there))
        if names
    ]
    if parts:
        bare = {_bare(name): name for name in lone[1]}
        near = next(((name, bare[_bare(name)]) for name in lone[0] if _bare(name) in bare), None)
        hint = f" {near[0]!r} and {near[1]!r} differ only in spaces, case, suffix or folder." if near else ""
        raise UserError(
            f"{sample}: not the sample submission of the test images in {other}. Get the matching one, or correct "
            f"data.test or data.sample_submission.{hint}{''.join(parts)}"
        )


# ---- names


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0]


def _bare(name: str) -> str:
    """What a name and its other spelling share: no folder, suffix, case, or spaces at the ends."""
    return _stem(posixpath.basename(name).strip()).casefold().strip()


def _prefix(folder: str) -> str:
    """A folder as the start of the paths in it: `a//b/` -> `a/b/`, `.` -> ``."""
    folder = posixpath.normpath(folder)
    return "" if folder == "." else folder + "/"
