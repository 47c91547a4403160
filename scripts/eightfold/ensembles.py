"""Members to one answer: snapshots x views of this run and whole other runs, weighted equally or by greedy selection.

Folds are no members: each held-out row has the answer of one fold alone. They are averaged where all of them answer,
on the pictures to predict.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from eightfold import metrics
from eightfold.files import UserError, read_json
from eightfold.prediction import mean_members, view_weights

ROUNDS = 30  # of greedy selection
PATIENCE = 6  # rounds without a better figure after which it ends


class Member(NamedTuple):
    """One column of the table: its name and the network whose views are averaged before networks are."""

    name: str
    network: str


def members_of(snapshots: int, views: int, runs: Sequence[str]) -> list[Member]:
    """The members of a run: every snapshot with every view (0 is the plain one), then the other runs."""
    own = [f"snapshot {cycle}" for cycle in range(1, snapshots + 1)] if snapshots > 1 else ["network"]
    names = [f"view {view}" if view else "plain view" for view in range(views)]
    return [Member(f"{net}, {view}", net) for net in own for view in names] + [
        Member(f"run {run}", f"run {run}") for run in runs
    ]


def equal_weights(snapshots: int, views: int, runs: int, kind: str) -> np.ndarray:
    """Weights that sum to 1: each run counts as one, its snapshots share that, its views as ``kind`` (tta.weights)."""
    own = np.tile(view_weights(views - 1, kind), snapshots) / snapshots
    return np.append(own, np.ones(runs)) / (1 + runs)


def blend(
    stack: np.ndarray, members: Sequence[Member], weights: np.ndarray, of_views: str, of_networks: str, several: bool
) -> np.ndarray:
    """(members, n, classes) to (n, classes): the views of each network by one kind of mean, the networks by another.

    Kinds: arithmetic or geometric. A network weighs what its members do together; weights need not sum to 1.
    """
    networks, totals = [], []
    for network in dict.fromkeys(member.network for member in members):
        inside = np.array([member.network == network for member in members])
        total = weights[inside].sum()
        if total > 0:
            networks.append(mean_members(stack[inside], weights[inside] / total, of_views, not several))
            totals.append(total)
    if len(networks) == 1:
        return networks[0]
    return mean_members(np.stack(networks), np.array(totals) / np.sum(totals), of_networks, not several)


class Blend(NamedTuple):
    """How members become one answer: who they are, what each weighs, and the two means of `blend`."""

    members: Sequence[Member]
    weights: np.ndarray
    of_views: str
    of_networks: str
    several: bool

    def __call__(self, stack: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """(members, n, classes) to (n, classes), with other weights where they are given."""
        weights = self.weights if weights is None else weights
        return blend(stack, self.members, weights, self.of_views, self.of_networks, self.several)

    def each_for_itself(self, weights: np.ndarray) -> "Blend":
        """The same members by weights of their own, each as a network: what greedy selection chooses among."""
        members = [member._replace(network=member.name) for member in self.members]
        return Blend(members, weights, self.of_networks, self.of_networks, self.several)


def equal_blend(snapshots: int, views: int, runs: Sequence[str], tta: dict, average: str, several: bool) -> Blend:
    """`members_of` by `equal_weights`. tta: average and weights of the views. average: of networks."""
    weights = equal_weights(snapshots, views, len(runs), tta["weights"])
    return Blend(members_of(snapshots, views, runs), weights, tta["average"], average, several)


def mean_of_folds(of_folds: Sequence[np.ndarray], average: str, several: bool) -> np.ndarray:
    """What the folds answer together, each counting alike: (n, classes) each, and in all."""
    equal = np.full(len(of_folds), 1 / len(of_folds))
    return mean_members(np.stack(of_folds), equal, average, not several)


# ---- greedy selection


def greedy(stack: np.ndarray, loss: Callable[[np.ndarray], float], average: str, several: bool) -> np.ndarray:
    """Weights by forward selection with replacement (Caruana et al. 2004): add, each round, the member that helps most.

    stack: (members, n, classes). The weights are the counts after the round of least loss; a member may stay at 0.
    Ties go to the earlier member.
    """
    link, back = _mean_space(average, several)
    linked = np.stack([link(p) for p in stack])
    counts, total = np.zeros(len(stack)), np.zeros_like(linked[0])
    best, best_counts, since = np.inf, counts, 0
    for size in range(1, ROUNDS + 1):
        losses = [loss(back((total + member) / size)) for member in linked]
        pick = int(np.argmin(losses))
        counts, total = counts + np.eye(len(stack))[pick], total + linked[pick]
        since += 1
        if losses[pick] < best - 1e-9:
            best, best_counts, since = losses[pick], counts, 0
        if since >= PATIENCE:
            break
    return best_counts / best_counts.sum()


def _mean_space(average: str, several: bool) -> tuple[Callable, Callable]:
    """The functions between which a mean is a plain sum: logarithms for a geometric one."""
    if average == "arithmetic":
        return (lambda p: p), (lambda mean: mean)
    if several:
        return (lambda p: np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(1 - p, 1e-300))), metrics.sigmoid
    return (lambda p: np.log(np.maximum(p, 1e-300))), metrics.softmax


# ---- what each adds


def contributions(stack: np.ndarray, blended: Blend, figures: Callable) -> list[dict]:
    """A row per member: its weight, its own figures (``alone``) and those of the ensemble ``without`` it (None: it is
    the only one). figures(probabilities): {name: figure}.
    """
    table, weights = [], blended.weights
    for i, member in enumerate(blended.members):
        rest = np.where(np.arange(len(weights)) == i, 0, weights)
        without = figures(blended(stack, rest)) if rest.sum() > 0 and weights[i] > 0 else None
        row = {"member": member.name, "weight": float(weights[i]), "alone": figures(stack[i]), "without": without}
        table.append(row)
    return table


# ---- other runs


def read_run(folder: str, digest: str, classes: Sequence[str], split: str, ids: Sequence[str]) -> np.ndarray:
    """Another run's probabilities (rows of ``ids``, classes) of a split. ``digest``: of this run's manifest.

    Raises UserError where that run saw other data, lacks an answer, or is not there.
    """
    path, told = Path(folder, "predictions", f"{split}.csv"), Path(folder, "metrics.json")
    if not path.is_file() or not told.is_file():
        raise UserError(f"ensemble.runs: {folder} has no predictions/{split}.csv; run that config to `evaluate` first")
    if read_json(told).get("manifest") != digest:
        raise UserError(f"ensemble.runs: {folder} saw other data than this run (its manifest differs); run it again")
    cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False).to_numpy(dtype=object)
    first = cells.shape[1] - len(classes)
    if list(cells[0, first:]) != list(classes):
        raise UserError(f"{path}: its columns are not this run's classes")
    place = {name: row for row, name in enumerate(cells[1:, 0])}
    missing = [name for name in ids if name not in place]
    if missing:
        raise UserError(
            f"{path}: no answer for {len(missing)} of {len(ids)} pictures, such as {missing[0]!r}; "
            "both runs must hold out the same rows (split.method, folds and use, seed)"
        )
    return cells[1:, first:].astype(np.float64)[[place[name] for name in ids]]
