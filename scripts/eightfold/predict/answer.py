"""The answer for images to predict: folds combined, a row also for what cannot be read, and the table that holds it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from eightfold.core.runtime import log
from eightfold.predict import ensembles, evaluation
from eightfold.predict.ensembles import Blend
from eightfold.predict.evaluation import Job
from eightfold.predict.prediction import class_prior, mean_members
from eightfold.predict.tuning import with_temperature


def combine_folds(of_folds: Sequence[np.ndarray], blend: Blend, temperature: float) -> np.ndarray:
    """What the folds answer together, each counting alike, at a temperature: (n, classes) each, and in all.

    blend: what made the answer of each fold; the folds' mean is of the same kind.
    """
    mean = of_folds[0]
    if len(of_folds) > 1:
        equal = np.full(len(of_folds), 1 / len(of_folds))
        mean = mean_members(np.stack(of_folds), equal, blend.average, not blend.multi_label)
    return with_temperature(mean, temperature, blend.multi_label)


def combine_networks(
    of_folds: Sequence[Mapping[str, np.ndarray]], blend: Blend, tta: Mapping, temperature: float
) -> np.ndarray:
    """`combine_folds` of what networks say: of each fold the logits (views, n, classes) of each network, by its key.

    blend: all its members are of this run. tta: average and weights of the views.
    """
    stacks = (ensembles.stack_members(logits, blend.members, tta, blend.multi_label) for logits in of_folds)
    return combine_folds([blend(stack) for stack in stacks], blend, temperature)


class Answer(NamedTuple):
    """The answer for every test image. rows: of the manifest, rising. probabilities: (rows, classes). unreadable: the ids of
    those that cannot be read, which get the class prior."""

    rows: np.ndarray
    probabilities: np.ndarray
    unreadable: list[str]


def answer_every_row(job: Job, answered: np.ndarray, probabilities: np.ndarray) -> Answer:
    """The answer for every test image, of the probabilities (n, classes) for the rows ``answered`` of those that can be read."""
    is_test = (job.table["split"] == "test").to_numpy()
    rows, prior = np.flatnonzero(is_test), class_prior(job.targets[~is_test], len(job.classes))
    found = np.empty((len(rows), len(job.classes)), np.result_type(prior, probabilities))
    found[:] = prior
    found[np.searchsorted(rows, answered)] = probabilities
    return Answer(rows, found, job.table["id"].iloc[np.setdiff1d(rows, answered)].tolist())


def warn_of_unreadable(answer: Answer) -> None:
    """Log how many test images cannot be read, and the first of them."""
    if answer.unreadable:
        shown = answer.unreadable[:10]
        log.warning("%d test images cannot be read and get the class prior: %s", len(answer.unreadable), shown)


def answer_test_images(
    job: Job, blend: Blend, paths: Sequence[str | os.PathLike], settings: Mapping, temperature: float
) -> Answer:
    """The answer for the test images by what each fold predicts, in ``paths``, and the other runs that ``blend`` uses.

    settings: tta, and runs (folders). Raises UserError where a file is damaged or another run does not fit.
    """
    if not (job.table["split"] == "test").any():
        return answer_every_row(job, np.empty(0, int), np.empty((0, len(job.classes))))
    used = blend.used()
    names = {member.network for member in used.members if member.stage is None}
    runs = [folder for folder in settings["runs"] if Path(folder).name in names]
    of_folds = []
    for path in paths:
        rows, own = evaluation.read_answers(path, used.members, settings["tta"], job.multi_label)
        of_folds.append(used(evaluation.with_runs(own, runs, job, "test", rows)))
    return answer_every_row(job, rows, combine_folds(of_folds, used, temperature))


def tabulate(columns: Mapping[str, Sequence], probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """The named columns, such as the ids, and then one for each class: probabilities (n, classes)."""
    # By position, not by name: a class may be called "id" or "label".
    return pd.concat([pd.DataFrame(columns), pd.DataFrame(probabilities, columns=list(classes))], axis=1)
