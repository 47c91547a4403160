"""What a run answers, and how good that is on the held-out images, to which every figure here belongs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eightfold import ensembles, metrics, prediction, tensors, tuning
from eightfold.ensembles import Blend
from eightfold.files import checked, read_json
from eightfold.metrics import Judge
from eightfold.tuning import Tuned


class Answers(NamedTuple):
    """What a fold's networks say of some rows of the manifest: probabilities (snapshots * views, n, classes)."""

    rows: np.ndarray
    probabilities: np.ndarray
    snapshots: int
    views: int


def read_answers(path: str | os.PathLike, several: bool) -> Answers:
    """A fold's predictions. Raises UserError where the file is not what the .json beside it tells."""
    found = tensors.load(checked(path, read_json(Path(path).with_suffix(".json"))))
    logits = found["logits"].numpy()  # (snapshots, views, n, classes)
    chances = metrics.probabilities_of(logits, several)
    return Answers(found["rows"].numpy(), chances.reshape(-1, *logits.shape[2:]), *logits.shape[:2])


def out_of_fold(held_out: Sequence[Answers]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rising rows (n,), the fold (from 0) that answers each, and its answers (members, n, classes).

    Each held-out row is predicted by the one fold that did not train on it.
    """
    rows = np.concatenate([found.rows for found in held_out])
    fold = np.repeat(np.arange(len(held_out)), [len(found.rows) for found in held_out])
    order = np.argsort(rows, kind="stable")
    stack = np.concatenate([found.probabilities for found in held_out], 1)
    return rows[order], fold[order], stack[:, order]


def of_stage(told: dict, predicted: str | os.PathLike, targets: np.ndarray, judge: Judge) -> dict:
    """A stage's row of metrics.json. told: its stage.json; predicted: its logits of the held-out rows; targets: of all rows."""
    found = tensors.load(predicted, told.get("made_from"))
    figures = told["metrics"]
    if len(found["rows"]):
        logits, rows = found["logits"].numpy(), found["rows"].numpy()
        figures = metrics.summary(metrics.probabilities_of(logits, targets.ndim == 2), targets[rows], judge)
    return {key: told[key] for key in ("stage", "fold", "train_loss", "lr", "epochs")} | figures


def scored(found: Tuned, targets: np.ndarray, judge: Judge) -> dict:
    """`metrics.summary`, the figure of decisions being that of the honest ones."""
    result = metrics.summary(found.probabilities, targets, judge)
    if found.decisions is not None:
        result[judge.name] = judge.of_decisions(found.decisions, targets)
    return result


def greedy_blend(stack: np.ndarray, targets: np.ndarray, equal: Blend, judge: Judge) -> Blend:
    """The members of ``equal`` by greedy selection on these rows: for the metric, if it is one of probabilities."""
    by_metric = judge.metric.judges == "probabilities" and judge.name != "accuracy"  # which is a staircase
    sign = -1 if by_metric and judge.metric.greater_is_better else 1

    def loss(chances: np.ndarray) -> float:
        return sign * (judge(chances, targets) if by_metric else metrics.log_loss(chances, targets))

    return equal.each_for_itself(ensembles.greedy(stack, loss, equal.of_networks, equal.several))


def judged(
    stack: np.ndarray,
    plain: np.ndarray,
    fold: np.ndarray,
    targets: np.ndarray,
    blend: Blend,
    judge: Judge,
    settings: dict,
) -> tuple[dict, Blend, Tuned]:
    """The figures of the held-out rows, as metrics.json has them; how members are blended; what was tuned on all rows.

    stack: (members, n, classes). plain: (n, classes), without test-time augmentation. fold, targets: of each row. blend: as
    the config weighs the members; greedy weights are chosen here. settings: seed, tuning and ensemble.
    """
    parts = tuning.parts_of(fold, settings["seed"])

    def figures(probabilities: np.ndarray) -> dict:
        return {judge.name: judge(probabilities, targets), "log_loss": metrics.log_loss(probabilities, targets)}

    ensemble, probabilities = {"weights": settings["ensemble"]["weights"]}, blend(stack)
    if ensemble["weights"] == "greedy":
        equal, weighed = blend, probabilities
        blend = greedy_blend(stack, targets, equal, judge)
        probabilities = tuning.cross_fitted(
            lambda by_row, truth: greedy_blend(by_row.swapaxes(0, 1), truth, equal, judge),
            lambda chosen, by_row, _: chosen(by_row.swapaxes(0, 1)),
            parts,
            stack.swapaxes(0, 1),
            targets,
        )
        ensemble |= {"equal": figures(weighed), "greedy": figures(probabilities)}
    ensemble["members"] = ensembles.contributions(stack, blend, figures)
    ensemble["all"] = figures(blend(stack))
    found = tuning.tune(probabilities, targets, parts, judge, settings["tuning"])
    by_fold = []
    for number in np.unique(fold):
        inside = fold == number
        chosen = None if found.decisions is None else found.decisions[inside]
        part = found._replace(probabilities=found.probabilities[inside], decisions=chosen)
        by_fold.append(scored(part, targets[inside], judge))
    told = {
        "ensemble": ensemble,
        "untuned": metrics.summary(probabilities, targets, judge),
        "tuning": found.steps,
        "final": scored(found, targets, judge),
        "no_tta": scored(tuning.tune(plain, targets, parts, judge, settings["tuning"]), targets, judge),
        "folds": by_fold,
    }
    return told, blend, found


def baseline(targets: np.ndarray, labelled: np.ndarray, rows: np.ndarray, fold: np.ndarray, judge: Judge) -> dict:
    """What it scores to look at no image: the class shares of the training rows, given to every held-out row.

    labelled: all rows that are split into folds. rows, fold: the held-out rows and the fold that answers each, which trains on
    all the others. Figures are `metrics.summary`'s; accuracy is that of the commonest class (multi-label: of the labels that
    more than half of the images have). class: its name, None where the folds differ in it or an image may have several.
    """
    shares, commonest = np.empty((len(rows), len(judge.classes))), set()
    for number in np.unique(fold):
        prior = prediction.class_prior(targets[np.setdiff1d(labelled, rows[fold == number])], len(judge.classes))
        shares[fold == number] = prior
        commonest.add(int(prior.argmax()))
    one = judge.classes[commonest.pop()] if targets.ndim == 1 and len(commonest) == 1 else None
    return {"class": one, **metrics.summary(shares, targets[rows], judge)}
