"""What a folder of images is for: where its labels are, and what kind of images they are. Standard library only.

These are guesses, which a person is shown in the config that `config_text` writes of them.
"""

import csv
import os
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from eightfold.config import guess_kinds
from eightfold.core.files import UserError
from eightfold.core.listing import files_below

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".jp2", ".ppm", ".pgm")
SUFFIXES += (".heic", ".heif", ".jxl")  # the manifest says what they need
TRAIN, VALID, TEST = ("train", "training"), ("valid", "val", "validation"), ("test", "testing")
SAMPLE_ROWS = 5000  # of a table, which tell its columns
MEASURED = 200  # images whose size is looked at
ABOVE = ("satellite", "aerial", "planet", "amazon", "eurosat", "microscop", "histo", "cell", "patholog", "chip")
GRADES = ("diagnosis", "grade", "level", "severity", "stage", "rating", "score", "quality")
TEXT = ("digit", "mnist", "letter", "character", "ocr", "sign")


class Layout(NamedTuple):
    """``data``: the keys of the config's section that are not defaults; the rest describes what was seen."""

    data: dict
    task: str  # single or multi
    classes: list[str]
    labelled: int
    test: int
    size: int | None  # median of the short sides, pixels
    notes: list[str]


def infer(path: str | os.PathLike) -> Layout:
    """Look at a folder, or at a table within one. Raises UserError that says what was seen where nothing fits."""
    path = Path(path)
    root, wanted = (path.parent, path.name) if path.is_file() else (path, None)
    files = [name for name, size in files_below(root) if size >= 0]
    images = [name for name in files + guess_kinds.archived(root, files) if name.lower().endswith(SUFFIXES)]
    sample = _sample(root, [name for name in files if name.lower().endswith(".csv") and "/" not in name])
    found = guess_kinds.from_json(root, files, sample) if wanted is None else None
    if not images and found is None:
        raise UserError(f"{root}: no images below it ({len(files)} files); give the folder that holds the data")
    tables = [name for name in files if name.lower().endswith(".csv") and "/" not in name]
    if wanted is not None:
        tables = [wanted]
    if found is None and wanted is None:
        found = _folders(root, images)
    found = found or _csv(root, tables, images, chosen=wanted is not None)
    found = found or (_by_name(images, sample) or _bare(root, images) if wanted is None else None)
    if found is None:
        seen = ", ".join(sorted({name.split("/")[0] for name in files})[:8])
        raise UserError(
            f"{root}: neither folders of classes (train/<class>/<image>) nor a table of labels (.csv with a column "
            f"of image names), a COCO file or names that begin with their class was found; there are: {seen}"
        )
    data, classes, task, labelled, tested, notes = found
    return Layout(
        {"root": str(root), **data}, task, sorted(classes), len(labelled), len(tested), _size(root, labelled), notes
    )


def _below(images: Iterable[str], folder: str) -> list[str]:
    return [name for name in images if name.startswith(folder + "/")]


def _named(images: list[str], names: tuple[str, ...]) -> str | None:
    """The first folder at the top with one of these names, or such a beginning as test1 and test-jpg, most files first."""
    tops = Counter(name.split("/")[0] for name in images if "/" in name)
    exact = [top for top in tops if top.lower() in names]
    begins = [top for top in tops if top.lower().startswith(names) and top not in exact]
    return next(iter(exact + sorted(begins, key=lambda top: (-tops[top], top))), None)


def _classes_in(images: list[str], folder: str) -> set[str] | None:
    """The names of the folders in ``folder``, when every image lies directly in one of them and there are two."""
    parts = [name.removeprefix(folder + "/").split("/") for name in _below(images, folder)]
    names = {part[0] for part in parts}
    return names if len(names) > 1 and all(len(part) == 2 for part in parts) else None


def _folders(root: Path, images: list[str]):
    train = _named(images, TRAIN)
    notes = []
    classes = _classes_in(images, train) if train else None
    if classes is None:
        return None
    valid, test = _named(images, VALID), _named(images, TEST)
    data = {"source": "folders"}
    if train != "train":
        data["train"] = train
    if valid and _classes_in(images, valid):
        data["valid"] = valid
        notes.append(f"{valid}/ validates, in place of a split")
        strange = _classes_in(images, valid) - classes
        if strange:
            notes.append(f"{valid}/ has classes that {train}/ lacks: {', '.join(sorted(strange)[:5])}; fix that first")
    tested = _below(images, test) if test else []
    if tested:
        data["test"] = test
        sample = _sample(root, [name for name in os.listdir(root) if name.lower().endswith(".csv")])
        if sample:
            data["sample_submission"] = sample
    return data, classes, "single", _below(images, train), tested, notes


def _bare(root: Path, images: list[str]):
    """Folders of classes at the top, as most collections come. With a test folder among them they could not be kept apart."""
    tops = {name.split("/")[0] for name in images if "/" in name}
    aside = {top for top in tops if top.lower().startswith((*TRAIN, *VALID, *TEST))}
    classes = tops - aside
    if len(classes) < 2 or any(name.count("/") != 1 for name in images if name.split("/")[0] not in aside):
        return None
    if aside:
        raise UserError(
            f"{root}: its folders ({', '.join(sorted(classes)[:5])}, ...) look like classes, and {', '.join(sorted(aside))} "
            f"does not; put the classes one level deeper: into {root}/train"
        )
    note = "for images to predict, move the classes into train/, put those into test/, and ask again"
    return {"source": "folders", "train": "."}, classes, "single", images, [], [note]


def _by_name(images: list[str], sample: str | None):
    train, test = _named(images, TRAIN), _named(images, TEST)
    found = guess_kinds.by_name(_below(images, train)) if train else None
    if found is None:
        return None
    data = {"source": "filename", "pattern": found[0], "train": train}
    tested = _below(images, test) if test else []
    if tested:
        data["test"] = test
        if sample:
            data["sample_submission"] = sample
    return data, found[1], "single", _below(images, train), tested, []


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Head and first rows of a table. Raises UserError naming the file where it is not a table."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            head = next(reader, [])
            return head, [row for row, _ in zip(reader, range(SAMPLE_ROWS), strict=False) if len(row) == len(head)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable table ({error})") from error


def _sample(root: Path, tables: list[str]) -> str | None:
    return next((name for name in sorted(tables) if "sample" in name.lower()), None)


def _stems(images: list[str]) -> dict[str, dict[str, list[str]]]:
    """{folder: {stem: [suffix]}} of images, at any depth."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in images:
        folder, _, file = name.rpartition("/")
        stem, suffix = os.path.splitext(file)
        found.setdefault(folder, {}).setdefault(stem, []).append(suffix)
    return found


def _csv(root: Path, tables: list[str], images: list[str], chosen: bool):
    """The table, column and folder that agree best: the most ids of a column that are images of a folder."""
    stems, best = _stems(images), None
    for table in tables:
        if not chosen and "sample" in table.lower():
            continue
        head, rows = _rows(root / table)
        for column, name in enumerate(head):
            ids = [row[column] for row in rows]
            for folder, there in stems.items():
                bare = sum(one in there for one in ids)
                whole = sum(
                    os.path.splitext(one)[0] in there and os.path.splitext(one)[1] in there[os.path.splitext(one)[0]]
                    for one in ids
                )
                score = max(bare, whole)
                if score > 0.5 * len(ids) and len(head) > 1 and (best is None or score > best[0]):
                    best = score, table, name, column, folder, whole >= bare, head, rows
    if best is None:
        return None
    _, table, id_name, id_column, folder, whole, head, rows = best
    notes = []
    others = [number for number in range(len(head)) if number != id_column]
    marks = guess_kinds.flags(head, rows, others)
    label = marks[0] if marks else _label_column(head, rows, others)
    if label is None:
        raise UserError(f"{root / table}: no column of labels beside {id_name!r} (columns {', '.join(head)})")
    there = stems[folder]
    suffix = "" if whole else Counter(s for row in rows for s in there.get(row[id_column], [])).most_common(1)[0][0]
    cells = [row[label] for row in rows]
    separator = None if marks else _separator(cells)
    data = {"source": "csv", "labels": table, "id": id_name, "label": [head[n] for n in marks] or head[label]}
    group = guess_kinds.group_of(head, rows, [n for n in others if n != label and n not in marks])
    if group is not None:
        data["group"] = head[group]
        notes.append(f"images of one {head[group]} are kept together by the split")
    unused = [head[n] for n in others if n not in (label, group, *marks)]
    if unused:
        notes.append(f"other columns of {table} are not used: {', '.join(unused)[:80]}")
    if suffix:
        data["suffix"] = suffix
    if separator:
        data["separator"] = separator
    if not folder:
        raise UserError(f"{root}: the images lie beside {table}; move them into a folder of their own, such as train")
    if folder != "train":
        data["train"] = folder
    rest = [name for name in images if name.rpartition("/")[0] != folder]
    test = _named([name for name in rest if not name.startswith(folder + "/")], TEST)
    tested = _below(rest, test) if test else []
    sample = _sample(root, [name for name in os.listdir(root) if name.lower().endswith(".csv")])
    if tested:
        deeper = {name.rpartition("/")[0] for name in tested}
        data["test"] = deeper.pop() if len(deeper) == 1 else test
        if sample:
            data["sample_submission"] = sample
    elif listed := next((name for name in tables if name != table and name.lower().startswith(TEST)), None):
        data |= {"test": listed, "test_images": folder}  # a table of ids, whose images lie among the others
        tested = _rows(root / listed)[1]
        if sample:
            data["sample_submission"] = sample
    classes = {name for cell in cells for name in (cell.split(separator) if separator else [cell]) if name}
    several = separator is not None
    if not several and all(name.isdigit() for name in classes) and any(w in head[label].lower() for w in GRADES):
        data["ordered"] = True
    if marks:
        classes = {head[n] for n in marks}
        several = any(sum(float(row[n]) for n in marks) != 1 for row in rows)
    if len(rows) == SAMPLE_ROWS:
        notes.append(f"the classes are those of the table's first {SAMPLE_ROWS:,} rows")
    return data, classes, "multi" if several else "single", _below(images, folder), tested, notes


def _label_column(head: list[str], rows: list[list[str]], columns: list[int]) -> int | None:
    """The column that is called as labels are, else the one with the fewest different values (two at least)."""
    known = ("label", "labels", "class", "target", "tags", "category", "breed", "species")
    named = [number for number in columns if head[number].lower() in known]
    kinds = {number: len({row[number] for row in rows}) for number in columns}
    others = sorted((number for number in columns if 1 < kinds[number] < len(rows)), key=lambda number: kinds[number])
    return next(iter([number for number in named if kinds[number] > 1] + others), None)


def _separator(cells: list[str]) -> str | None:
    """What parts several labels of an image: a sign whose parts recur in other combinations; None where there is none.

    "cocker spaniel" always stands together, so its space is part of a name; "clear" goes with "road" here, "water" there.
    """
    for sign in (" ", "|", ";", ","):
        split = [cell.split(sign) for cell in cells]
        parts, wholes = {part for names in split for part in names}, set(cells)
        together = Counter(part for names in split for part in set(names))
        partners = {}
        for names in split:
            for part in names:
                partners.setdefault(part, set()).add(tuple(sorted(names)))
        mixed = [part for part in parts if len(partners[part]) > 1 and together[part] > 1]
        if any(len(names) > 1 for names in split) and len(parts) < len(wholes) + 1 and len(mixed) > 0.5 * len(parts):
            return sign
    return None


# ---- sizes


def _size(root: Path, images: list[str]) -> int | None:
    """Median of the short sides of some images, px; read off their headers, without decoding."""
    step = max(1, len(images) // MEASURED)
    sides = sorted(filter(None, (_short_side(root / name) for name in images[::step])))
    return sides[len(sides) // 2] if sides else None


def _short_side(path: Path) -> int | None:
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        with Image.open(path) as image:
            return min(image.size)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
        return None  # the manifest will say so


def preset_for(layout: Layout) -> tuple[str, str]:
    """The augmentation preset, and why."""
    words = " ".join([layout.data["root"], *layout.classes[:50]]).lower()
    if any(word in words for word in ABOVE):
        return "top_down", "the names speak of images from above, which have no upright"
    if any(word in words for word in TEXT) or all(name.isdigit() or len(name) == 1 for name in layout.classes):
        return "basic", "the classes look like signs, which mean something else in a mirror"
    return "side_on", "photographs, which may be mirrored left to right"
