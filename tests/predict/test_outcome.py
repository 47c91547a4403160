"""The outcome of a run: figures by scikit-learn, of files that hold what networks say, and of a run that holds nothing out."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from eightfold.core import tensors
from eightfold.core.files import file_digest, write_json
from eightfold.net import scoring
from eightfold.predict import evaluation, evidence, metrics, outcome, tuning
from eightfold.predict.answer import Answer
from eightfold.predict.evaluation import Job

CLASSES, FOLDS, LABELLED = ["ant", "bee"], 3, 30
SETTINGS = {
    "tta": {"average": "arithmetic", "weights": "equal"},
    "ensemble": {"weights": "equal", "average": "arithmetic"},
    "networks": [["head", "end"]],
    "views": 2,
    "runs": [],
    "folds": 1,
    "seed": 0,
    "tuning": {"temperature": False, "clip": False, "thresholds": "none"},
}
NO_ANSWER = Answer(np.empty(0, int), np.empty((0, 2)), [])


@pytest.fixture
def run(tmp_path):
    """A job of 30 labelled rows and one to predict, and each fold's predictions: (job, paths, probabilities, fold of each row)."""
    random = np.random.default_rng(0)
    truth, fold = random.integers(0, 2, LABELLED), np.arange(LABELLED) % FOLDS
    logits = 2 * np.eye(2)[truth] + random.normal(0, 1.5, (2, LABELLED, 2))
    paths = []
    for number in range(FOLDS):
        rows = np.flatnonzero(fold == number)
        paths.append(tmp_path / f"{number}.safetensors")
        held_out = {"rows": torch.tensor(rows), "head.end": torch.tensor(logits[:, rows])}
        tensors.save(paths[-1], held_out, "id")
        write_json(paths[-1].with_suffix(".json"), {"digest": file_digest(paths[-1])})
    table = pd.DataFrame({"id": [str(i) for i in range(LABELLED + 1)], "split": ["train"] * LABELLED + ["test"]})
    judge = metrics.Judge("roc_auc", "single", CLASSES)
    job = Job(table, "digest", np.append(truth, -1), CLASSES, False, judge)
    return job, paths, scoring.softmax(logits).mean(0), fold


def test_held_out_images_are_judged_as_scikit_learn_judges_the_mean_of_their_views(run):
    job, paths, p, fold = run
    found = outcome.judge_held_out(job, evaluation.equal_blend(SETTINGS, False), paths, SETTINGS)
    truth = job.targets[:LABELLED]
    assert found.rows.tolist() == list(range(LABELLED)) and found.tuned == tuning.untuned("roc_auc")
    np.testing.assert_allclose(found.probabilities, p)
    final = {"accuracy": (p.argmax(1) == truth).mean(), "log_loss": log_loss(truth, p), "images": LABELLED}
    assert found.figures["final"] == pytest.approx(final | {"roc_auc": roc_auc_score(truth, p[:, 1])})
    of_folds = [log_loss(truth[fold == k], p[fold == k]) for k in range(FOLDS)]
    assert [figures["log_loss"] for figures in found.figures["folds"]] == pytest.approx(of_folds)
    shares = np.empty((LABELLED, 2))
    for number in range(FOLDS):
        shares[fold == number] = np.bincount(truth[fold != number], minlength=2) / (fold != number).sum()
    assert found.figures["baseline"]["log_loss"] == pytest.approx(log_loss(truth, shares))


def test_a_run_that_holds_nothing_out_has_no_figures_and_nothing_tuned(run):
    job, *_ = run
    found = outcome.judge_held_out(job, evaluation.equal_blend(SETTINGS, False), [], SETTINGS)
    assert found.rows.shape == (0,) and found.probabilities.shape == (0, 2)
    assert found.tuned == tuning.untuned("roc_auc")
    assert found.figures["final"] == {} and found.figures["ensemble"] == {"weights": "equal", "members": []}
    assert "baseline" not in found.figures


def stage_of(folder, name, rows, logits):
    """A stage as its two files have it."""
    told = {"stage": name, "fold": "0", "train_loss": 0.5, "lr": [0.1], "epochs": 2, "metrics": {}, "made_from": "id"}
    write_json(folder / f"{name}.json", told)
    held_out = {"rows": torch.tensor(rows), "logits": torch.tensor(logits), "losses": torch.zeros(2, len(rows))}
    tensors.save(folder / f"{name}.safetensors", held_out, "id")
    return evidence.read_stage(folder / f"{name}.json", folder / f"{name}.safetensors")


def test_a_stage_is_described_by_its_record_and_the_figures_of_its_logits(run, tmp_path):
    job, *_ = run
    rows, logits = np.array([4, 2, 9, 1]), np.random.default_rng(1).normal(0, 1, (4, 2))
    stages = [stage_of(tmp_path, "head", rows, logits), stage_of(tmp_path, "all", rows, 2 * logits)]
    found = outcome.describe_stages(stages, job)
    truth = job.targets[rows]
    assert [row["stage"] for row in found["stages"]] == [row["stage"] for row in found["by_stage"]] == ["head", "all"]
    for row, scale in zip(found["stages"], (1, 2), strict=True):
        p = scoring.softmax(scale * logits)
        figures = {"accuracy": (p.argmax(1) == truth).mean(), "log_loss": log_loss(truth, p, labels=[0, 1])}
        assert {name: row[name] for name in figures} == pytest.approx(figures)
        assert (row["fold"], row["lr"], row["epochs"], row["train_loss"], row["images"]) == ("0", [0.1], 2, 0.5, 4)
    none = outcome.describe_stage(stage_of(tmp_path, "none", rows[:0], logits[:0]), job.targets, job.judge)
    assert none == {"stage": "none", "fold": "0", "train_loss": 0.5, "lr": [0.1], "epochs": 2}


def test_the_outcome_names_the_data_and_the_unreadable_test_images_where_there_are_test_images(run):
    job, *_ = run
    held_out = outcome.judge_held_out(job, evaluation.equal_blend(SETTINGS, False), [], SETTINGS)
    stages = {"stages": [], "by_stage": []}
    found = outcome.collect(job, held_out, stages, Answer(np.array([30]), np.ones((1, 2)), ["30"]))
    assert found == held_out.figures | stages | {
        "manifest": "digest",
        "metric": "roc_auc",
        "unreadable_test_images": ["30"],
    }
    assert "unreadable_test_images" not in outcome.collect(job, held_out, stages, NO_ANSWER)
