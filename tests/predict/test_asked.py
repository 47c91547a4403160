"""What is asked of a submission: whatever passes the check is written, and what does not names a row or a key."""

import csv
import logging
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from eightfold.core.files import UserError
from eightfold.predict import metrics, submission
from eightfold.predict.formats import FORMATS

CLASSES = ["ant", "bee", "cat"]
CONFIG = {
    "format": "auto",
    "positive": None,
    "top_k": None,
    "separator": " ",
    "id_column": "id",
    "label_column": "label",
}
NAMES = st.text("ab 0159,;|\"'\u00e9\nN.-", min_size=1, max_size=3)


def job(folder, classes, ids, sample=None, task="single", labels=()) -> tuple[pd.DataFrame, dict]:
    """The table and the info of a manifest with test images ``ids``, and the rows of a sample written beside it."""
    labels = list(labels) or classes
    splits = ["train"] * len(labels) + ["test"] * len(ids)
    names = [f"train{n}" for n in range(len(labels))] + list(ids)
    table = pd.DataFrame({"id": names, "split": splits, "labels": [*labels, *("" for _ in ids)]})
    info = {"classes": classes, "task": task, "root": str(folder), "sample_submission": None}
    info["reading"] = {"id": "id", "bands": None, "range": None}
    if sample is not None:
        info["sample_submission"] = str(Path(folder, "sample.csv"))
        with open(info["sample_submission"], "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(sample)
    return table, info


@st.composite
def jobs(draw):
    classes = sorted(draw(st.lists(NAMES, min_size=2, max_size=5, unique=True)))
    ids = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    separator = draw(st.sampled_from([" ", "|", "||", ", "]))
    cell = st.one_of(
        st.sampled_from([*classes, "", "0", "1", "0.5"]),
        st.lists(st.sampled_from(classes), min_size=2, max_size=3).map(separator.join),
    )
    columns = st.lists(st.sampled_from([*classes, "p"]), max_size=6, unique=draw(st.booleans()))
    one = st.sampled_from([*classes, "id", "label", "p"]).map(lambda name: [name])
    head = draw(st.one_of(st.permutations(classes), columns, one))
    same = draw(st.one_of(st.none(), cell))
    rows = [["id", *head], *([name, *(draw(cell) if same is None else same for _ in head)] for name in ids)]
    asked = draw(st.permutations(ids)) if draw(st.booleans()) else ids
    config = {
        "format": draw(st.sampled_from(["auto", "auto", "auto", *FORMATS])),
        "positive": draw(st.sampled_from([None, None, *classes, "p"])),
        "top_k": draw(st.sampled_from([None, 1, 9])),
        "separator": separator,
        "clip": draw(st.sampled_from([0, 0.1])),
    }
    task = draw(st.sampled_from(["single", "multi"]))
    return classes, list(asked), rows if draw(st.booleans()) else None, task, CONFIG | config, draw(st.integers(0, 99))


@settings(deadline=None, max_examples=200)
@given(jobs())
def test_what_passes_the_check_is_written_and_what_does_not_names_a_row_or_a_key(given):
    classes, ids, rows, task, config, seed = given
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        table, info = job(folder, classes, ids, rows, task)
        try:
            asked = submission.prepare(table, info, config)
        except UserError as error:
            event("refused")
            assert "submission." in str(error) or "data." in str(error), error
            return
        event(f"written as {asked.kind}")
        n = len(ids)
        p = random.dirichlet(np.ones(len(classes)), n) if task == "single" else random.random((n, len(classes)))
        p[random.random(n) < 0.3] = np.eye(len(classes))[0]  # as sure as can be
        decisions = metrics.decide(p, classes, task == "multi")
        submission.write_checked(f"{folder}/s.csv", asked.tabulate(ids, p, decisions), **asked.checks())
        with open(f"{folder}/s.csv", newline="", encoding="utf-8") as file:
            written = list(csv.reader(file))
        assert [row[0] for row in written[1:]] == ids and (rows is None or written[0] == rows[0])


def test_most_kinds_of_job_pass(tmp_path):
    """The property above would hold of a check that refuses everything."""
    for kind in FORMATS:
        rows = (
            [["id", *CLASSES], ["1", 0, 0, 0]] if kind in ("probabilities", "zero_one") else [["id", "x"], ["1", "?"]]
        )
        assert submission.prepare(*job(tmp_path, CLASSES, ["1"], rows), CONFIG | {"format": kind}).kind == kind


@pytest.mark.parametrize(
    ("rows", "config", "words"),
    [
        ([["id", *CLASSES], ["1", 0, 0, 0], ["2", 0, 0, 0]], {"positive": "wasp"}, "submission.positive is 'wasp'"),
        ([["id", *CLASSES], ["2", 0, 0, 0], ["1", 0, 0, 0]], {}, "row 1 is '2', where the test images have '1'"),
        ([["id", *CLASSES], ["1", 0, 0, 0]], {}, "row 2 is nothing, where the test images have '2'"),
        ([["id", *CLASSES, "bee"], ["1", 0, 0, 0, 0], ["2", 0, 0, 0, 0]], {}, "columns 3 and 5 are both called 'bee'"),
        ([["id"], ["1"], ["2"]], {}, "no column besides the ids"),
        ([["id", *CLASSES], ["1", 0, 0, 0], ["2", 0, 0, 0, 0]], {}, "sample.csv: not a readable CSV"),
        (None, {"format": "tags", "separator": "e"}, "submission.separator is 'e'"),
    ],
)
def test_a_mistake_is_named(tmp_path, rows, config, words):
    with pytest.raises(UserError) as caught:
        submission.prepare(*job(tmp_path, CLASSES, ["1", "2"], rows), CONFIG | config)
    assert words in str(caught.value)


def test_classes_that_the_sample_does_not_ask_for_are_said_in_the_log(tmp_path, caplog):
    rows = [["id", "cat", "ant"], ["1", 0, 0]]
    with caplog.at_level(logging.INFO, "eightfold"):
        asked = submission.prepare(*job(tmp_path, CLASSES, ["1"], rows, "multi"), CONFIG)
    assert asked.kind == "probabilities" and asked.left_out == ["bee"]
    assert "asks for 2 of the 3 classes" in caplog.text and "\n  bee" in caplog.text
