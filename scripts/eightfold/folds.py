"""Which fold holds out which picture: pure functions of labels and a seed, and the table made of them."""

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from eightfold.candidates import listed
from eightfold.files import UserError, digest
from eightfold.manifest import read_text_table, targets

ALWAYS_TRAIN = -1  # the fold of a picture that no fold holds out


def stratified(labels: Sequence, folds: int, seed: int) -> np.ndarray:
    """Fold of each row, int64 (n,). Counts per fold differ by at most one, within each class and altogether.

    The shuffled rows, sorted by class, are dealt out like cards: each class goes on where the one before it ended.
    """
    classes = np.unique(np.asarray(labels), return_inverse=True)[1]
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    result = np.empty(len(classes), np.int64)
    result[shuffled[np.argsort(classes[shuffled], kind="stable")]] = np.arange(len(classes)) % folds
    return result


def stratified_multi(hot: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each row of an n-hot (n, classes): stratified by the rarest label of each row, then by its whole set.

    Rare labels are spread as evenly as can be; common ones come out even by their number.
    """
    hot = np.asarray(hot) > 0
    hot = hot[:, np.argsort(hot.sum(0), kind="stable")]
    rarest = hot.argmax(1)
    sets = np.unique(np.packbits(hot, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    return stratified(rarest * len(hot) + sets, folds, seed)


def fastai07(n: int, folds: int) -> np.ndarray:
    """Fold of each of n rows, int64 (n,): the slices of fastai 0.7's permutation, whatever the seed of the run.

    0.7 left the last n mod folds rows of the permutation to no fold; here they join the last fold.
    """
    order = np.random.RandomState(42).permutation(n)
    result = np.empty(n, np.int64)
    result[order] = np.minimum(np.arange(n) // max(1, n // folds), folds - 1)
    return result


def given(split: Sequence[str]) -> np.ndarray:
    """Fold of each labelled row where the data come split: 0 holds out the valid rows, the train rows always train."""
    return np.where(np.asarray(split) == "valid", 0, ALWAYS_TRAIN).astype(np.int64)


def assign(table: pd.DataFrame, info: dict, split: dict, seed: int) -> pd.DataFrame:
    """row, id, fold of every labelled row of a manifest; ``split``: method and folds of the config.

    Raises UserError if a fold would be empty, or a class has one picture and so cannot be in both parts.
    """
    rows = np.flatnonzero(table["split"] != "test")
    labelled = table.iloc[rows]
    if (labelled["split"] == "valid").any():
        fold = given(labelled["split"])
    elif len(rows) < split["folds"]:
        raise UserError(
            f"split.folds is {split['folds']}, but there are {len(rows)} labelled pictures; use fewer folds"
        )
    elif split["method"] == "fastai07":
        fold = fastai07(len(rows), split["folds"])
    elif info["task"] == "multi":
        fold = stratified_multi(targets(labelled, info), split["folds"], seed)
    else:
        single = sorted(name for name, count in Counter(labelled["labels"]).items() if count == 1)
        if single:
            raise UserError(
                f"{len(single)} classes have one picture, which cannot be both in train and in valid. Add pictures, "
                f"remove the class, or set split.method: fastai07, which does not look at classes:{listed(single)}"
            )
        fold = stratified(labelled["labels"].to_numpy(str), split["folds"], seed)
    return pd.DataFrame({"row": rows, "id": labelled["id"].to_numpy(), "fold": fold})


def summary(folds: pd.DataFrame, info: dict, split: dict) -> dict:
    """What folds.json holds. ``counts``: rows that each fold holds out, those of no fold under "-1"."""
    counts = {str(fold): int(count) for fold, count in folds["fold"].value_counts().sort_index().items()}
    number = int(folds["fold"].max()) + 1
    method = "given" if info["counts"]["valid"] else split["method"]
    identity = digest([info["digest"], folds["row"].tolist(), folds["fold"].tolist()])
    return {"digest": identity, "method": method, "folds": number, "counts": counts}


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
        raise UserError(f"fold {fold} holds out no picture; allowed in split.use: {', '.join(map(str, known))}")
    return rows[~held_out], rows[held_out]
