"""The held-out images, row by row: what each is, what was predicted of it, and what is answered."""

import csv
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from eightfold.core.files import UserError
from eightfold.inputs import dataset
from eightfold.predict import metrics


class HeldOut(NamedTuple):
    """n images of C classes. targets, decisions: (n,) class numbers, or where labels are several 0/1 (n, C)."""

    ids: list[str]
    rows: np.ndarray  # of the manifest, int64 (n,)
    probabilities: np.ndarray  # float (n, C)
    targets: np.ndarray
    decisions: np.ndarray
    classes: list[str]

    @property
    def right(self) -> np.ndarray:
        """(n,) bool: what is answered is what the image is, every label of it."""
        same = self.decisions == self.targets
        return same.all(1) if self.targets.ndim == 2 else same


def read(path: str | os.PathLike, table: pd.DataFrame, info: dict, tuned: Mapping) -> HeldOut:
    """The images of predictions/valid.csv. table, info: the manifest; tuned: the values of tuning.json.

    The probabilities have a temperature in them already, fitted for each image on others. What is answered is what the
    submission would answer, by the thresholds or cut points that were fitted on all of these images. So a figure of it is
    a tuning step's ``in_sample``; ``final`` of metrics.json answers each image by values fitted on others, and may be lower.

    Raises UserError where the file is of other classes or of images that the manifest does not have.
    """
    ids, probabilities = read_predictions(path, info["classes"])
    return of_rows(rows_of(ids, table, path), probabilities, table, info, tuned)


def of_rows(rows: np.ndarray, probabilities: np.ndarray, table: pd.DataFrame, info: dict, tuned: Mapping) -> HeldOut:
    """Labelled rows of the manifest (table, info) with the probabilities (n, C) that something gave them, and what those
    answer with what was ``tuned`` for them."""
    targets = dataset.targets(table, info)[rows]
    decisions = metrics.decide(probabilities, info["classes"], info["task"] == "multi", tuned)
    return HeldOut(table["id"].iloc[rows].tolist(), rows, probabilities, targets, decisions, info["classes"])


def read_predictions(path: str | os.PathLike, classes: list[str]) -> tuple[list[str], np.ndarray]:
    """Ids and probabilities (n, C) of valid.csv, read by place and not by name: a class may be called "id".

    Raises UserError where its columns are not the classes.
    """
    with open(path, newline="", encoding="utf-8") as file:
        head = next(csv.reader(file))
    if head[2:] != classes:
        raise UserError(f"{path}: its columns are not the manifest's classes; delete it and run again")
    # Numbers at once: as text, a hundred thousand images of hundreds of classes take ten times the room.
    kinds = [str, str, *[np.float64] * len(classes)]
    style = {"header": None, "skiprows": 1, "keep_default_na": False}
    cells = pd.read_csv(path, dtype=dict(enumerate(kinds)), names=range(len(kinds)), **style)
    return list(cells[0]), cells.iloc[:, 2:].to_numpy(np.float64)


def rows_of(ids: list[str], table: pd.DataFrame, path: str | os.PathLike) -> np.ndarray:
    """Row in the manifest of each id, int64 (n,); ids are unique among the labelled images.

    Raises UserError, naming ``path``, for an id that no labelled image has.
    """
    labelled = table.index[table["split"] != "test"]
    row_of = dict(zip(table["id"][labelled], labelled, strict=True))
    unknown = [name for name in ids if name not in row_of]
    if unknown:
        raise UserError(
            f"{path}: {unknown[0]!r} is not a labelled image of the manifest; delete the file and run again"
        )
    return np.array([row_of[name] for name in ids], dtype=np.int64)
