"""Which fold holds out which image: pure functions of labels and a seed, and the table made of them."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from eightfold.core.files import UserError, digest
from eightfold.core.wording import listed
from eightfold.inputs.dataset import ALWAYS_TRAIN, targets, train_valid_rows
from eightfold.inputs.stratify import grouped, merged, multilabel_stratified, stratified, stratified_multi, units


def given_column(cells: Sequence[str], ids: Sequence[str]) -> np.ndarray:
    """Fold of each row as a column of the user's table has it: whole numbers from 0, -1 for a row that always trains.

    Raises UserError naming row and cell for anything else, and for a number below the highest that no row has.
    """
    bad = [
        f"{name}: {cell!r}" for name, cell in zip(ids, cells, strict=True) if not re.fullmatch(r"-1|\d{1,4}", str(cell))
    ]
    if bad:
        raise UserError(
            f"the fold column has {len(bad)} cells that are not folds; allowed: 0, 1, 2, ... and -1 for an image that "
            f"always trains:{listed(bad)}"
        )
    fold = np.array([int(cell) for cell in cells], np.int64)
    absent = sorted(set(range(fold.max() + 1)) - set(fold.tolist()))
    if fold.max() < 0 or absent:
        raise UserError(
            f"the fold column: no image is in fold {', '.join(map(str, absent)) or '0'}; number folds from 0"
        )
    return fold


def with_alike(unit: np.ndarray, pairs: np.ndarray, classes: Sequence, most: int) -> np.ndarray:
    """The units joined by pairs of rows (m, 2) that look alike; ``classes``: a value per row, its label or labels.

    A chain of look-alikes can run through a whole class, of X-rays or of plain tiles. So what would be larger than ``most``
    rows, or would leave all images of a class in one unit, stays as it was.
    """
    joined = merged(len(unit), [*enumerate(unit.tolist()), *map(tuple, pairs.tolist())])
    kinds = np.unique(np.asarray(classes), return_inverse=True)[1]
    before, after = (np.unique(np.column_stack([kinds, of]), axis=0) for of in (unit, joined))  # (class, unit) pairs
    whole = (np.bincount(after[:, 0]) == 1) & (np.bincount(before[:, 0]) > 1)
    torn = np.bincount(joined, minlength=len(unit)) > most
    torn[after[whole[after[:, 0]], 1]] = True
    return np.where(torn[joined], unit, joined)


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


def assign(table: pd.DataFrame, info: dict, split: dict, seed: int, near: np.ndarray | None = None) -> pd.DataFrame:
    """row, id, fold of every labelled row of a manifest; ``split``: method, folds and rare of the config; ``near``: pairs
    of rows (m, 2) that look alike.

    Images of the same bytes, and those that look alike (see `with_alike`), share a fold, but for the methods fastai07 and
    given, which are taken as they are. Raises UserError if a fold would be empty, a class has one image and so cannot be in
    both parts, or folds that are given tear a group.
    """
    rows = np.flatnonzero(table["split"] != "test")
    labelled = table.iloc[rows].reset_index(drop=True)
    alike = _within(rows, near)
    if (labelled["split"] == "valid").any():
        fold = given(labelled["split"])
        _refuse_torn(labelled, fold)
    elif split["method"] == "given":
        fold = given_column(_column(labelled, "fold_given", "data.fold"), labelled["id"])
        _refuse_torn(labelled, fold)
    elif len(rows) < split["folds"]:
        raise UserError(f"split.folds is {split['folds']}, but there are {len(rows)} labelled images; use fewer folds")
    elif split["method"] == "fastai07":
        fold = fastai07(len(rows), split["folds"])
    elif split["method"] in ("grouped", "stratified_grouped"):
        _column(labelled, "group", "data.group")
        hot = _hot(labelled, info) if split["method"] == "stratified_grouped" else None
        unit = units(labelled, "group")
        joined = with_alike(unit, alike, labelled["labels"], len(rows) // split["folds"])
        unit = joined if len(np.unique(joined)) >= split["folds"] else unit
        # A unit goes by the group of its first image, which no other unit has.
        fold = grouped(labelled["group"].to_numpy(str)[unit], split["folds"], seed, hot)
    else:
        fold = _dealt(labelled, info, split, seed, alike)
    return pd.DataFrame({"row": rows, "id": labelled["id"].to_numpy(), "fold": fold})


def _within(rows: np.ndarray, near: np.ndarray | None) -> np.ndarray:
    """The pairs whose rows are both among ``rows`` (rising), as places there: int64 (m, 2)."""
    near = np.empty((0, 2), np.int64) if near is None else np.asarray(near, np.int64).reshape(-1, 2)
    return np.searchsorted(rows, near[np.isin(near, rows).all(1)])


def straddling(folds: pd.DataFrame, near: np.ndarray) -> list[str]:
    """The pairs of ``near`` (m, 2), rows of the manifest, that lie in different folds, in words."""
    pairs = _within(folds["row"].to_numpy(), near)
    fold, names = folds["fold"].to_numpy(), folds["id"].tolist()
    apart = pairs[fold[pairs[:, 0]] != fold[pairs[:, 1]]].tolist()
    return [" and ".join(f"{names[row]} (fold {fold[row]})" for row in pair) for pair in apart]


def torn_groups(groups: Sequence[str], fold: np.ndarray) -> list[str]:
    """The groups with images in several folds, in words; no group is the group of none."""
    of = pd.DataFrame({"group": groups, "fold": fold}).query("group != ''").groupby("group")["fold"].unique()
    return [f"{name}: folds {', '.join(map(str, sorted(found)))}" for name, found in of.items() if len(found) > 1]


def _refuse_torn(labelled: pd.DataFrame, fold: np.ndarray) -> None:
    """Raise UserError naming the groups that folds which are given tear apart."""
    torn = torn_groups(labelled["group"], fold) if "group" in labelled else []
    if torn:
        raise UserError(
            f"{len(torn)} groups (data.group) straddle the folds that are given (-1: always trains). Correct the folds, take "
            f"data.group away, or let split.method: stratified_grouped make the folds:{listed(torn)}"
        )


def _column(labelled: pd.DataFrame, name: str, key: str) -> pd.Series:
    if name not in labelled or not (labelled[name] != "").all():
        empty = labelled["id"][labelled[name] == ""].tolist() if name in labelled else []
        lacks = f"{len(empty)} images lack it:{listed(empty)}" if empty else f"the manifest has none; set {key}"
        raise UserError(f"split.method needs a {name.split('_')[0]} of each labelled image: {lacks}")
    return labelled[name]


def _hot(labelled: pd.DataFrame, info: dict) -> np.ndarray:
    found = targets(labelled, info)
    return found if found.ndim == 2 else np.eye(len(info["classes"]))[found]


def _dealt(labelled: pd.DataFrame, info: dict, split: dict, seed: int, alike: np.ndarray) -> np.ndarray:
    """`stratified` and `multilabel_stratified`: the first of images that are alike is dealt, the others follow."""
    unit = with_alike(units(labelled), alike, labelled["labels"], max(2, len(labelled) // (2 * split["folds"])))
    dealt = np.unique(unit)
    fold = np.full(len(labelled), ALWAYS_TRAIN, np.int64)
    if split["method"] == "multilabel_stratified":
        fold[dealt] = multilabel_stratified(_hot(labelled, info)[dealt], split["folds"], seed)
    elif info["task"] == "multi":
        fold[dealt] = stratified_multi(targets(labelled, info)[dealt], split["folds"], seed)
    else:
        counts = Counter(labelled["labels"])
        single = sorted(name for name, count in counts.items() if count == 1)
        if single and split.get("rare", "fail") == "fail":
            raise UserError(
                f"{len(single)} classes have one image, which cannot be both in train and in valid. Add images, "
                f"remove the class, set split.rare: train, which always trains on them, or set split.method: fastai07, "
                f"which does not look at classes:{listed(single)}"
            )
        dealt = dealt[~np.isin(labelled["labels"].to_numpy(str)[dealt], single)] if single else dealt
        if len(dealt) < split["folds"]:
            raise UserError(f"split.folds is {split['folds']}, but {len(dealt)} different images can be held out")
        fold[dealt] = stratified(labelled["labels"].to_numpy(str)[dealt], split["folds"], seed)
    return fold[unit]


def check_learned(folds: pd.DataFrame, table: pd.DataFrame, info: dict, used: Sequence[str]) -> None:
    """Raise UserError where a class has no image among those that any of the folds in use trains on."""
    learned = np.zeros(len(info["classes"]), bool)
    for fold in used or ["all"]:
        train, _ = train_valid_rows(folds, fold)
        learned |= _hot(table.iloc[train], info).any(0)
    lost = [name for name, known in zip(info["classes"], learned, strict=True) if not known]
    if lost:
        raise UserError(
            f"{len(lost)} classes have no image to train on in fold {', '.join(used)}: all of theirs are held out. Use "
            f"more folds (split.use), another split.method or seed, or add images:{listed(lost)}"
        )


def summary(folds: pd.DataFrame, info: dict, split: dict) -> dict:
    """What folds.json holds. ``counts``: rows that each fold holds out, those of no fold under "-1"."""
    counts = {str(fold): int(count) for fold, count in folds["fold"].value_counts().sort_index().items()}
    number = int(folds["fold"].max()) + 1
    method = "given" if info["counts"]["valid"] else split["method"]
    identity = digest([info["digest"], folds["row"].tolist(), folds["fold"].tolist()])
    return {"digest": identity, "method": method, "folds": number, "counts": counts}
