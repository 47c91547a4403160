"""The layouts beside class folders and tables of one label column: JSON files, columns of 0 and 1, names, archives."""

import csv
import json
import math
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from eightfold.core.files import UserError
from eightfold.core.listing import is_litter

VALID, TEST = ("val", "valid"), ("test",)
MOST_JSON = 1_000_000_000  # bytes of a file that is looked into
NAMED = re.compile(r"^([A-Za-z][A-Za-z_ -]*?)([._ -]?)\d")


def archived(root: Path, files: Iterable[str]) -> list[str]:
    """The members of the .zip archives among ``files``, as if each archive were a folder."""
    found = []
    for name in files:
        if name.lower().endswith(".zip"):
            try:
                with zipfile.ZipFile(root / name) as archive:
                    members = [one.filename for one in archive.infolist() if not one.is_dir()]
            except (OSError, zipfile.BadZipFile, ValueError):
                continue  # the manifest will say so
            wanted = [one for one in members if not one.startswith("/") and not any(map(is_litter, one.split("/")))]
            found += [f"{name}/{one}" for one in wanted]
    return found


def flags(head: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]) -> list[int]:
    """The columns that hold nothing but 0 and 1, where there are several: a class each."""
    found = [n for n in columns if rows and {row[n] for row in rows} <= {"0", "1", "0.0", "1.0"}]
    return found if len(found) > 1 else []


def group_of(head: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]) -> int | None:
    """The column that says what must not straddle train and valid, found by its name and by values that recur."""
    words = ("patient", "subject", "group", "place", "location", "site", "burst", "sequence")
    named = [n for n in columns if any(word in head[n].lower() for word in words)]
    return next((n for n in named if 1 < len({row[n] for row in rows}) < len(rows)), None)


def by_name(names: Sequence[str]) -> tuple[str, set[str]] | None:
    """(pattern, classes) of images whose names begin with their class and go on with a number: cat.0.jpg, dog_12.png."""
    found = [NAMED.match(os.path.basename(name)) for name in names]
    classes = Counter(match[1] for match in found if match)
    joints = {match[2] for match in found if match}
    if not all(found) or len(joints) != 1 or not 1 < len(classes) <= 200 or min(classes.values()) < 2:
        return None
    kinds = "|".join(map(re.escape, sorted(classes, key=lambda kind: (-len(kind), kind))))
    separator = re.escape(joints.pop())
    return f"^(?P<label>{kinds}){separator or '(?=[0-9])'}", set(classes)


def _json(root: Path, names: Iterable[str]) -> dict[str, object]:
    """{name: content} of the .json files at the top."""
    found = {}
    for name in sorted(names):
        if name.lower().endswith(".json") and "/" not in name and (root / name).stat().st_size <= MOST_JSON:
            try:
                found[name] = json.loads((root / name).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise UserError(f"{root / name}: not a JSON file ({error})") from error
    return found


def from_json(root: Path, files: Sequence[str], sample: str | None):
    """(data, classes, task, labelled, tests, notes) of a COCO file or of JSON arrays of bands; None where neither is there."""
    parsed = _json(root, files)
    return _coco(root, parsed, set(files), sample) or _bands(parsed, sample)


def _part(names: Iterable[str], words: tuple[str, ...]) -> str | None:
    return next((name for name in names if any(word in name.lower() for word in words)), None)


def _words(path: Path) -> set[str]:
    """The words of the second column of a sample submission's first rows."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = [row for row, _ in zip(csv.reader(file), range(100), strict=False)][1:]
    return {word for row in rows for word in (row[1].split() if len(row) > 1 else [])}


def _is_coco(content: object) -> bool:
    """Whether a JSON file's content has images, and all its parts are lists of mappings."""
    parts = (
        [content.get(name) or [] for name in ("images", "annotations", "categories")]
        if isinstance(content, dict)
        else []
    )
    return any(parts[:1]) and all(
        isinstance(part, list) and all(isinstance(one, dict) for one in part) for part in parts
    )


def _coco(root: Path, parsed: dict, files: set[str], sample: str | None):
    coco = {name: one for name, one in parsed.items() if _is_coco(one)}
    labelled = [name for name, one in coco.items() if one.get("annotations") and one.get("categories")]
    valid = _part(labelled, VALID)
    train = next((name for name in labelled if name != valid), None)
    if train is None:
        return None
    categories, images = coco[train]["categories"], coco[train]["images"]
    names = [str(one.get("name", "")) for one in categories]
    field = "name" if all(names) and len(set(names)) == len(names) else "id"
    if sample and _words(root / sample) <= {str(one.get("id")) for one in categories}:
        field = "id"  # the sample submission answers with numbers

    def folder_of(name: str) -> str:
        """The folder below which the images of a file lie."""
        first = str(coco[name]["images"][0].get("file_name", ""))
        ends = sorted((one for one in files if one == first or one.endswith("/" + first)), key=len)
        return ends[0].removesuffix(first).rstrip("/") or "." if ends else "."

    data = {"source": "coco", "labels": train, "label": field, "train": folder_of(train)}
    if valid and folder_of(valid) == data["train"]:
        data["valid"] = valid
    tests = _part([name for name in coco if name not in labelled and coco[name]["images"]], TEST)
    if tests:
        data |= {"test": tests, "test_images": folder_of(tests)}
        if sample:
            data["sample_submission"] = sample
    of = Counter(str(one.get("image_id")) for one in coco[train]["annotations"])
    task = "multi" if max(of.values(), default=0) > 1 else "single"
    classes = {str(one.get(field)) for one in categories}
    paths = [os.path.normpath(f"{data['train']}/{one.get('file_name', '')}") for one in images]
    return data, classes, task, paths, coco[tests]["images"] if tests else [], []


def _bands(parsed: dict, sample: str | None):
    def is_band(value: object) -> bool:
        return isinstance(value, list) and len(value) >= 64 and math.isqrt(len(value)) ** 2 == len(value)

    lists = {name: one for name, one in parsed.items() if isinstance(one, list) and one and isinstance(one[0], dict)}
    banded = {name: [key for key, value in one[0].items() if is_band(value)] for name, one in lists.items()}
    tests = _part([name for name in banded if banded[name]], TEST)
    train = next((name for name in banded if banded[name] and name != tests), None)
    if train is None:
        return None
    records, bands = lists[train], banded[train]
    plain = [key for key in records[0] if key not in bands]
    known = set(lists[tests][0]) if tests else set()
    kinds = {key: len({str(record.get(key)) for record in records}) for key in plain}
    labels = [key for key in plain if key not in known and 1 < kinds[key] < len(records)]
    ids = [key for key in plain if kinds[key] == len(records)]
    if not labels or not ids or len(bands) > 4:
        return None
    seen = sorted(value for record in records[:50] for band in bands for value in record[band][::7])
    low, high = seen[len(seen) // 200], seen[-1 - len(seen) // 200]
    data = {"source": "csv", "labels": train, "id": ids[0], "label": labels[0], "train": train}
    if tests:
        data["test"] = tests
    data |= {"bands": bands, "range": [5 * math.floor(low / 5), 5 * math.ceil(high / 5)]}
    if tests and sample:
        data["sample_submission"] = sample
    classes = {str(record[labels[0]]) for record in records}
    note = "range: black and white are the values between which 99 % of the numbers lie"
    return data, classes, "single", [str(record[ids[0]]) for record in records], lists[tests] if tests else [], [note]
