"""Members to one answer: the networks of a run, plain or averaged over views, and whole other runs, equally or by greedy selection.

Folds are not members: each held-out row has the answer of one fold alone. They are averaged where all of them answer,
on the images to predict.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from eightfold.core.files import UserError, read_json
from eightfold.core.randomness import generator
from eightfold.net import scoring
from eightfold.predict.prediction import mean_members, view_weights

ROUNDS = 30  # of greedy selection
PATIENCE = 6  # rounds without a better figure after which it ends
BAGS = 20  # samples of the rows that it is repeated on
LEAST_WEIGHT = 0.02  # of a member in the mean of the bags; below, a network is not worth its passes


class Member(NamedTuple):
    """One that may answer: the network ``network`` ("end", "cycle2") of ``stage``, by its plain view or by the mean of
    all ``views``; or another run, named in ``network``, whose ``stage`` is None."""

    stage: str | None
    network: str
    views: int = 1

    @property
    def name(self) -> str:
        """As the report has it: "all_299, cycle 2, 5 views"."""
        if self.stage is None:
            return f"run {self.network}"
        cycle = "" if self.network == "end" else f", {self.network.replace('cycle', 'cycle ')}"
        return f"{self.stage}{cycle}, " + ("plain view" if self.views == 1 else f"{self.views} views")


def members_of(networks: Sequence[tuple[str, str]], views: int, runs: Sequence[str]) -> list[Member]:
    """The members of a run: every network (stage, name) by its plain view and, with more ``views`` than that one, by the
    mean of all; then the other runs."""
    kinds = (1, views) if views > 1 else (1,)
    return [Member(*network, kind) for network in networks for kind in kinds] + [Member(None, run) for run in runs]


def equal_weights(members: Sequence[Member]) -> np.ndarray:
    """Weights that sum to 1: each run counts as one, and its networks share that. A network answers by the mean of its
    views, where it has several."""
    most = max((member.views for member in members), default=1)
    own = np.array([member.stage is not None and member.views == most for member in members], float)
    runs = np.array([member.stage is None for member in members], float)
    return (own / max(1, own.sum()) + runs) / (min(1, own.sum()) + runs.sum())


def of_network(probabilities: np.ndarray, weights: str, average: str, multi_label: bool) -> np.ndarray:
    """The members that one network makes, of its probabilities (views, n, classes): the plain view and, with more views
    than that, their mean: (1 or 2, n, classes). weights, average: tta's."""
    if len(probabilities) == 1:
        return probabilities
    mean = mean_members(probabilities, view_weights(len(probabilities) - 1, weights), average, not multi_label)
    return np.stack([probabilities[0], mean])


class Blend(NamedTuple):
    """How members become one answer: who they are, what each weighs, and the kind of mean, arithmetic or geometric."""

    members: Sequence[Member]
    weights: np.ndarray
    average: str
    multi_label: bool

    def __call__(self, stack: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """(members, n, classes) to (n, classes), with other weights where they are given; they need not sum to 1."""
        weights = np.asarray(self.weights if weights is None else weights, float)
        used = np.flatnonzero(weights > 0)
        if len(used) == 1:
            return stack[used[0]]
        return mean_members(stack[used], weights[used] / weights.sum(), self.average, not self.multi_label)

    def by_plain_view(self) -> "Blend":
        """The same networks with the same weights, each by its plain view alone."""
        plain = {(m.stage, m.network): i for i, m in enumerate(self.members) if m.views == 1}
        weights = np.zeros(len(self.members))
        for member, weight in zip(self.members, self.weights, strict=True):
            weights[plain[member.stage, member.network]] += weight
        return self._replace(weights=weights)

    def used(self) -> "Blend":
        """The members that have a weight, without the others."""
        kept = [i for i, weight in enumerate(self.weights) if weight > 0]
        return self._replace(members=[self.members[i] for i in kept], weights=np.asarray(self.weights)[kept])

    @property
    def uses_runs(self) -> bool:
        """Whether another run has a weight."""
        return any(m.stage is None and weight > 0 for m, weight in zip(self.members, self.weights, strict=True))

    def without_runs(self) -> "Blend":
        """The members of this run, which answers alone where the other runs are not at hand.

        Raises UserError where none of them has a weight.
        """
        kept = [i for i, member in enumerate(self.members) if member.stage is not None]
        weights = np.asarray(self.weights)[kept]
        if not weights.sum() > 0:
            raise UserError(
                "ensemble: only other runs answer (ensemble.runs); none of this run's own networks was chosen, so it cannot "
                "answer alone. Use the run that was chosen, or set ensemble.weights: equal"
            )
        return self._replace(members=[self.members[i] for i in kept], weights=weights / weights.sum())


def written(blend: Blend) -> list[dict]:
    """A blend as chosen.json keeps it: a row for each member."""
    return [
        {**member._asdict(), "member": member.name, "weight": float(weight)}
        for member, weight in zip(blend.members, blend.weights, strict=True)
    ]


def read(chosen: Mapping, average: str = "arithmetic", multi_label: bool = False) -> Blend:
    """The blend that `written` wrote into chosen.json."""
    rows = chosen["members"]
    members = [Member(row["stage"], row["network"], row["views"]) for row in rows]
    return Blend(members, np.array([row["weight"] for row in rows]), average, multi_label)


def views_of(members: Sequence[Member]) -> dict[tuple[str, str], int]:
    """How many views each network of this run, (stage, name), has to see for its members to answer."""
    found: dict[tuple[str, str], int] = {}
    for member in members:
        if member.stage is not None:
            key = member.stage, member.network
            found[key] = max(member.views, found.get(key, 0))
    return found


def views_of_candidates(candidates: Sequence[Mapping], views: int) -> dict[tuple[str, str], int]:
    """The same where nothing is chosen yet: all ``views`` of each network of `Plan.candidates`."""
    return {(stage["stage"], name): views for stage in candidates for name in stage["networks"]}


def stack_members(
    logits: Mapping[str, np.ndarray], members: Sequence[Member], tta: Mapping, multi_label: bool
) -> np.ndarray:
    """What those ``members`` that are this run's own answer, in their order: probabilities (members, n, classes).

    logits: (views, n, classes) of each network, by its key, "all.end", with as many views as its members want.
    tta: average and weights of the views.
    """
    own, made = [member for member in members if member.stage is not None], {}
    for stage, network in dict.fromkeys((member.stage, member.network) for member in own):
        of_views = scoring.probabilities_of(np.asarray(logits[f"{stage}.{network}"]), multi_label)
        answers = of_network(of_views, tta["weights"], tta["average"], multi_label)
        made |= {Member(stage, network, views): p for views, p in zip((1, len(of_views)), answers, strict=False)}
    return np.stack([made[member] for member in own])


# ---- greedy selection


def greedy(stack: np.ndarray, loss: Callable[[np.ndarray], float], average: str, multi_label: bool) -> np.ndarray:
    """Weights by forward selection with replacement (Caruana et al. 2004): add, each round, the member that helps most.

    stack: (members, n, classes). The weights are the counts after the round of least loss; a member may stay at 0.
    Ties go to the earlier member.
    """
    link, back = _mean_space(average, multi_label)
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


def bagged(fit: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    """Mean of the weights that greedy selection finds on ``BAGS`` bootstrap samples of n rows (Caruana et al. 2004, "bagged
    ensemble selection"): on few rows one selection takes the few members that suit just these.

    fit: row numbers to weights. The samples depend on n alone, so the same rows give the same weights.
    """
    samples = (generator(0, "bag", bag).integers(0, n, n) for bag in range(BAGS))
    return np.mean([fit(rows) for rows in samples], 0)


def _mean_space(average: str, multi_label: bool) -> tuple[Callable, Callable]:
    """The functions between which a mean is a plain sum: logarithms for a geometric one."""
    if average == "arithmetic":
        return (lambda p: p), (lambda mean: mean)
    if multi_label:
        return (lambda p: np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(1 - p, 1e-300))), scoring.sigmoid
    return (lambda p: np.log(np.maximum(p, 1e-300))), scoring.softmax


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
    path, record = Path(folder, "predictions", f"{split}.csv"), Path(folder, "metrics.json")
    if not path.is_file() or not record.is_file():
        raise UserError(f"ensemble.runs: {folder} has no predictions/{split}.csv; run that config to `evaluate` first")
    if read_json(record).get("manifest") != digest:
        raise UserError(f"ensemble.runs: {folder} saw other data than this run (its manifest differs); run it again")
    cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False).to_numpy(dtype=object)
    first = cells.shape[1] - len(classes)
    if list(cells[0, first:]) != list(classes):
        raise UserError(f"{path}: its columns are not this run's classes")
    place = {name: row for row, name in enumerate(cells[1:, 0])}
    missing = [name for name in ids if name not in place]
    if missing:
        raise UserError(
            f"{path}: no answer for {len(missing)} of {len(ids)} images, such as {missing[0]!r}; "
            "both runs must hold out the same rows (split.method, folds and use, seed)"
        )
    return cells[1:, first:].astype(np.float64)[[place[name] for name in ids]]
