"""Rows dealt into parts that are alike: pure functions of labels, groups and a seed.

The iterative stratification is our own on purpose: scikit-learn has none for several labels, and the same seed must deal
the same folds for as long as a run is kept, whatever version of a package is installed.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from eightfold.core.files import UserError
from eightfold.core.wording import listed


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


def multilabel_stratified(hot: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each row of an n-hot (n, classes): iterative stratification (Sechidis et al. 2011).

    The label with the fewest rows left goes first, each of its rows to the fold that lacks most of that label, then to
    the one that lacks most rows, then at random; rows without a label fill up what lacks.
    """
    hot = np.asarray(hot) > 0
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(hot))
    wanted = np.tile(hot.sum(0) / folds, (folds, 1))  # (folds, classes) still to come
    room = np.full(folds, len(hot) / folds)
    result, free = np.full(len(hot), -1), np.ones(len(hot), bool)
    while free.any():
        left = (hot & free[:, None]).sum(0)
        label = int(np.where(left > 0, left, len(hot) + 1).argmin()) if left.any() else None
        rows = order[free[order] if label is None else free[order] & hot[order, label]]
        for row in rows:
            first = np.zeros(folds) if label is None else wanted[:, label]
            best = np.lexsort((rng.random(folds), -room, -first.round(9)))[0]
            result[row], free[row] = best, False
            wanted[best] -= hot[row]
            room[best] -= 1
    return result


def grouped(groups: np.ndarray, folds: int, seed: int, hot: np.ndarray | None = None) -> np.ndarray:
    """Fold of each row, int64 (n,); rows of one group share it. Folds come out even by rows, and with ``hot``
    (n, classes), 0/1, by the rows of each class.

    Groups go, the largest (with ``hot``: the most uneven) first, to the fold where that leaves the least squared
    distance from an even deal. Raises UserError for fewer groups than folds.
    """
    names, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise UserError(
            f"split.folds is {folds}, but the {len(groups)} labelled images are of {len(names)} groups, which must not "
            f"straddle folds; use fewer folds. Groups:{listed(list(map(str, names)))}"
        )
    counts = sizes[:, None].astype(float)  # (groups, what is to be even)
    if hot is not None:
        of_class = np.zeros((len(names), hot.shape[1]))
        np.add.at(of_class, member, np.asarray(hot, float))
        counts = np.hstack([counts, of_class])
    counts /= np.maximum(counts.sum(0), 1)  # each column counts alike, a rare class as much as a common one
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order].std(1) if hot is not None else -sizes[order], kind="stable")]
    load, taken, fold_of = np.zeros((folds, counts.shape[1])), np.zeros(folds, int), np.empty(len(names), np.int64)
    for place, group in enumerate(order):
        # Adding x to a load l raises the sum of squares by 2 l x + x x, and x is the same for every fold.
        cost = load @ counts[group]
        if len(order) - place <= (taken == 0).sum():
            cost = np.where(taken == 0, cost, np.inf)  # no fold stays empty
        best = int(np.lexsort((taken, load[:, 0].round(12), cost.round(12)))[0])
        load[best] += counts[group]
        taken[best] += 1
        fold_of[group] = best
    return fold_of[member]


def inner(targets: np.ndarray, unit: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each train row for a split inside them, int64 (n,): classes spread evenly, rows that share a unit together.

    targets: of these rows, class indices (n,) or labels (n, classes). Raises UserError for fewer units than folds.
    """
    if len(np.unique(unit)) < len(unit):
        hot = targets if targets.ndim == 2 else np.eye(int(targets.max()) + 1)[targets]
        return grouped(unit, folds, seed, hot)
    return (stratified_multi if targets.ndim == 2 else stratified)(targets, folds, seed)


def merged(n: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """A number per row, int64 (n,): the first of the rows that the pairs link to it, chains included."""
    from scipy.sparse import coo_array  # a quarter of a second, and most training jobs link no rows
    from scipy.sparse.csgraph import connected_components

    ends = np.array(list(pairs), np.int64).reshape(-1, 2)
    component = connected_components(coo_array((np.ones(len(ends)), ends.T), (n, n)), directed=False)[1]
    return np.unique(component, return_index=True)[1][component]


def units(table: pd.DataFrame, column: str | None = None) -> np.ndarray:
    """A number per row, int64 (n,): rows share it where they must not straddle folds, since their bytes are the same
    or, with ``column``, its cell is. Chains count: an image in two groups joins them."""
    pairs = []
    for name in ["sha256", *([column] if column else [])]:
        first: dict[str, int] = {}
        pairs += [(first.setdefault(cell, row), row) for row, cell in enumerate(table.get(name, [])) if cell]
    return merged(len(table), pairs)
