"""Mistakes of a submission and of labels, planted: told in seconds and by name, before any activation is computed."""

import csv
import re
import time
from pathlib import Path

import pytest
from inprocess import TINY, run_in_this_process
from miniatures import encoded, put, table
from pipeline import Checkout, changed, changed_stage

CLASSES = ["ant", "bee", "wild cat"]
TESTS = ["t0", "t1", "t2", "t3"]
HEAD = ["id", *CLASSES]
ROWS = [[name, 0, 0, 0] for name in TESTS]
SECONDS = 20


def without(number: int) -> list[list]:
    return ROWS[:number] + ROWS[number + 1 :]


def called(name: str) -> list[list]:
    return [[name, 0, 0, 0], *ROWS[1:]]


# The sample's head and rows, keys of the config, and words of the message.
SAMPLES = {
    "a column of another name": (["id", "Ant", *CLASSES[1:]], ROWS, {}, ["sample", "'Ant'", "'ant'"]),
    "a column too many": ([*HEAD, "wasp"], [[*row, 0] for row in ROWS], {}, ["sample", "'wasp'"]),
    "a column twice": ([*HEAD, "bee"], [[*row, 0] for row in ROWS], {}, ["columns 3 and 5", "'bee'"]),
    "no column": (["id"], [[name] for name in TESTS], {}, ["no column besides the ids", "data.sample_submission"]),
    "another format": (HEAD, ROWS, {"format": "label"}, ["submission.format is label", "'ant'"]),
    "a column per class of one column": (["id", "x"], [[t, 0] for t in TESTS], {"format": "zero_one"}, ["zero_one", "'x'"]),
    "a positive class that is none": (HEAD, ROWS, {"positive": "wasp"}, ["submission.positive", "'wasp'"]),
    "the separator in a class": (["id", "x"], [[t, ""] for t in TESTS], {"format": "top_k"}, ["submission.separator", "'wild cat'"]),
    "a cell of another class": (["id", "x"], [["t0", "ant"], *([t, "wasp"] for t in TESTS[1:])], {}, ["'wasp' in row 2"]),
    "a row too few": (HEAD, without(1), {}, ["sample.csv", "'t1"]),
    "a row too many": (HEAD, [*ROWS, ["t9", 0, 0, 0]], {}, ["sample.csv", "'t9' (line 6)"]),
    "a row twice": (HEAD, [*ROWS, ROWS[0]], {}, ["sample.csv", "'t0': line 2 and line 6"]),
    "spaces in an id": (HEAD, called(" t0"), {}, ["' t0' (line 2)", "spaces"]),
    "another suffix": (HEAD, called("t0.jpeg"), {}, ["'t0.jpeg' (line 2)", "suffix"]),
    "another case": (HEAD, called("T0"), {}, ["'T0' (line 2)", "case"]),
    "a cell too few": (HEAD, [*ROWS[:3], ["t3", 0, 0]], {}, ["sample.csv", "line 5: 3"]),
}  # fmt: skip


def write_job(names: list[str], head: list, rows: list[list], each: int = 5) -> dict:
    """Images below ./data, labelled in turn by ``names``, four to predict, a sample; the config's section data."""
    root = Path("data")
    labels = [(f"i{number}", names[number % len(names)]) for number in range(each * len(names))]
    for number, (name, _) in enumerate(labels):
        put(root / "train" / f"{name}.png", encoded(number % len(names), number))
    for number, name in enumerate(TESTS):
        put(root / "test" / f"{name}.png", encoded(number % len(names), 100 + number))
    table(root / "labels.csv", ["id", "kind"], labels)
    table(root / "sample.csv", head, rows)
    data = {"source": "csv", "root": "data", "labels": "labels.csv", "label": "kind", "suffix": ".png"}
    return data | {"test": "test", "sample_submission": "sample.csv"}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_mistake_is_told_by_name_before_any_activation(name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    head, rows, submission, words = SAMPLES[name]
    config = TINY | {"run": "run", "data": write_job(CLASSES, head, rows), "submission": submission}
    began = time.monotonic()
    with pytest.raises(SystemExit):
        run_in_this_process(config, "submission")
    assert time.monotonic() - began < SECONDS
    errors = re.findall(r"^(Error: .*?)^Log: ", capfd.readouterr().err, re.DOTALL | re.MULTILINE)
    assert len(errors) == 1 and all(word in errors[0] for word in words), errors
    assert not list(Path("results").rglob("*.safetensors")) or not list(
        Path("results/cache").glob("activations-*/*.s*")
    )
    assert not list(Path("results/run").glob("fold*/*/*"))


def submitted(config: dict) -> list[list[str]]:
    """The rows of the submission, of a whole run."""
    run_in_this_process(config, "results/run/submission.json", "results/run/submission.csv")
    with open("results/run/submission.csv", newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_odd_names_and_labels_that_are_not_asked_for_are_warned_of_and_answered(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    head = ["id", "id", "label", "caf\u00e9"]
    data = write_job(["id", "label", "caf\u00e9", "cafe\u0301", "NaN"], head, [[name, 0, 0, 0] for name in TESTS])
    head_, *rows = submitted(TINY | {"run": "run", "data": data})
    assert head_ == head and [row[0] for row in rows] == TESTS
    assert all(sum(map(float, row[1:])) == pytest.approx(1, abs=1e-6) for row in rows)
    said = capfd.readouterr().err
    assert "'cafe\\u0301' (5 images), 'caf\\xe9' (5 images)" in said and "'NaN' (5 images)" in said
    assert "asks for 3 of the 5 classes" in said and "\n  NaN" in said


def test_classes_that_are_numbers_are_answered_by_name_where_the_sample_has_a_zero_in_each_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = list("12345")
    head, *rows = submitted(TINY | {"run": "run", "data": write_job(names, ["id", "kind"], [[t, 0] for t in TESTS])})
    with open("results/run/predictions/test.csv", newline="", encoding="utf-8") as file:
        _, *predicted = csv.reader(file)
    best = [names[max(range(5), key=lambda c, row=row: float(row[1 + c]))] for row in predicted]
    assert head == ["id", "kind"] and [row[1] for row in rows] == best


# ---- by Snakemake's own scheduler


def test_nothing_that_costs_hours_begins_beside_the_check(tmp_path):
    """On more cores than the jobs take, so that only the check holds them back."""
    checkout = Checkout.new(tmp_path / "checkout")
    checkout.configure(changed(submission={"positive": "nothing"}))
    output = checkout.run("submission", ok=False, cores=16)
    error, log = output.splitlines()[-2:]
    assert error.startswith("Error: submission.positive is 'nothing'") and log.endswith("check_submission.log")
    assert checkout.leftovers() == [] and not list(checkout["results/tiny"].glob("fold[0-9]*"))
    assert not list(checkout["results/cache"].glob("activations-*")), output


def test_a_wrong_key_and_a_new_rate_on_a_finished_run_train_nothing_until_the_key_is_right(finished, tmp_path):
    """Pixels and activations are there: training could begin at once."""
    edited = finished.copy(tmp_path / "edited")
    config = changed_stage("again", lr=0.002)
    edited.configure(config | {"submission": {"positive": "nothing"}})
    before = edited["results/tiny/fold0/again/checkpoint.safetensors"].stat().st_mtime_ns
    assert "submission.positive is 'nothing'" in edited.run("submission", ok=False, cores=16)
    assert edited["results/tiny/fold0/again/checkpoint.safetensors"].stat().st_mtime_ns == before
    assert (edited["results/tiny/submission.csv"]).read_bytes() == finished["results/tiny/submission.csv"].read_bytes()
    edited.configure(config | {"submission": {"positive": "rings"}})
    assert edited.planned("submission")["train"] == 1  # a check that is planned hides no other change
