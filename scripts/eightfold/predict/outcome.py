"""The outcome of a run, metrics.json: its figures on the held-out images, those of each stage, which test images cannot be read."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from eightfold.net import scoring
from eightfold.predict import evaluation, evidence, metrics, tuning
from eightfold.predict.answer import Answer
from eightfold.predict.ensembles import Blend
from eightfold.predict.evaluation import Job
from eightfold.predict.metrics import Judge


class HeldOut(NamedTuple):
    """What a run answers for its held-out images. rows: of the manifest, rising. probabilities: (rows, classes), as tuned on
    other rows. tuned: what was fitted on all of them, as tuning.json has it. figures: their part of metrics.json."""

    rows: np.ndarray
    probabilities: np.ndarray
    tuned: dict
    figures: dict


def judge_held_out(job: Job, blend: Blend, paths: Sequence[str | os.PathLike], settings: Mapping) -> HeldOut:
    """Judge what each fold predicts of the images that it holds out, in ``paths``; without any there are no figures.

    settings: tta, and those of `evaluation.judged` and `evaluation.equal_blend`. Raises UserError where a file is damaged or
    another run does not fit.
    """
    if not paths:
        figures = {"final": {}, "no_tta": {}, "folds": [], "untuned": {}, "tuning": []}
        figures["ensemble"] = {"weights": settings["ensemble"]["weights"], "members": []}
        empty = np.empty((0, len(job.classes)))
        return HeldOut(np.empty(0, int), empty, tuning.untuned(job.judge.name), figures)
    held_out = [evaluation.read_answers(path, blend.members, settings["tta"], job.multi_label) for path in paths]
    rows, fold, own = evaluation.out_of_fold(held_out)
    stack = evaluation.with_runs(own, settings["runs"], job, "valid", rows)
    equal = evaluation.equal_blend(settings, job.multi_label)
    figures, found = evaluation.judged(stack, fold, job.targets[rows], equal, blend, job.judge, settings)
    labelled = np.flatnonzero(job.table["split"] != "test")
    figures["baseline"] = evaluation.baseline(job.targets, labelled, rows, fold, job.judge)
    return HeldOut(rows, found.probabilities, found.values, figures)


def describe_stages(stages: Sequence[Mapping], job: Job) -> dict[str, list[dict]]:
    """What each stage of each fold comes to ("stages"), and each stage over all folds ("by_stage"). stages: `evidence.read_stage`."""
    of_each = [describe_stage(stage, job.targets, job.judge) for stage in stages]
    return {"stages": of_each, "by_stage": evidence.of_run(stages, job.targets, job.judge)}


def describe_stage(stage: Mapping, targets: np.ndarray, judge: Judge) -> dict:
    """A stage of a fold: what its stage.json says of it, and its figures on the fold's held-out images, where there are some."""
    figures, rows = stage["metrics"], stage["rows"]
    if len(rows):
        figures = metrics.summary(scoring.probabilities_of(stage["logits"], targets.ndim == 2), targets[rows], judge)
    return {key: stage[key] for key in ("stage", "fold", "train_loss", "lr", "epochs")} | figures


def collect(job: Job, held_out: HeldOut, stages: Mapping[str, list], answer: Answer) -> dict:
    """What metrics.json holds. stages: `describe_stages`."""
    found = {"manifest": job.digest, "metric": job.judge.name, **held_out.figures, **stages}
    return found | ({"unreadable_test_images": answer.unreadable} if len(answer.rows) else {})
