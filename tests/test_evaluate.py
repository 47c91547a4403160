"""scripts/evaluate.py on logits made by hand: what it writes is what its parts say, and the honest figures are of its files."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import cohen_kappa_score, fbeta_score, log_loss
from test_report import run_door

from eightfold import manifest, metrics, newcomers, prediction, tensors, tuning
from eightfold.files import file_digest, write_json, write_table, write_text

CLASSES = ["ant", "bee", "id"]
LABELLED, TEST = 120, 5
FOLDS, SNAPSHOTS, VIEWS = 3, 2, 2
TUNING = {"temperature": True, "clip": True, "thresholds": "global"}
SETTINGS = {"average": "arithmetic", "weights": "equal", "seed": 0, "positive": None, "runs": [], "tuning": TUNING}


class Run:
    """The files that evaluate reads, with three times overconfident logits; and a call of the script.

    bias: what the networks wrongly add to the logits of each class. targets: of the labelled rows, hidden: of the others.
    """

    def __init__(self, folder, task="single", test=TEST, classes=CLASSES, bias=(0, 0, 0)):
        rng = np.random.default_rng(0)
        self.folder, n = folder, LABELLED + test
        logits = rng.normal(0, 1.5, (n, 3))
        if task == "single":
            truth = np.array([rng.choice(3, p=row) for row in metrics.softmax(logits)])
            labels = [classes[c] for c in truth]
        else:
            truth = (rng.random((n, 3)) < metrics.sigmoid(logits)).astype(int)
            truth[truth.sum(1) == 0, 0] = 1
            labels = ["|".join(np.array(classes)[row > 0]) for row in truth]
        self.targets, self.hidden = truth[:LABELLED], truth[LABELLED:]
        logits += bias
        self.ids = [f"{number:03d}" for number in range(n)]
        splits = ["train"] * LABELLED + ["test"] * test
        table = pd.DataFrame({"id": self.ids, "path": self.ids, "split": splits, "labels": labels})
        table.loc[LABELLED:, "labels"] = ""
        table = table.assign(width=8, height=8, mode="RGB", bytes=1, sha256=self.ids, status="ok")
        for name in set(manifest.COLUMNS) - set(table):
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
        info["digest"] = self.digest = manifest.identity(table, info)
        write_table(folder / "manifest.csv", table[manifest.COLUMNS])
        write_json(folder / "manifest.json", info)
        self.fold = np.arange(LABELLED) % FOLDS
        self.logits, self.input = {}, {"manifest": folder / "manifest.csv", "stages": [], "stages_valid": []}
        for fold in range(FOLDS):
            for split, rows in (("valid", np.flatnonzero(self.fold == fold)), ("test", np.arange(LABELLED, n - 1))):
                noise = rng.normal(0, 0.7, (SNAPSHOTS, VIEWS, len(rows), 3))
                self.logits[split, fold] = (3 * (logits[rows] + noise)).astype(np.float32)
                path = folder / f"{split}{fold}.safetensors"
                found = {"rows": torch.tensor(rows), "logits": torch.tensor(self.logits[split, fold])}
                tensors.save(path, found, "id")
                write_json(path.with_suffix(".json"), {"digest": file_digest(path)})
                self.input.setdefault(split, []).append(path)
            path = folder / f"stage{fold}.safetensors"
            tensors.save(path, {"rows": found["rows"], "logits": found["logits"][0, 0]}, "id")
            valid = tensors.load(self.input["valid"][fold])
            tensors.save(path, {"rows": valid["rows"], "logits": valid["logits"][0, 0]}, "id")
            told = {"stage": "all", "fold": str(fold), "train_loss": 1.0, "lr": [0.1], "epochs": 1, "metrics": {}}
            write_json(folder / f"stage{fold}.json", told)
            self.input["stages"].append(folder / f"stage{fold}.json")
            self.input["stages_valid"].append(path)

    def evaluate(self, metric="log_loss", ensemble=None, **changes):
        made = {name: self.folder / f"made_{name}" for name in ("valid", "test", "tuning", "metrics")}
        ensemble = {"average": "arithmetic", "weights": "equal", **(ensemble or {})}
        settings = SETTINGS | {"metric": metric, "ensemble": ensemble} | changes
        run_door("evaluate.py", input=self.input, output=made, settings=settings, log=self.folder / "log")
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
        settings = {"format": kind, "separator": " ", "clip": 0, "positive": None, "top_k": None, "gzip": False}
        settings |= {"id_column": "id", "label_column": "label"}
        made = {"submission": self.folder / "submission.csv"}
        run_door("submission.py", input=given, output=made, settings={"submission": settings}, log=self.folder / "log")
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
        equal[run.fold == fold] = metrics.softmax(run.logits["valid", fold]).mean((0, 1))
    assert told["untuned"]["log_loss"] == pytest.approx(log_loss(run.targets, equal))
    assert final["log_loss"] < told["untuned"]["log_loss"] and tuned["temperature"] > 1.3
    for fold in range(FOLDS):
        inside = run.fold == fold
        temperature = tuning.fit_temperature(equal[~inside], run.targets[~inside])
        np.testing.assert_allclose(p[inside], tuning.with_temperature(equal[inside], temperature, False), rtol=1e-6)
    # The pictures to predict: the mean of the folds, at the temperature of all; the unreadable one the prior.
    folds = np.mean([metrics.softmax(run.logits["test", fold]).mean((0, 1)) for fold in range(FOLDS)], 0)
    answer = test.iloc[:, 1:].to_numpy(float)
    np.testing.assert_allclose(answer[:-1], tuning.with_temperature(folds, tuned["temperature"], False), rtol=1e-6)
    np.testing.assert_allclose(answer[-1], np.bincount(run.targets) / LABELLED)
    assert told["unreadable_test_images"] == [run.ids[-1]]
    assert len(told["stages"]) == FOLDS and all(stage["log_loss"] > 0 for stage in told["stages"])


def test_without_calibration_nothing_is_changed(run):
    *_, told, tuned = run.evaluate(tuning=TUNING | {"temperature": False, "clip": False})
    assert told["final"] == told["untuned"] and told["tuning"] == [] and tuned == tuning.untuned("log_loss")
    assert told["ensemble"]["all"]["log_loss"] == pytest.approx(told["final"]["log_loss"])
    assert len(told["ensemble"]["members"]) == SNAPSHOTS * VIEWS
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
    again, answer, told, _ = run.evaluate("roc_auc", **changes)
    alone = np.empty((LABELLED, 3))
    for fold in range(FOLDS):
        alone[run.fold == fold] = metrics.softmax(run.logits["valid", fold]).mean((0, 1))
    plain = np.mean([metrics.softmax(run.logits["test", fold]).mean((0, 1)) for fold in range(FOLDS)], 0)
    mean = (alone + valid.iloc[:, 2:].to_numpy(float)) / 2
    np.testing.assert_allclose(again.iloc[:, 2:].to_numpy(float), mean, rtol=1e-6)
    mean = (plain + test.iloc[:-1, 1:].to_numpy(float)) / 2
    np.testing.assert_allclose(answer.iloc[:-1, 1:].to_numpy(float), mean, rtol=1e-6)
    assert "roc_auc" in told["final"] and "roc_auc" in told["stages"][0]
    *_, told, _ = run.evaluate("log_loss", {"weights": "greedy"}, **changes)
    weights = [member["weight"] for member in told["ensemble"]["members"]]
    assert sum(weights) == pytest.approx(1) and told["ensemble"]["members"][-1]["member"] == "run other"
    assert (
        told["ensemble"]["all"]["log_loss"] <= told["ensemble"]["greedy"]["log_loss"] + 1e-12
    )  # in sample is no worse
    assert told["untuned"]["log_loss"] == told["ensemble"]["greedy"]["log_loss"]


@pytest.mark.parametrize("ensemble", [{}, {"average": "geometric"}, {"weights": "greedy", "average": "geometric"}])
def test_new_pictures_are_answered_as_the_test_pictures_are(run, ensemble):
    tta = {"average": "geometric", "weights": "plain_quarter"}
    _, test, told, tuned = run.evaluate("log_loss", ensemble, **tta)
    logits = [run.logits["test", fold][snapshot] for fold in range(FOLDS) for snapshot in range(SNAPSHOTS)]
    folds = [fold for fold in range(FOLDS) for _ in range(SNAPSHOTS)]
    average = ensemble.get("average", "arithmetic")
    p = newcomers.combined(logits, folds, told["ensemble"], tta, average, several=False)
    answer = test.iloc[:-1, 1:].to_numpy(float)
    np.testing.assert_allclose(tuning.with_temperature(p, tuned["temperature"], False), answer, rtol=1e-6)


def test_a_new_picture_s_answer_is_that_of_the_cut_points_or_thresholds():
    p = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    said = newcomers.answers(["x", "y"], p, CLASSES, None, np.array([2, 0]))
    assert said["prediction"].tolist() == ["id", "ant"] and said["probability"].tolist() == [0.3, 0.6]
    said = newcomers.answers(["x", "y"], p, CLASSES, " ", np.array([[1, 1, 0], [0, 0, 0]]))
    assert said["prediction"].tolist() == ["ant bee", ""]


def test_tags_are_judged_by_thresholds_that_their_pictures_had_no_part_in(tmp_path):
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
        """F2, mean over the readable test pictures, by its definition."""
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
    for fold in range(FOLDS):  # what the logits were made of, so that there is nothing to mend
        for split in ("valid", "test"):
            path = run.folder / f"{split}{fold}.safetensors"
            found = tensors.load(path)
            exact = (
                np.log(np.eye(3)[run.targets[found["rows"]]] * 0.4 + 0.2) if split == "valid" else found["logits"] * 0
            )
            logits = torch.as_tensor(exact, dtype=torch.float32).expand(SNAPSHOTS, VIEWS, -1, 3).contiguous()
            if split == "valid":  # right in 3 of 5: as often as they say
                wrong = np.arange(logits.shape[2]) % 5 > 2
                logits[:, :, wrong] = logits[:, :, wrong].roll(1, -1)
            tensors.save(path, {"rows": found["rows"], "logits": logits}, "id")
            write_json(path.with_suffix(".json"), {"digest": file_digest(path)})
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
    folds = [prediction.combine(of, True, "arithmetic", "equal") for f in range(FOLDS) for of in run.logits["test", f]]
    np.testing.assert_allclose(test.iloc[:-1, 1:].to_numpy(float), np.mean(folds, 0), rtol=1e-6)
    assert valid.empty and told["final"] == {} and tuned == tuning.untuned("log_loss")
