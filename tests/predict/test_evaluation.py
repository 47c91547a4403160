"""scripts/choose.py and score.py on logits made by hand: what they write is what their parts say, and the honest figures are of its files."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import cohen_kappa_score, fbeta_score, log_loss
from test_report import run_script

from eightfold.core import tensors
from eightfold.core.files import file_digest, write_json, write_table, write_text
from eightfold.inputs import dataset
from eightfold.net import scoring
from eightfold.predict import answer, ensembles, tuning

pytestmark = pytest.mark.slow  # each test runs the rules' scripts, which import torch

CLASSES = ["ant", "bee", "id"]
LABELLED, TEST = 120, 5
FOLDS, VIEWS = 3, 2
NETWORKS = [["all", "cycle1"], ["all", "end"]]
TUNING = {"temperature": True, "clip": True, "thresholds": "global"}
TTA = {"average": "arithmetic", "weights": "equal"}
SETTINGS = {"tta": TTA, "seed": 0, "positive": None, "runs": [], "tuning": TUNING, "networks": NETWORKS, "views": VIEWS}


class Run:
    """The files that evaluate reads, with overconfident logits; and a call of the scripts.

    bias: what the networks wrongly add to the logits of each class. noise: of each network and view. sure: how many
    times what they should be the logits are. targets: of the labelled rows, hidden: of the others.
    """

    def __init__(self, folder, task="single", test=TEST, classes=CLASSES, bias=(0, 0, 0), noise=(0.7, 0.7), sure=3):
        rng = np.random.default_rng(0)
        self.folder, n = folder, LABELLED + test
        logits = rng.normal(0, 1.5, (n, 3))
        if task == "single":
            truth = np.array([rng.choice(3, p=row) for row in scoring.softmax(logits)])
            labels = [classes[c] for c in truth]
        else:
            truth = (rng.random((n, 3)) < scoring.sigmoid(logits)).astype(int)
            truth[truth.sum(1) == 0, 0] = 1
            labels = ["|".join(np.array(classes)[row > 0]) for row in truth]
        self.targets, self.hidden = truth[:LABELLED], truth[LABELLED:]
        logits += bias
        self.ids = [f"{number:03d}" for number in range(n)]
        splits = ["train"] * LABELLED + ["test"] * test
        table = pd.DataFrame({"id": self.ids, "path": self.ids, "split": splits, "labels": labels})
        table.loc[LABELLED:, "labels"] = ""
        table = table.assign(width=8, height=8, mode="RGB", bytes=1, sha256=self.ids, status="ok")
        for name in set(dataset.COLUMNS) - set(table):
            table[name] = ""
        table.loc[n - 1, "status"] = "unreadable"
        info = {
            "task": task,
            "ordered": False,
            "sample_submission": None,
            "classes": list(classes),
            "separator": None if task == "single" else "|",
            "root": ".",
        }
        info["digest"] = self.digest = dataset.identity(table, info)
        write_table(folder / "manifest.csv", table[dataset.COLUMNS])
        write_json(folder / "manifest.json", info)
        self.fold = np.arange(LABELLED) % FOLDS
        self.logits, self.input = {}, {"manifest": folder / "manifest.csv", "stages": [], "stages_valid": []}
        for fold in range(FOLDS):
            for split, rows in (("valid", np.flatnonzero(self.fold == fold)), ("test", np.arange(LABELLED, n - 1))):
                shape = len(NETWORKS), VIEWS, len(rows), 3
                errors = rng.normal(0, 1, shape) * np.reshape(noise, (-1, 1, 1, 1))
                self.logits[split, fold] = (sure * (logits[rows] + errors)).astype(np.float32)
                self.keep(split, fold, rows, self.logits[split, fold])
            path = folder / f"stage{fold}.safetensors"
            valid = tensors.load(self.input["valid"][fold])
            tensors.save(path, {"rows": valid["rows"], "logits": valid["all.end"][0]}, "id")
            told = {"stage": "all", "fold": str(fold), "train_loss": 1.0, "lr": [0.1], "epochs": 1, "metrics": {}}
            write_json(folder / f"stage{fold}.json", told)
            self.input["stages"].append(folder / f"stage{fold}.json")
            self.input["stages_valid"].append(path)

    def keep(self, split, fold, rows, logits):
        """Write the predictions of a fold: logits (networks, views, n, classes)."""
        path = self.folder / f"{split}{fold}.safetensors"
        named = {".".join(name): torch.tensor(of) for name, of in zip(NETWORKS, logits, strict=True)}
        tensors.save(path, {"rows": torch.tensor(rows), **named}, "id")
        write_json(path.with_suffix(".json"), {"digest": file_digest(path)})
        self.input[split] = (
            [*self.input.get(split, []), path] if path not in self.input.get(split, []) else self.input[split]
        )

    def probabilities(self, split, fold):
        """What the networks of a fold say, all views and networks averaged: (n, classes)."""
        return scoring.softmax(self.logits[split, fold]).mean((0, 1))

    def evaluate(self, metric="log_loss", ensemble=None, folds=1, **changes):
        """What choose.py and then score.py write. folds: how many answer, as the settings say; all test files are averaged."""
        made = {name: self.folder / f"made_{name}" for name in ("valid", "test", "tuning", "metrics")}
        ensemble = {"average": "arithmetic", "weights": "equal", **(ensemble or {})}
        settings = SETTINGS | {"metric": metric, "ensemble": ensemble, "folds": folds} | changes
        chosen = {"chosen": self.folder / "chosen.json"}
        run_script("choose.py", input=self.input, output=chosen, settings=settings, log=self.folder / "log")
        self.chosen = json.loads(chosen["chosen"].read_text())
        given = self.input | chosen
        run_script("score.py", input=given, output=made, settings=settings, log=self.folder / "log")
        valid, test = (pd.read_csv(made[name], dtype={0: str, "id": str}, header=0) for name in ("valid", "test"))
        told = [json.loads(made[name].read_text()) for name in ("metrics", "tuning")]
        return valid, test, *told

    def submit(self, tuned: dict, kind: str) -> pd.DataFrame:
        """The submission that its script writes of what `evaluate` left for the test rows, with values of tuning."""
        write_json(self.folder / "tuning.json", tuned)
        given = {
            "manifest": self.input["manifest"],
            "test": self.folder / "made_test",
            "tuning": self.folder / "tuning.json",
        }
        settings = {"format": kind, "separator": " ", "clip": 0, "positive": None, "top_k": None}
        settings |= {"id_column": "id", "label_column": "label"}
        made = {"submission": self.folder / "submission.csv"}
        run_script(
            "write_submission.py", input=given, output=made, settings={"submission": settings}, log=self.folder / "log"
        )
        return pd.read_csv(made["submission"], dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("evaluate"))


def test_out_of_fold_predictions_hold_every_row_once_and_the_figures_are_theirs(run):
    valid, test, told, tuned = run.evaluate()
    assert valid.iloc[:, 0].astype(int).tolist() == list(range(LABELLED))
    p = valid.iloc[:, 2:].to_numpy(float)
    final = told["final"]
    assert final["log_loss"] == pytest.approx(log_loss(run.targets, p))
    assert final["accuracy"] == pytest.approx((p.argmax(1) == run.targets).mean())
    assert final["images"] == LABELLED and told["manifest"] == run.digest
    # Calibrated, each fold by what the others say.
    equal = np.empty((LABELLED, 3))
    for fold in range(FOLDS):
        equal[run.fold == fold] = run.probabilities("valid", fold)
    assert told["untuned"]["log_loss"] == pytest.approx(log_loss(run.targets, equal))
    assert final["log_loss"] < told["untuned"]["log_loss"] and tuned["temperature"] > 1.3
    for fold in range(FOLDS):
        inside = run.fold == fold
        temperature = tuning.fit_temperature(equal[~inside], run.targets[~inside])
        np.testing.assert_allclose(p[inside], tuning.with_temperature(equal[inside], temperature, False), rtol=1e-6)
    # The images to predict: the mean of the folds, at the temperature of all; the unreadable one the prior.
    folds = np.mean([run.probabilities("test", fold) for fold in range(FOLDS)], 0)
    said = test.iloc[:, 1:].to_numpy(float)
    np.testing.assert_allclose(said[:-1], tuning.with_temperature(folds, tuned["temperature"], False), rtol=1e-6)
    np.testing.assert_allclose(said[-1], np.bincount(run.targets) / LABELLED)
    assert told["unreadable_test_images"] == [run.ids[-1]]
    assert len(told["stages"]) == FOLDS and all(stage["log_loss"] > 0 for stage in told["stages"])


def test_without_calibration_nothing_is_changed(run):
    *_, told, tuned = run.evaluate(tuning=TUNING | {"temperature": False, "clip": False})
    assert told["final"] == told["untuned"] and told["tuning"] == [] and tuned == tuning.untuned("log_loss")
    assert told["ensemble"]["all"]["log_loss"] == pytest.approx(told["final"]["log_loss"])
    assert len(told["ensemble"]["members"]) == 2 * len(NETWORKS)  # each by its plain view, and by the mean of its views
    best = min(member["alone"]["log_loss"] for member in told["ensemble"]["members"])
    assert told["final"]["log_loss"] < best


def test_another_run_is_averaged_in_and_greedy_weights_are_cross_fitted(run):
    other = run.folder / "other"
    valid, test, *_ = run.evaluate()
    for split in ("valid", "test"):  # as files: a class is called "id"
        write_text(other / "predictions" / f"{split}.csv", (run.folder / f"made_{split}").read_text())
    write_json(other / "metrics.json", {"manifest": run.digest})
    off = TUNING | {"temperature": False}
    changes = {"runs": [str(other)], "tuning": off}
    again, others, told, _ = run.evaluate("roc_auc", **changes)
    alone = np.empty((LABELLED, 3))
    for fold in range(FOLDS):
        alone[run.fold == fold] = run.probabilities("valid", fold)
    plain = np.mean([run.probabilities("test", fold) for fold in range(FOLDS)], 0)
    mean = (alone + valid.iloc[:, 2:].to_numpy(float)) / 2
    np.testing.assert_allclose(again.iloc[:, 2:].to_numpy(float), mean, rtol=1e-6)
    mean = (plain + test.iloc[:-1, 1:].to_numpy(float)) / 2
    np.testing.assert_allclose(others.iloc[:-1, 1:].to_numpy(float), mean, rtol=1e-6)
    assert "roc_auc" in told["final"] and "roc_auc" in told["stages"][0]
    *_, told, _ = run.evaluate("log_loss", {"weights": "greedy"}, **changes)
    weights = [member["weight"] for member in told["ensemble"]["members"]]
    assert sum(weights) == pytest.approx(1) and told["ensemble"]["members"][-1]["member"] == "run other"
    assert (
        told["ensemble"]["all"]["log_loss"] <= told["ensemble"]["greedy"]["log_loss"] + 1e-12
    )  # in sample it is no worse
    assert told["untuned"]["log_loss"] == told["ensemble"]["greedy"]["log_loss"]


def test_what_the_mean_of_folds_answers_is_not_changed_by_what_single_networks_want(run):
    """Each network is three times too sure, the mean of them is not: a temperature of theirs would spoil it."""
    _, test, told, tuned = run.evaluate(folds=FOLDS)
    assert tuned == tuning.untuned("log_loss") and told["tuning"] == []
    folds = np.mean([run.probabilities("test", fold) for fold in range(FOLDS)], 0)
    np.testing.assert_allclose(test.iloc[:-1, 1:].to_numpy(float), folds, rtol=1e-6)
    assert told["final"] == told["untuned"]
    assert f"average of {FOLDS} folds" in told["final_of"]
    *_, told, _ = run.evaluate()
    assert "average" not in told["final_of"]


def test_a_worse_last_network_does_not_answer_and_the_figure_is_of_rows_that_had_no_part_in_the_choice(tmp_path):
    run = Run(tmp_path, noise=(0.3, 6), sure=1)  # what the last cycle ended with is spoiled
    greedy = {"weights": "greedy"}
    valid, test, told, _ = run.evaluate("log_loss", greedy, tuning=TUNING | {"temperature": False, "clip": False})
    weights = {row["member"]: row["weight"] for row in told["ensemble"]["members"]}
    assert weights["all, 2 views"] == weights["all, plain view"] == 0
    assert {row["member"]: row["weight"] for row in run.chosen["members"]} == weights
    # Of the test images, the mean of the folds, each by the chosen weights.
    shares = weights["all, cycle 1, plain view"], weights["all, cycle 1, 2 views"]
    folds = [scoring.softmax(run.logits["test", fold][0]) for fold in range(FOLDS)]
    expected = np.mean([shares[0] * views[0] + shares[1] * views.mean(0) for views in folds], 0)
    np.testing.assert_allclose(test.iloc[:-1, 1:].to_numpy(float), expected, rtol=1e-6)
    # Each fold is answered by the weights that the other folds choose.
    for fold in range(FOLDS):
        others, members = run.fold != fold, []
        for of in range(len(NETWORKS)):
            views = np.empty((VIEWS, LABELLED, 3))
            for k in range(FOLDS):
                views[:, run.fold == k] = scoring.softmax(run.logits["valid", k][of])
            members += [views[0], views.mean(0)]
        stack, truth = np.stack(members), run.targets[others]

        def weights(rows, given=stack[:, others], truth=truth):
            return ensembles.greedy(
                given[:, rows], lambda p: scoring.log_loss(p, truth[rows]), "arithmetic", multi_label=False
            )

        chosen = ensembles.bagged(weights, others.sum())
        chosen[chosen < ensembles.LEAST_WEIGHT] = 0
        chosen /= chosen.sum()
        said = np.tensordot(chosen, stack[:, ~others], 1)
        np.testing.assert_allclose(valid.iloc[:, 2:].to_numpy(float)[~others], said, rtol=1e-6)
    assert told["final"]["log_loss"] == pytest.approx(told["ensemble"]["greedy"]["log_loss"])


@pytest.mark.parametrize("ensemble", [{}, {"average": "geometric"}, {"weights": "greedy", "average": "geometric"}])
def test_new_images_are_answered_as_the_test_images_are(run, ensemble):
    tta = {"average": "geometric", "weights": "plain_quarter"}
    _, test, _, tuned = run.evaluate("log_loss", ensemble, tta=tta)
    keys = [".".join(name) for name in NETWORKS]
    logits = [dict(zip(keys, run.logits["test", fold], strict=True)) for fold in range(FOLDS)]
    blend = ensembles.read(run.chosen, ensemble.get("average", "arithmetic")).used()
    p = answer.combine_networks(logits, blend, tta, tuned["temperature"])
    np.testing.assert_allclose(p, test.iloc[:-1, 1:].to_numpy(float), rtol=1e-6)


def test_tags_are_judged_by_thresholds_that_their_images_had_no_part_in(tmp_path):
    run = Run(tmp_path, "multi")
    valid, _, told, tuned = run.evaluate("fbeta_samples")
    step = told["tuning"][-1]
    assert step["what"] == "thresholds" and told["final"]["fbeta_samples"] == max(step["after"], step["before"])
    p = valid.iloc[:, 2:].to_numpy(float)
    assert step["before"] == pytest.approx(
        fbeta_score(run.targets, p > 0.5, beta=2, average="samples", zero_division=0)
    )
    assert tuned["thresholds"] < 0.5 and step["used"]


def test_tuned_thresholds_decide_the_tags_of_the_submission_and_the_grader_s_figure_rises(tmp_path):
    run = Run(tmp_path, "multi", test=80, bias=(-2, -2, 1))  # two tags are seldom sure enough, the third too often
    *_, told, tuned = run.evaluate("fbeta_samples", tuning=TUNING | {"thresholds": "per_class"})
    assert told["tuning"][-1]["used"] and tuned["thresholds"][0] < 0.4 < tuned["thresholds"][2]

    def score(values: dict) -> float:
        """F2, mean over the readable test images, by its definition."""
        figures = []
        for cell, row in zip(run.submit(values, "tags")["label"][:-1], run.hidden, strict=False):
            said, true = set(cell.split()), {name for name, hot in zip(CLASSES, row, strict=True) if hot}
            precision, recall = len(said & true) / len(said), len(said & true) / len(true)
            figures.append(5 * precision * recall / (4 * precision + recall) if said & true else 0)
        return float(np.mean(figures))

    assert score(tuned) > score(tuned | {"thresholds": None}) + 0.05


def test_tuned_cut_points_decide_the_grades_of_the_submission_and_the_grader_s_figure_rises(tmp_path):
    grades = ["10", "2", "3"]  # as they are sorted; 2 is the lowest
    run = Run(tmp_path, test=120, classes=grades, bias=(0, 4, 0))  # which the networks answer nearly always
    *_, told, tuned = run.evaluate("quadratic_weighted_kappa")
    assert told["tuning"][-1]["used"] and tuned["cut_points"]

    def score(values: dict) -> float:
        said = run.submit(values, "label")["label"][:-1].astype(int)
        rank = {2: 0, 3: 1, 10: 2}
        true = [int(grades[c]) for c in run.hidden[:-1]]
        return cohen_kappa_score([rank[c] for c in true], said.map(rank), weights="quadratic")

    assert score(tuned) > score(tuned | {"cut_points": None}) + 0.1


def test_a_calibration_that_lowers_no_unseen_loss_is_told_and_not_used(tmp_path):
    run = Run(tmp_path, test=TEST)
    for fold in range(FOLDS):  # what the logits were made of, so that there is nothing to fix
        rows = np.flatnonzero(run.fold == fold)
        exact = np.log(np.eye(3)[run.targets[rows]] * 0.4 + 0.2)
        wrong = np.arange(len(rows)) % 5 > 2  # right in 3 of 5: as often as they say
        exact[wrong] = np.roll(exact[wrong], 1, -1)
        run.keep("valid", fold, rows, np.tile(exact.astype(np.float32), (len(NETWORKS), VIEWS, 1, 1)))
    valid, _, told, tuned = run.evaluate(tuning=TUNING | {"clip": False})
    (step,) = told["tuning"]
    assert step["what"] == "temperature" and step["after"] >= step["before"] and step["used"] is False
    assert tuned["temperature"] == 1 and told["final"] == told["untuned"]
    p = valid.iloc[:, 2:].to_numpy(float)
    assert log_loss(run.targets, p, labels=range(3)) == pytest.approx(step["before"])


def test_a_run_that_holds_nothing_out_is_only_averaged(tmp_path):
    run = Run(tmp_path)
    run.input.pop("valid")
    for path in run.input["stages_valid"]:
        tensors.save(path, {"rows": torch.empty(0, dtype=torch.int64), "logits": torch.empty(0, 3)}, "id")
    valid, test, told, tuned = run.evaluate()
    folds = np.mean([run.probabilities("test", fold) for fold in range(FOLDS)], 0)
    np.testing.assert_allclose(test.iloc[:-1, 1:].to_numpy(float), folds, rtol=1e-6)
    assert valid.empty and told["final"] == {} and tuned == tuning.untuned("log_loss")
