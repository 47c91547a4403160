"""Tables of images, whatever file they come in (CSV, JSON records, COCO, a .npy of labels), as rows of text.

Everything is text: 007, 1e5, nan and numbers of 20 digits stay as written.
"""

import csv
import difflib
import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eightfold.core.files import UserError
from eightfold.core.wording import listed
from eightfold.inputs.dataset import split_labels
from eightfold.raw.stores import Store, cell_text

log = logging.getLogger("eightfold")

ONES, ZEROS = {"1", "1.0", "True", "true"}, {"0", "0.0", "False", "false", ""}
JOINTS = "|;,/~\t"  # what may join the labels of one image where the data have no separator of their own


class Row(NamedTuple):
    """An image as a table has it. ``place``: where it stands, for messages; ``file``: its path, if the table has it."""

    place: str
    id: str
    labels: tuple[str, ...] = ()
    group: str = ""
    fold: str = ""
    file: str = ""


class Table(NamedTuple):
    """``cells`` of the wanted columns of a table: (place, a text for each column) a row."""

    head: list[str]
    rows: list[tuple[str, list[str]]]


def rows(store: Store, data: dict, key: str, labelled: bool) -> list[Row]:
    """The rows of the table that data.<key> names, ids unique. Raises UserError naming file, place and key."""
    path = data[key]
    table = Path(store.root, path)
    if data["source"] == "coco" and path.endswith(".json"):
        found = _coco(store, data, key, labelled)
    elif not labelled:
        column = None if key == "sample_submission" else data["id"]
        found = [Row(place, cells[0]) for place, cells in columns(store, data, key, {"id": column})]
    else:
        found = _labelled(store, data, key)
    refuse_duplicates(table, ((row.id, row.place) for row in found), "keep one row of each id")
    return found


def separator(data: dict, labelled: Collection[Row]) -> str | None:
    """What joins the labels of an image, None where each has one: the task is then single-label.

    The config decides by data.separator or data.multi. Without them a table of a column per class, or of annotations, is
    of one label where no image has several and, for columns, none has no label at all.
    """
    if data["separator"] is not None:
        return data["separator"]
    counts = Counter(len(row.labels) for row in labelled)
    many, several = data["multi"], sorted(number for number in counts if number > 1)
    if many is None:
        many = bool(several) or (isinstance(data["label"], list) and 0 in counts)
        if isinstance(data["label"], list) or data["source"] == "coco":
            log.info(
                "labels per image: %s, so the job is %s-label",
                dict(sorted(counts.items())),
                "multi" * many or "single",
            )
    if not many and several:
        first = [f"{row.place}: {', '.join(row.labels)}" for row in labelled if len(row.labels) > 1]
        raise UserError(
            f"{Path(data['root'], data['labels'])}: {len(first)} images have several labels, but data.multi is false; "
            f"set it to true or null:{listed(first)}"
        )
    if not many:
        return None
    names = {name for row in labelled for name in row.labels}
    free = [separator for separator in JOINTS if not any(separator in name for name in names)]
    if not free:
        raise UserError(f"{data['root']}: the class names hold each of {JOINTS!r}; rename a class, so that one is free")
    return free[0]


# ---- CSV and records


def _labelled(store: Store, data: dict, key: str) -> list[Row]:
    """The rows of a table with its labels: one cell, or a column of 0 and 1 for each class."""
    several = isinstance(data["label"], list)
    names = data["label"] if several else [data["label"]]
    extras = [name for name in ("group", "fold") if data[name] is not None]
    wanted = {"id": data["id"]} | {(f"label[{i}]" if several else "label"): name for i, name in enumerate(names)}
    found = []
    for place, cells in columns(store, data, key, wanted | {name: data[name] for name in extras}):
        name, cells, extra = (
            cells[0],
            cells[1 : 1 + len(names)],
            dict(zip(extras, cells[1 + len(names) :], strict=True)),
        )
        for column, cell in extra.items():
            if not cell:
                raise UserError(
                    f"{Path(store.root, data[key])}: {place}: column {data[column]!r} (data.{column}) is empty; every "
                    f"row needs one"
                )
        if several:
            strange = [
                f"{cell!r} in column {label!r}"
                for label, cell in zip(names, cells, strict=True)
                if cell not in ONES | ZEROS
            ]
            if strange:
                raise UserError(
                    f"{Path(store.root, data[key])}: {place}: {strange[0]}, where 0 or 1 is wanted; data.label lists "
                    f"columns of them"
                )
            labels = tuple(label for label, cell in zip(names, cells, strict=True) if cell in ONES)
        else:
            labels = split_labels(cells[0].strip(), data["separator"])
        found.append(Row(place, name, labels, extra.get("group", ""), extra.get("fold", "")))
    return found


def columns(store: Store, data: dict, key: str, wanted: dict[str, str | None]) -> list[tuple[str, list[str]]]:
    """(place, cells) of the ``wanted`` columns: config key below data -> name (None: the first)."""
    path = data[key]
    table = Path(store.root, path)
    read: Callable = {".json": _records, ".npy": _numbers, ".bson": _documents}.get(table.suffix, _csv)
    head, found = read(store, path, key)
    if not found:
        raise UserError(f"{table}: a table without rows (data.{key})")
    picks = []
    for column, name in wanted.items():
        count = Counter(head)[name] if name is not None else 1
        if count == 0:
            raise UserError(f"{table}: no column {name!r} (data.{column}){nearest(name, head, 'columns')}")
        if count > 1:
            raise UserError(f"{table}: {count} columns are called {name!r} (data.{column}); rename the others")
        picks.append(0 if name is None else head.index(name))
    return [(place, [cells[pick] for pick in picks]) for place, cells in found]


def _csv(store: Store, path: str, key: str) -> Table:
    """A CSV in UTF-8; empty lines count for nothing."""
    table = Path(store.root, path)
    try:
        text = store.read(path).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        head = next(reader, [])
        found = [(f"line {reader.line_num}", cells) for cells in reader if cells]
    except OSError as error:
        raise UserError(f"{table}: cannot be read ({error.strerror}); data.{key} names it") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{table}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{table}: line {reader.line_num}: not CSV ({error}); fix the line") from error
    ragged = [f"{place}: {len(cells)}" for place, cells in found if len(cells) != len(head)]
    if ragged:
        raise UserError(f"{table}: the head has {len(head)} columns, these lines have not:{listed(ragged)}")
    return Table(head, found)


def _records(store: Store, path: str, key: str) -> Table:
    """A JSON list of records that all have the same keys."""
    table = Path(store.root, path)
    try:
        records = store.records(path)
    except OSError as error:
        raise UserError(f"{table}: cannot be read ({error.strerror}); data.{key} names it") from error
    head = list(records[0]) if records else []
    for number, record in enumerate(records, 1):
        if record.keys() != set(head):
            odd = sorted(record.keys() ^ set(head))[0]
            raise UserError(f"{table}: record {number} and record 1 have not the same keys: {odd!r}")
    plain = [name for name in head if not isinstance(records[0][name], list | dict | np.ndarray)]
    return Table(
        plain, [(f"record {n}", [cell_text(record[name]) for name in plain]) for n, record in enumerate(records, 1)]
    )


def _numbers(store: Store, path: str, key: str) -> Table:
    """A one-dimensional .npy file of labels: columns id, the number of the row, and label."""
    table = Path(store.root, path)
    try:
        labels = np.lib.format.read_array(io.BytesIO(store.read(path)), allow_pickle=False)
    except Exception as error:  # its header is read as Python, and raises whatever that can raise
        raise UserError(f"{table}: cannot be read as a .npy file ({error}); data.{key} names it") from error
    if labels.ndim != 1:
        raise UserError(f"{table}: an array of shape {labels.shape}; a label an image is wanted (data.{key})")
    return Table(["id", "label"], [(f"row {n}", [str(n), cell_text(label)]) for n, label in enumerate(labels)])


def _documents(store: Store, path: str, key: str) -> Table:
    """The plain fields of a BSON file's documents."""
    table = Path(store.root, path)
    if not table.is_file():
        raise UserError(f"{table}: no such file; data.{key} names it")
    found = store.documents(path)
    return Table(found.head, found.rows)


# ---- COCO


def _coco(store: Store, data: dict, key: str, labelled: bool) -> list[Row]:
    """The images of a COCO file. An image's labels are the different categories of its annotations."""
    table = Path(store.root, data[key])

    def field(entry: dict, name: str, what: str, of: str) -> object:
        if not isinstance(entry, dict) or name not in entry:
            known = list(entry) if isinstance(entry, dict) else []
            raise UserError(f"{table}: {what} has no {name!r} ({of}){nearest(name, known, 'fields')}")
        if isinstance(entry[name], list | dict):
            kind = "list" if isinstance(entry[name], list) else "mapping"
            raise UserError(f"{table}: {what}: {name!r} ({of}) is a {kind}, where a number or a text is wanted")
        return entry[name]

    try:
        content = json.loads(store.read(data[key]))
    except OSError as error:
        raise UserError(f"{table}: cannot be read ({error.strerror}); data.{key} names it") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{table}: not a readable JSON file ({error})") from error
    parts = ("images", "annotations", "categories") if labelled else ("images",)
    lacking = [name for name in parts if not isinstance(content, dict) or not isinstance(content.get(name), list)]
    if lacking:
        raise UserError(f"{table}: no list {lacking[0]!r}, so it is not a COCO file (data.{key}, source coco)")
    names: dict[object, str] = {}
    for number, category in enumerate(content["categories"] if labelled else [], 1):
        what = f"category {number}"
        name = cell_text(field(category, data["label"], what, "data.label: `name` or `id` as a rule")).strip()
        if name in names.values():
            raise UserError(f"{table}: {what}: an earlier one is {name!r} too; set data.label to a field that differs")
        names[field(category, "id", what, "COCO")] = name
    images = content["images"]
    of_image: dict[object, list[str]] = {
        field(image, "id", f"image {number}", "COCO"): [] for number, image in enumerate(images, 1)
    }
    for number, annotation in enumerate(content["annotations"] if labelled else [], 1):
        what = f"annotation {number}"
        image, category = field(annotation, "image_id", what, "COCO"), field(annotation, "category_id", what, "COCO")
        if image not in of_image:
            raise UserError(f"{table}: {what} is of image {image!r}, which is not among the images")
        if category not in names:
            raise UserError(f"{table}: {what} is of category {category!r}, which is not among the categories")
        of_image[image].append(names[category])
    extras = [name for name in ("group", "fold") if labelled and data[name] is not None]
    return [
        Row(
            what := f"image {number}",
            cell_text(field(image, data["id"], what, "data.id")),
            tuple(dict.fromkeys(of_image[image["id"]])),
            **{name: cell_text(field(image, data[name], what, f"data.{name}")) for name in extras},
            file=cell_text(field(image, "file_name", what, "COCO")),
        )
        for number, image in enumerate(images, 1)
    ]


# ---- messages


def nearest(name: str, known: Collection[str], what: str) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; {what} there: {', '.join(map(repr, known)) or 'none'}"


def refuse_duplicates(where: object, names: Iterable[tuple[str, str]], remedy: str) -> None:
    """Raise UserError if two of (name, place) have the same name, naming both places."""
    places: dict[str, list[str]] = {}
    for name, place in names:
        places.setdefault(name, []).append(place)
    twice = [f"{name!r}: {' and '.join(several)}" for name, several in places.items() if len(several) > 1]
    if twice:
        raise UserError(f"{where}: {len(twice)} ids stand for more than one row; {remedy}:{listed(twice)}")
