"""The last words on the terminal."""

from eightfold.core.files import write_json, write_text
from eightfold.core.runtime import ASKED
from eightfold.review.last_words import failure, summary


def test_it_says_the_score_and_where_to_look(tmp_path):
    final = {"accuracy": 0.9, "log_loss": 0.25, "images": 100}
    write_json(tmp_path / "metrics.json", {"final": final})
    write_text(tmp_path / "report.html", "")
    assert "accuracy 0.9000 ± 0.0300, log loss 0.2500, on 100" in summary(tmp_path)
    assert "report.html" in summary(tmp_path) and "submission.csv" not in summary(tmp_path)
    write_text(tmp_path / "predict/new/predictions.csv", "")
    told = summary(tmp_path, tmp_path / "predict/new")
    assert told.endswith(f"labels:    {tmp_path / 'predict/new/predictions.csv'}") and "report.html" not in told


def test_a_baseline_stands_beside_the_score_and_the_score_says_whose_it_is(tmp_path):
    final = {"accuracy": 0.9, "log_loss": 0.25, "images": 100}
    told = {"final": final, "final_of": "one network, out of fold"}
    write_json(tmp_path / "metrics.json", told | {"baseline": {"class": "bees", "accuracy": 0.54, "log_loss": 0.69}})
    first, second = summary(tmp_path).splitlines()
    assert first.endswith("on 100 images that had no part in training: one network, out of fold")
    assert second == "without a look at the images: always bees: accuracy 0.5400, class shares: log loss 0.6900"
    write_json(
        tmp_path / "metrics.json", {"final": final, "baseline": {"class": None, "accuracy": 0.5, "log_loss": 0.7}}
    )
    assert "class shares: accuracy 0.5000" in summary(tmp_path)


def test_the_first_answer_is_said_while_it_is_the_only_one(tmp_path):
    write_json(tmp_path / "metrics_quick.json", {"final": {"accuracy": 0.8, "log_loss": 0.5, "images": 100}})
    for name in ("report_quick.html", "submission_quick.csv"):
        write_text(tmp_path / name, "")
    assert "accuracy 0.8000 ± 0.0400" in summary(tmp_path) and "submission_quick.csv" in summary(tmp_path)
    write_json(tmp_path / "metrics.json", {"final": {"accuracy": 0.9, "log_loss": 0.25, "images": 100}})
    assert "0.9000" in summary(tmp_path) and "quick" not in summary(tmp_path)


def test_a_run_without_figures_is_no_error(tmp_path):
    assert summary(tmp_path) == ""
    write_json(tmp_path / "metrics.json", {"final": {}})
    assert summary(tmp_path) == ""


def test_a_failure_ends_with_the_line_that_matters(tmp_path):
    write_text(
        tmp_path / "train.log", "12:00:00 epoch 1\n12:00:01 Error: stage head: the loss is nan\nLog: train.log\n"
    )
    write_text(tmp_path / "defect.log", "12:00:01 Traceback\n  File x\nValueError: 3\nLog: defect.log\n")
    named = "".join(
        f"    log: {tmp_path / name} (check log file(s) for error details)\n"
        for name in ("train.log", "defect.log", "no.log")
    )
    write_text(tmp_path / "snakemake.log", f"Job 3: train\nError in rule train:\n{named}    log: other.log\n")
    assert failure([tmp_path / "snakemake.log", tmp_path / "gone.log"]).splitlines() == [
        "Error: stage head: the loss is nan",
        f"Log: {tmp_path / 'train.log'}",
        "ValueError: 3",
        f"Log: {tmp_path / 'defect.log'}",
    ]
    assert failure([tmp_path / "gone.log"]) == ""


def test_a_job_that_was_asked_to_end_did_not_fail(tmp_path):
    """What stands last is what `core.runtime.job` and the training loop write there (tests/workflow/test_kills.py)."""
    write_text(tmp_path / "a.log", f"12:00:00 saved x.resume after step 3 of 9; ...\n12:00:00 {ASKED}: ...\n")
    write_text(tmp_path / "b.log", "12:00:00 done in 3 s\n")
    named = "".join(f"    log: {tmp_path / name} (check log file(s))\n" for name in ("a.log", "b.log"))
    write_text(tmp_path / "snakemake.log", f"Error in rule train:\n{named}")
    first, last = failure([tmp_path / "snakemake.log"]).splitlines()
    assert first == "saved x.resume after step 3 of 9; ..." and "same command" in last and "Interrupted" in last
