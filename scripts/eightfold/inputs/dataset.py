"""The manifest and the folds as every later phase reads them: tables, targets and rows. What makes them is in `raw`."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from eightfold.core.files import UserError, digest, file_digest, read_json

COLUMNS = ["id", "path", "split", "labels", "group", "fold_given"]
COLUMNS += ["width", "height", "mode", "bytes", "sha256", "status"]
NUMBERS = ["width", "height", "bytes"]
IDENTITY = [*COLUMNS[:6], "sha256", "status"]  # not the root: data that moved are the same data
ALWAYS_TRAIN = -1  # the fold of an image that no fold holds out


def read_text_table(path: str | os.PathLike) -> pd.DataFrame:
    """A CSV with every cell as text: 007 and nan are ids like any other."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def read_manifest(folder: str | os.PathLike) -> tuple[pd.DataFrame, dict]:
    """(table, info) of a written manifest; the row number is the image's identity everywhere else.

    Raises UserError if the table is not the one that manifest.json describes.
    """
    info, path = read_json(Path(folder, "manifest.json")), Path(folder, "manifest.csv")
    if info.pop("table", None) in (None, file_digest(path)):
        table = read_text_table(path).astype(dict.fromkeys(NUMBERS, np.int64))
        if identity(table, info) == info["digest"]:
            return table, info
    raise UserError(f"{folder}: manifest.csv is not the table of manifest.json; delete the folder and run again")


def identity(table: pd.DataFrame, info: dict) -> str:
    """Digest of all that later results depend on: every row, the classes, the task. Equal data, equal digest."""
    rows = table[IDENTITY].to_numpy(dtype=object).tolist()
    return digest({"rows": rows, **{key: info.get(key) for key in ("classes", "task", "ordered", "reading")}})


def targets(table: pd.DataFrame, info: dict) -> np.ndarray:
    """What there is to learn: int64 (n,), class index, -1 without label; task multi: float32 (n, classes), n-hot."""
    index = {name: number for number, name in enumerate(info["classes"])}
    if info["task"] == "single":
        return np.array([index[label] if label else -1 for label in table["labels"]], np.int64)
    hot = np.zeros((len(table), len(index)), np.float32)
    for row, cell in enumerate(table["labels"]):
        hot[row, [index[name] for name in split_labels(cell, info["separator"])]] = 1
    return hot


def split_labels(cell: str, separator: str | None) -> tuple[str, ...]:
    """The class names in a label cell, each once. Without a separator the cell is one name, spaces and all."""
    if separator is None:
        return (cell,) if cell else ()
    return tuple(dict.fromkeys(name for part in cell.split(separator) if (name := part.strip())))


def read_folds(path: str | os.PathLike) -> pd.DataFrame:
    """folds.csv as row (int64), id (text), fold (int64)."""
    return read_text_table(path).astype({"row": np.int64, "fold": np.int64})


def train_valid_rows(folds: pd.DataFrame, fold: int | str) -> tuple[np.ndarray, np.ndarray]:
    """(train rows, valid rows) of the manifest, int64, in its order. Fold "all" trains on every labelled row.

    Raises UserError for a fold that holds out nothing.
    """
    rows = folds["row"].to_numpy(np.int64)
    if fold == "all":
        return rows, rows[:0]
    held_out = folds["fold"].to_numpy() == int(fold)
    if not held_out.any():
        known = sorted(set(folds["fold"]) - {ALWAYS_TRAIN})
        raise UserError(f"fold {fold} holds out no image; allowed in split.use: {', '.join(map(str, known))}")
    return rows[~held_out], rows[held_out]
