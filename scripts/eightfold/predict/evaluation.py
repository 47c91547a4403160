"""What a run answers, and how good that is on the held-out images, to which every figure here belongs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from eightfold.core import tensors
from eightfold.core.files import checked, read_json
from eightfold.inputs import dataset
from eightfold.net import scoring
from eightfold.predict import ensembles, metrics, prediction, tuning
from eightfold.predict.ensembles import Blend, Member
from eightfold.predict.metrics import Judge
from eightfold.predict.tuning import Tuned


class Job(NamedTuple):
    """What is answered and how that is judged. targets: of every row of the manifest."""

    table: pd.DataFrame
    digest: str  # of the manifest
    targets: np.ndarray
    classes: list[str]
    multi_label: bool
    judge: Judge


def open_job(folder: str | os.PathLike, settings: Mapping) -> Job:
    """The job of a manifest's folder; settings: metric, and positive (a class) for those that want one.

    Raises UserError where the metric does not fit the job.
    """
    table, info = dataset.read_manifest(folder)
    classes, task = info["classes"], info["task"]
    positive = classes.index(settings["positive"]) if settings["positive"] in classes else len(classes) - 1
    metrics.check_fit(settings["metric"], task, classes, info["ordered"])
    judge = Judge(settings["metric"], task, classes, positive)
    return Job(table, info["digest"], dataset.targets(table, info), classes, task == "multi", judge)


class Answers(NamedTuple):
    """What the members of one fold say of some rows of the manifest: probabilities (members, n, classes)."""

    rows: np.ndarray
    stack: np.ndarray


def read_answers(path: str | os.PathLike, members: Sequence[Member], tta: Mapping, multi_label: bool) -> Answers:
    """A fold's predictions, of those ``members`` that are this run's own, in their order; tta: average and weights.

    Raises UserError where the file is not what the .json beside it says.
    """
    found = tensors.load(checked(path, read_json(Path(path).with_suffix(".json"))))
    return Answers(found["rows"].numpy(), ensembles.stack_members(found, members, tta, multi_label))


def with_runs(own: np.ndarray, runs: Sequence[str], job: Job, split: str, rows: np.ndarray) -> np.ndarray:
    """This run's members (m, n, classes) and, below them, what the other ``runs`` (folders) say of the rows."""
    ids = job.table["id"].iloc[rows].tolist()
    others = [ensembles.read_run(folder, job.digest, job.classes, split, ids)[None] for folder in runs]
    return np.concatenate([own, *others])


def out_of_fold(held_out: Sequence[Answers]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rising rows (n,), the fold (from 0) that answers each, and its answers (members, n, classes).

    Each held-out row is predicted by the one fold that did not train on it.
    """
    rows = np.concatenate([found.rows for found in held_out])
    fold = np.repeat(np.arange(len(held_out)), [len(found.rows) for found in held_out])
    order = np.argsort(rows, kind="stable")
    stack = np.concatenate([found.stack for found in held_out], 1)
    return rows[order], fold[order], stack[:, order]


def scored(found: Tuned, targets: np.ndarray, judge: Judge) -> dict:
    """`metrics.summary`, the figure of decisions being that of the honest ones."""
    result = metrics.summary(found.probabilities, targets, judge)
    if found.decisions is not None:
        result[judge.name] = judge.of_decisions(found.decisions, targets)
    return result


def equal_blend(settings: Mapping, multi_label: bool) -> Blend:
    """All members with equal weights. settings: networks ([stage, network] each), views, runs (folders), ensemble."""
    networks = [tuple(network) for network in settings["networks"]]
    members = ensembles.members_of(networks, settings["views"], [Path(folder).name for folder in settings["runs"]])
    return Blend(members, ensembles.equal_weights(members), settings["ensemble"]["average"], multi_label)


def greedy_blend(stack: np.ndarray, targets: np.ndarray, equal: Blend, judge: Judge) -> Blend:
    """The members of ``equal`` by greedy selection on samples of these rows: for the metric, if it is one of probabilities."""
    by_metric = judge.metric.judges == "probabilities" and judge.name not in ("accuracy", "log_loss")
    sign = -1 if by_metric and judge.metric.greater_is_better else 1
    of_truth = not by_metric and targets.ndim == 1 and equal.average == "arithmetic"
    if of_truth:  # then log loss asks for nothing but what each member gives to the true class
        stack = stack[:, np.arange(len(targets)), targets, None]

    def weights(rows: np.ndarray) -> np.ndarray:
        truth = targets[rows]

        def loss(probabilities: np.ndarray) -> float:
            if of_truth:
                return float(-np.log(np.maximum(probabilities, tuning.TINY)).mean())
            return sign * (judge(probabilities, truth) if by_metric else scoring.log_loss(probabilities, truth))

        return ensembles.greedy(stack[:, rows], loss, equal.average, equal.multi_label)

    found = ensembles.bagged(weights, len(targets))
    found = np.where(found < min(ensembles.LEAST_WEIGHT, found.max()), 0, found)
    return equal._replace(weights=found / found.sum())


def judged(
    stack: np.ndarray,
    fold: np.ndarray,
    targets: np.ndarray,
    equal: Blend,
    blend: Blend,
    judge: Judge,
    settings: Mapping,
) -> tuple[dict, Tuned]:
    """The figures of the held-out rows, as metrics.json has them, and what was tuned on all of them.

    stack: (members, n, classes). fold, targets: of each row. equal: all members, with equal weights. blend: the same members as
    they answer; where the weights are greedy, each row is answered here by weights that were chosen on other rows.
    settings: seed, tuning, ensemble, and folds, how many of them answer for the images to predict.
    """
    parts = tuning.parts_of(fold, settings["seed"])

    def figures(probabilities: np.ndarray) -> dict:
        return {judge.name: judge(probabilities, targets), "log_loss": scoring.log_loss(probabilities, targets)}

    def both(chosen: Blend, members: np.ndarray) -> np.ndarray:
        """The answer of members (members, n, classes), and that of their plain views: (n, 2, classes)."""
        return np.stack([chosen(members), chosen.by_plain_view()(members)], 1)

    ensemble = {"weights": settings["ensemble"]["weights"]}
    if ensemble["weights"] == "greedy":
        answers = tuning.cross_fitted(
            lambda by_row, truth: greedy_blend(by_row.swapaxes(0, 1), truth, equal, judge),
            lambda chosen, by_row, _: both(chosen, by_row.swapaxes(0, 1)),
            parts,
            stack.swapaxes(0, 1),
            targets,
        )
        probabilities, plain = answers[:, 0], answers[:, 1]
        ensemble |= {"equal": figures(equal(stack)), "greedy": figures(probabilities)}
    else:
        probabilities, plain = both(blend, stack).swapaxes(0, 1)
    ensemble["members"] = ensembles.contributions(stack, blend, figures)
    ensemble["all"] = figures(blend(stack))
    wanted = tuning.for_an_average(settings["tuning"]) if settings["folds"] > 1 else settings["tuning"]
    found = tuning.tune(probabilities, targets, parts, judge, wanted)
    by_fold = []
    for number in np.unique(fold):
        inside = fold == number
        chosen = None if found.decisions is None else found.decisions[inside]
        part = found._replace(probabilities=found.probabilities[inside], decisions=chosen)
        by_fold.append(scored(part, targets[inside], judge))
    figures_of = {
        "ensemble": ensemble,
        "untuned": metrics.summary(probabilities, targets, judge),
        "tuning": found.steps,
        "final": scored(found, targets, judge),
        "final_of": whose(settings["folds"], ensemble["weights"] == "greedy"),
        "no_tta": scored(tuning.tune(plain, targets, parts, judge, wanted), targets, judge),
        "folds": by_fold,
    }
    return figures_of, found


def whose(answering: int, greedy: bool) -> str:
    """How ``final`` was made, in words. answering: folds whose mean answers for other images; greedy: whether weights were chosen."""
    each = "each image answered by networks that did not learn from it"
    if greedy:
        each += ", with weights that were chosen without it"
    if answering == 1:
        return each
    return (
        f"{each}; the images to predict get the average of {answering} folds, which is as a rule better and has no "
        "held-out image to show it"
    )


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
