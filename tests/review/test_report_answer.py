"""What the report says of the answer: its figures on top, and what was tuned."""

import numpy as np
import pytest

from eightfold.review import report_answer

FINAL = {"accuracy": 0.9, "log_loss": 0.3, "roc_auc": 0.95, "images": 400}


def test_the_figures_on_top_have_errors_baselines_and_what_they_were_without_tta():
    metrics = {"final": FINAL, "no_tta": FINAL | {"accuracy": 0.88}, "baseline": {"accuracy": 0.5, "class": "cat"}}
    accuracy, loss, auc = report_answer.headline(metrics, {"images": 400, "log_loss_se": 0.02})
    assert [tile["name"] for tile in (accuracy, loss, auc)] == ["Accuracy", "Log loss", "roc_auc"]
    assert accuracy["error"] == pytest.approx(np.sqrt(0.9 * 0.1 / 400)) and loss["error"] == 0.02
    assert accuracy["plain"] == 0.88 and accuracy["baseline"] == 0.5 and "cat" in accuracy["baseline_name"]
    assert auc["error"] is None and auc["baseline"] is None
    assert report_answer.headline(metrics | {"no_tta": FINAL}, {})[0]["plain"] is None  # there was no TTA
    assert report_answer.headline({}, {}) == []


@pytest.mark.parametrize(("metric", "sign"), [("log_loss", 1), ("top_5_error", 1), ("roc_auc", -1)])
def test_a_member_adds_what_the_ensemble_would_lack_without_it_whichever_way_the_metric_runs(metric, sign):
    members = [
        {
            "member": "head, view 0",
            "weight": 1.0,
            "alone": {metric: 0.4, "log_loss": 0.4},
            "without": {metric: 0.5, "log_loss": 0.5},
        },
        {"member": "all, view 0", "weight": 0.0, "alone": {metric: 0.3, "log_loss": 0.3}, "without": None},
    ]
    answer = {"members": members, "all": {metric: 0.35, "log_loss": 0.35}, "weights": "greedy"}
    table = report_answer.ensemble({"metric": metric, "ensemble": answer}, ["head", "all"])
    assert [row["full"] for row in table["rows"]] == ["head, view 0"] and table["idle"] == 1
    assert table["rows"][0]["gain"][metric] == pytest.approx(sign * 0.15)
    assert table["best"]["full"] == ("all, view 0" if sign == 1 else "head, view 0")
    assert report_answer.ensemble({"metric": metric, "ensemble": {"members": []}}) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.13742, "1.137"),
        ([0.51234, 1.5], "0.512, 1.5"),
        ([0.5] * 20, ", ".join(["0.5"] * 8) + ", … (20)"),
        (None, "None"),
    ],
)
def test_what_was_tuned_is_a_text_of_bounded_length(value, text):
    assert report_answer.tuning({"tuning": [{"what": "any", "value": value}]}) == [{"what": "any", "value": text}]
