"""On whole runs of tiny images: the confusion matrix and the figures of metrics.json are of the same answers."""

import numpy as np
import pytest
from inprocess import TINY, config_of, run_in_this_process
from miniatures import write
from sklearn.metrics import cohen_kappa_score

from eightfold.core.files import read_json
from eightfold.predict import metrics

pytestmark = pytest.mark.slow


def run_of(name, folder, **keys):
    """(metrics.json, tables.json, the confusion matrix, the classes by column) of a miniature run on two folds."""
    write(name, folder / "data")
    config = config_of(name, folder / "data") | TINY | keys
    config["split"] = config["split"] | {"folds": 2, "use": [0, 1]}
    run_in_this_process(config, f"results/{name}/review/tables.json")
    run = folder / "results" / name
    tables = read_json(run / "review/tables.json")
    classes = [row["class"] for row in tables["per_class"]]
    matrix = np.zeros((len(classes), len(classes)), int)
    for cell in tables["cells"].split(" "):
        i, j, count = map(int, cell.split(","))
        matrix[i, j] = count
    return read_json(run / "metrics.json"), tables, matrix, classes


def in_sample(told, tables, what):
    """The figure of the answers by what was tuned on all images; where that is not used, the final one."""
    step = next(step for step in told["tuning"] if step["what"] == what)
    assert tables["decided_by"] == (what if step["used"] else None)
    return step["in_sample"] if step["used"] else told["final"][told["metric"]]


def test_the_accuracy_is_that_of_the_confusion_matrix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told, tables, matrix, _ = run_of("satellite", tmp_path, metric="accuracy")
    assert matrix.sum() == told["final"]["images"] and tables["decided_by"] is None
    assert told["final"]["accuracy"] == np.trace(matrix) / matrix.sum()
    assert tables["wrong"] == tables["images"] - np.trace(matrix)


def test_f1_of_labels_at_the_tuned_threshold_is_that_of_the_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told, tables, matrix, _ = run_of("planet", tmp_path, metric="f1_micro", tuning={"temperature": False})
    predicted, actual = (sum(row[name] for row in tables["per_class"]) for name in ("predicted", "count"))
    assert in_sample(told, tables, "thresholds") == pytest.approx(2 * np.trace(matrix) / (predicted + actual))


def test_kappa_of_grades_is_that_of_the_confusion_matrix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told, tables, matrix, classes = run_of("aptos2019", tmp_path, seed=2)
    rank = np.argsort(metrics.grade_order(classes))
    pairs = np.repeat([(rank[i], rank[j]) for i, j in np.ndindex(matrix.shape)], matrix.ravel(), axis=0)
    kappa = cohen_kappa_score(*pairs.T, weights="quadratic")
    assert in_sample(told, tables, "cut_points") == pytest.approx(kappa)
