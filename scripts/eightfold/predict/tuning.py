"""What is fitted on out-of-fold predictions, and never on an image's own: temperature, clip, thresholds, cut points.

Each is described by two figures besides the one before it: ``in_sample``, on the rows it was fitted on, and ``after``, where
every row is answered by what was fitted on other parts of the rows. Only the second is honest, and only it decides.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from eightfold.core.randomness import generator
from eightfold.net import scoring
from eightfold.predict import metrics
from eightfold.predict.metrics import Judge

TINY = 1e-15
CLIPS = (0.0, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.03, 0.05)
GRID = np.arange(0.01, 1, 0.01)  # thresholds that are tried; .17 to .24, the lesson's, are among them
COURSE = np.arange(0.17, 0.245, 0.01)  # of which the lesson took the best for planet
MOST_CLASSES = 200  # with more, a threshold per class would take minutes and fit noise


class Tuned(NamedTuple):
    """values: what a submission reads, all fitted on every row. steps: before, in_sample and after of each.

    probabilities: (n, classes) as each row would get them from the other parts; decisions likewise, where one decides.
    """

    values: dict
    steps: list[dict]
    probabilities: np.ndarray
    decisions: np.ndarray | None


def untuned(metric: str) -> dict:
    """The values that change nothing."""
    return {"metric": metric, "temperature": 1.0, "clip": 0.0, "thresholds": None, "cut_points": None}


def for_an_average(settings: dict) -> dict:
    """The settings of `tune` where the networks of several folds answer together: what is fitted on each of them, out of fold,
    is not what their mean wants, which is surer than it should be by less, or not at all (docs/experiments.md)."""
    return {**settings, "temperature": False, "clip": False}


def parts_of(folds: np.ndarray, seed: int, parts: int = 5) -> np.ndarray:
    """The part of each row for cross-fitting: its fold where there are several, else one of ``parts`` at random."""
    if len(np.unique(folds)) > 1:
        return np.unique(folds, return_inverse=True)[1]
    return generator(seed, "cross-fitting").permutation(len(folds)) % parts


def cross_fitted(fit: Callable, apply: Callable, parts: np.ndarray, *arrays: np.ndarray) -> np.ndarray:
    """apply(fit(arrays of the other parts), arrays of this part) for each part, back in the order of the rows."""
    result = None
    for part in np.unique(parts):
        inside = parts == part
        fitted = fit(*(array[~inside] for array in arrays))
        values = np.asarray(apply(fitted, *(array[inside] for array in arrays)))
        result = np.empty((len(parts), *values.shape[1:]), values.dtype) if result is None else result
        result[inside] = values
    return result


# ---- temperature


def with_temperature(probabilities: np.ndarray, temperature: float, multi_label: bool) -> np.ndarray:
    """Probabilities whose logits are divided by ``temperature``: above 1 less sure, below 1 surer. 1 changes nothing."""
    if temperature == 1:
        return probabilities
    return scoring.probabilities_of(logits_of(probabilities, multi_label) / temperature, multi_label)


def logits_of(probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
    """Logits that give these probabilities, kept finite: (n, classes)."""
    if multi_label:
        p = np.clip(probabilities, TINY, 1 - 1e-12)
        return np.log(p / (1 - p))
    return np.log(np.maximum(probabilities, TINY))


def golden_section(f: Callable[[float], float], low: float, high: float, tolerance: float = 1e-4) -> float:
    """Where a function with one valley is least, between ``low`` and ``high``.

    Our own on purpose: scipy's bounded search finds the same valley, but other late digits of the temperature, and so
    other bytes of a submission.
    """
    ratio = (5**0.5 - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    fa, fb = f(a), f(b)
    while high - low > tolerance:
        if fa < fb:
            high, b, fb = b, a, fa
            a = high - ratio * (high - low)
            fa = f(a)
        else:
            low, a, fa = a, b, fb
            b = low + ratio * (high - low)
            fb = f(b)
    return (low + high) / 2


def with_room_for_a_mistake(targets: np.ndarray, classes: int) -> np.ndarray:
    """Targets as probabilities (n, classes): what n images show is known to one in n + 2 (Platt 1999, after Laplace).

    Where all of few images are right, a temperature fitted to them as they are goes to 0, and the first mistake on
    another image then costs more than all that was gained.
    """
    if targets.ndim == 2:
        yes = targets > 0.5
        return np.where(yes, (yes.sum() + 1) / (yes.sum() + 2), 1 / ((~yes).sum() + 2))
    wrong = 1 / (len(targets) + 2)
    return np.where(np.eye(classes, dtype=bool)[targets], 1 - wrong, wrong / (classes - 1))


def fit_temperature(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The temperature of least log loss (Guo et al. 2017), from 1/20 to 20; the loss is convex in its inverse.

    The log loss against `with_room_for_a_mistake`.
    """
    wanted = with_room_for_a_mistake(targets, probabilities.shape[1])
    logits = logits_of(probabilities, targets.ndim == 2)

    def loss(log_temperature: float) -> float:
        z = logits / np.exp(log_temperature)
        if targets.ndim == 2:
            return float((np.logaddexp(0, z) - wanted * z).mean())
        return float((np.logaddexp.reduce(z, 1) - (wanted * z).sum(1)).mean())

    return float(np.exp(golden_section(loss, -3, 3)))


# ---- clip


def clipped(probabilities: np.ndarray, clip: float, multi_label: bool) -> np.ndarray:
    """Probabilities kept within [clip, 1 - clip]; rows of a single-label job sum to 1 again."""
    p = np.clip(probabilities, clip, 1 - clip) if clip else probabilities
    return p if multi_label or not clip else p / p.sum(1, keepdims=True)


def fit_clip(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The clip of least log loss among ``CLIPS``: bounds what one confident mistake costs."""
    losses = [scoring.log_loss(clipped(probabilities, clip, targets.ndim == 2), targets) for clip in CLIPS]
    return CLIPS[int(np.argmin(losses))]


# ---- thresholds


def fit_threshold(judge: Judge, probabilities: np.ndarray, targets: np.ndarray, grid: np.ndarray = GRID) -> float:
    """The one threshold of the best figure; of equals, the middle one."""
    scores = np.array([judge.of_decisions(judge.decide(probabilities, {"thresholds": cut}), targets) for cut in grid])
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(np.round(grid[best[len(best) // 2]], 6))


def fit_thresholds(judge: Judge, probabilities: np.ndarray, targets: np.ndarray) -> list[float]:
    """A threshold per class, by coordinate ascent from the best common one: two rounds over the classes.

    A class moves only where the figure rises, so that a rare one keeps the common threshold.
    """
    cuts = np.full(probabilities.shape[1], fit_threshold(judge, probabilities, targets))
    chosen = judge.decide(probabilities, {"thresholds": cuts})
    best = judge.of_decisions(chosen, targets)
    for _ in range(2):
        for c in range(len(cuts)):
            column = chosen[:, c].copy()
            for cut in GRID[1::2]:
                chosen[:, c] = probabilities[:, c] > cut
                score = judge.of_decisions(chosen, targets)
                if score > best + 1e-12:
                    best, cuts[c], column = score, cut, chosen[:, c].copy()
            chosen[:, c] = column
    return [float(np.round(cut, 6)) for cut in cuts]


# ---- cut points


def fit_cut_points(judge: Judge, probabilities: np.ndarray, targets: np.ndarray) -> list[float]:
    """Rising cuts of the expected grade that maximise the figure (kappa): each cut in turn, in ever smaller steps."""
    order = metrics.grade_order(judge.classes)
    expected, truth = metrics.expected_grade(probabilities, order), np.argsort(order)[targets]
    cuts = np.arange(len(order) - 1) + 0.5

    def score(trial: np.ndarray) -> float:
        return judge.metric.function(np.searchsorted(trial, expected, side="right"), truth)

    best, step = score(cuts), 0.4
    while step > 0.005:
        moved = False
        for i in range(len(cuts)):
            for change in (-step, step):
                trial = cuts.copy()
                trial[i] += change
                value = score(trial) if (np.diff(trial) > 0).all() else -np.inf
                if value > best + 1e-12:
                    best, cuts, moved = value, trial, True
        step = step if moved else step / 2
    return [float(np.round(cut, 6)) for cut in cuts]


# ---- all of it


def _step(what: str, value, metric: str, before: float, in_sample: float, after: float, better: bool) -> dict:
    row = {"what": what, "value": value, "metric": metric, "before": before, "in_sample": in_sample, "after": after}
    return row | {"used": better}


def tune(probabilities: np.ndarray, targets: np.ndarray, parts: np.ndarray, judge: Judge, settings: dict) -> Tuned:
    """Fit what the settings (temperature, clip: bool; thresholds: global, per_class or none) and the metric ask for.

    probabilities: out-of-fold (n, classes). A step is used if its cross-fitted figure is better than the one before.
    """
    multi_label = targets.ndim == 2
    values, steps = untuned(judge.name), []
    if len(targets) < 10 or len(np.unique(parts)) < 2:
        return Tuned(values, steps, probabilities, None)

    def loss(p: np.ndarray) -> float:
        return scoring.log_loss(p, targets)

    if settings["temperature"]:
        value = fit_temperature(probabilities, targets)
        honest = cross_fitted(
            fit_temperature, lambda t, p, _: with_temperature(p, t, multi_label), parts, probabilities, targets
        )
        before, after = loss(probabilities), loss(honest)
        in_sample = loss(with_temperature(probabilities, value, multi_label))
        used = after < before
        steps.append(_step("temperature", value, "log_loss", before, in_sample, after, used))
        if used:
            values["temperature"], fitted, probabilities = (
                value,
                with_temperature(probabilities, value, multi_label),
                honest,
            )
        else:
            fitted = probabilities
    else:
        fitted = probabilities
    # From here on ``fitted`` holds what the submission will cut, ``probabilities`` what each row would get unseen.
    if settings["clip"] and judge.name == "log_loss":
        value = fit_clip(fitted, targets)
        honest = cross_fitted(fit_clip, lambda c, p, _: clipped(p, c, multi_label), parts, probabilities, targets)
        before, after = loss(probabilities), loss(honest)
        used = value > 0 and after < before
        steps.append(_step("clip", value, "log_loss", before, loss(clipped(fitted, value, multi_label)), after, used))
        values["clip"] = value if used else 0.0
    return _with_decisions(values, steps, probabilities, fitted, targets, parts, judge, settings)


def _with_decisions(values, steps, probabilities, fitted, targets, parts, judge, settings) -> Tuned:
    """The last step of `tune`: thresholds or cut points, where the metric judges decisions."""
    multi_label = targets.ndim == 2
    if judge.metric.judges != "decisions":
        return Tuned(values, steps, probabilities, None)
    decided = judge.decide(probabilities)
    if multi_label and settings["thresholds"] != "none":
        each = settings["thresholds"] == "per_class" and probabilities.shape[1] <= MOST_CLASSES
        what, fit = "thresholds", fit_thresholds if each else fit_threshold
    elif judge.metric.tunes == "cut_points":
        what, fit = "cut_points", fit_cut_points
    else:
        return Tuned(values, steps, probabilities, decided)

    value = fit(judge, fitted, targets)
    honest = cross_fitted(
        lambda p, t: fit(judge, p, t), lambda v, p, _: judge.decide(p, {what: v}), parts, probabilities, targets
    )
    before, after = judge.of_decisions(decided, targets), judge.of_decisions(honest, targets)
    in_sample = judge.of_decisions(judge.decide(fitted, {what: value}), targets)
    used = judge.better(after, before)
    step = _step(what, value, judge.name, before, in_sample, after, used)
    if judge.name == "fbeta_samples":
        cut = fit_threshold(judge, fitted, targets, COURSE)
        step["course"] = {"threshold": cut, "in_sample": judge.of_decisions(judge.decide(fitted, {what: cut}), targets)}
    values[what] = value if used else None
    return Tuned(values, [*steps, step], probabilities, honest if used else decided)
