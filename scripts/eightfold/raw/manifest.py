"""The manifest: a row per image, each decoded once, and the identity of the data that everything else hangs on."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from eightfold.core.files import UserError, file_digest, replacing, write_json, write_table
from eightfold.core.ordering import rising
from eightfold.core.wording import listed
from eightfold.inputs.dataset import COLUMNS, NUMBERS, identity
from eightfold.raw import candidates, class_names, images
from eightfold.raw.candidates import Candidate
from eightfold.raw.stores import Store
from eightfold.raw.strangers import printable

log = logging.getLogger("eightfold")

READING = ("id", "bands", "range")  # what of the config says how an array becomes an image
WINDOW = 4096  # images handed to the threads at a time: bounds what waits in memory


class Manifest(NamedTuple):
    """``table``: COLUMNS; ``rejected``: id, path, split, reason; ``info``: what manifest.json holds; ``thumbnails``: of
    each row of the table, uint8 (rows, THUMB, THUMB), black where it has no image."""

    table: pd.DataFrame
    rejected: pd.DataFrame
    info: dict
    thumbnails: np.ndarray


class Look(NamedTuple):
    """What one look at a file finds; ``problem`` is empty for a sound image. Sizes in pixels, upright."""

    width: int = 0
    height: int = 0
    mode: str = ""
    bytes: int = 0
    sha256: str = ""
    problem: str = ""
    escapes: bool = False  # a link that leads out of the data root; the file was not read
    thumbnail: np.ndarray = np.zeros((images.THUMB, images.THUMB), np.uint8)


def build(data: dict, threads: int = 1, progress: Callable[..., Iterable] = lambda items, **_: items) -> Manifest:
    """Find and decode every image of the config ``data`` (defaults filled in, ``root`` set).

    Bad labelled images are an error or are left out, as data.bad_images says; a test image always keeps its row.
    Raises UserError after having looked at everything, so that one run shows all that is to be fixed.
    """
    store = Store(data["root"], {key: data[key] for key in READING})
    rows, separator, not_taken = candidates.find(data, store)
    looks = list(progress(_look_at_all(store, rows, threads), total=len(rows), label="checking images"))
    rows = [row._replace(problem=row.problem or look.problem) for row, look in zip(rows, looks, strict=True)]
    _refuse_escapes(data["root"], [row.path for row, look in zip(rows, looks, strict=True) if look.escapes])
    if data["bad_images"] == "fail":
        # A damaged test image is the competition's affair; one that is not there is the user's.
        _refuse_bad(data["root"], [row for row, look in zip(rows, looks, strict=True) if _fatal(row, look)])
    _refuse_lost_tests(data["root"], [row for row in rows if row.split == "test"])
    kept = [(row, look) for row, look in zip(rows, looks, strict=True) if row.split == "test" or not row.problem]
    classes = _classes(data, rows, [row for row, _ in kept])
    counts = Counter(name for row, _ in kept for name in row.labels)
    class_names.warn_of_names({name: counts[name] for name in classes})
    if data["ordered"]:
        classes = [classes[place] for place in rising(classes)]
    label_separator = separator or ""
    records = [
        (
            *(row.id, row.path, row.split, label_separator.join(row.labels), row.group, row.fold),
            *(*look[:5], "unreadable" if row.problem else "ok"),
        )
        for row, look in kept
    ]
    table = pd.DataFrame(records, columns=COLUMNS).astype(dict.fromkeys(NUMBERS, np.int64))
    bad = [(row.id, row.path, row.split, row.problem) for row in rows if row.problem]
    others = [("", printable(path), split, reason) for path, split, reason in not_taken]
    rejected = pd.DataFrame(bad + others, columns=["id", "path", "split", "reason"])
    lost = [f"{path}: {reason}" for _, path, split, reason in bad if split == "test"]
    if lost:
        log.warning("Warning: %d test images are unreadable and get the class prior:%s", len(lost), listed(lost))
    if len(bad) > len(lost):
        log.warning("Warning: %d images are left out, see rejected.csv", len(bad) - len(lost))
    sample = data["sample_submission"]
    info = {
        "task": "single" if separator is None else "multi",
        "ordered": data["ordered"],
        "classes": classes,
        "separator": separator,
        "counts": {split: int((table["split"] == split).sum()) for split in ("train", "valid", "test")}
        | {"rejected": len(bad) - len(lost), "unreadable": len(lost)},
        "root": data["root"],
        "reading": store.reading,
        "sample_submission": sample and os.path.join(data["root"], sample),
    }
    thumbnails = np.array([look.thumbnail for _, look in kept], np.uint8).reshape(-1, images.THUMB, images.THUMB)
    return Manifest(table, rejected, info | {"digest": identity(table, info)}, thumbnails)


def write_manifest(folder: str | os.PathLike, manifest: Manifest) -> None:
    """Write thumbnails.npy, manifest.csv, rejected.csv and, last, manifest.json, each whole or not at all."""
    with replacing(Path(folder, "thumbnails.npy")) as path, open(path, "wb") as file:
        np.save(file, manifest.thumbnails, allow_pickle=False)
    write_table(Path(folder, "manifest.csv"), manifest.table)
    write_table(Path(folder, "rejected.csv"), manifest.rejected)
    table = file_digest(Path(folder, "manifest.csv"))
    write_json(Path(folder, "manifest.json"), manifest.info | {"table": table})


# ---- looking at files


def _look_at_all(store: Store, rows: list[Candidate], threads: int) -> Iterator[Look]:
    """One look per row, in order. Decoding and hashing release the interpreter's lock, so threads do run at once."""

    def look(row: Candidate) -> Look:
        return Look() if row.problem else look_at(store, row.path)

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(rows), WINDOW):
            yield from pool.map(look, rows[start : start + WINDOW])


def look_at(store: Store, path: str) -> Look:
    """Read an image once, hash it and decode it wholly."""
    if store.escapes(path):
        return Look(problem="a link that leads out of the data folder", escapes=True)
    try:
        content = store.read(path)
    except OSError as error:
        return Look(problem=f"cannot be read ({error.strerror})")
    except images.BadImage as error:
        return Look(problem=str(error))
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if not content:
        return Look(problem="an empty file", **facts)
    try:
        image, mode = images.decode(content, store.reading["range"])
    except images.BadImage as error:
        return Look(problem=str(error), **facts)
    return Look(*image.size, mode, **facts, thumbnail=images.thumbnail(image))


# ---- refusals


def _fatal(row: Candidate, look: Look) -> bool:
    return bool(row.problem) and (row.split != "test" or not look.problem)


def _refuse_escapes(root: str, paths: Collection[str]) -> None:
    if paths:
        raise UserError(
            f"{root}: {len(paths)} links lead out of the data folder. Copy the files into it, or set data.root to a "
            f"folder that holds them all:{listed(paths)}"
        )


def _refuse_bad(root: str, bad: list[Candidate]) -> None:
    if bad:
        reasons = [f"{row.path}: {row.problem}" for row in bad]
        raise UserError(
            f"{root}: {len(bad)} images cannot be used. Fix them, or set data.bad_images: skip, which leaves out "
            f"labelled ones and lists them in rejected.csv:{listed(reasons)}"
        )


def _refuse_lost_tests(root: str, tests: list[Candidate]) -> None:
    if tests and all(row.problem for row in tests):
        reasons = [f"{row.path}: {row.problem}" for row in tests]
        raise UserError(
            f"{root}: none of the {len(tests)} images to predict can be read; put them right:{listed(reasons)}"
        )


def _classes(data: dict, rows: list[Candidate], kept: list[Candidate]) -> list[str]:
    """Sorted class names of the usable train rows. Raises UserError where there is nothing to tell apart."""
    seen: dict[str, set[str]] = {"train": set(), "valid": set(), "test": set()}
    for row in kept:
        seen[row.split].update(row.labels)
    classes = sorted(seen["train"])
    where = os.path.join(data["root"], data["train"])
    if not classes:
        reasons = [f"{row.path}: {row.problem}" for row in rows if row.split == "train"]
        raise UserError(f"{where}: no usable labelled image (data.train) among {len(reasons)}:{listed(reasons)}")
    if len(classes) == 1:
        raise UserError(f"{where}: all images are of the one class {classes[0]!r}; a classifier needs two")
    strange = sorted(seen["valid"] - seen["train"])
    if strange:
        raise UserError(f"{data['root']}: {len(strange)} classes are in valid but not in train:{listed(strange)}")
    named = {name for row in rows if row.split == "train" for name in row.labels}
    if named > seen["train"]:
        gone = sorted(named - seen["train"])
        log.warning("Warning: %d classes have no usable image and are left out:%s", len(gone), listed(gone))
    return classes
