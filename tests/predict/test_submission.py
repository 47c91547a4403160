"""The submission: its formats, and that a file which a grader would refuse is never left in place."""

import csv

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.core.files import UserError, write_text
from eightfold.predict import metrics, submission
from eightfold.predict.submission import Layout, infer_format, read_ids, write_checked

CLASSES = ["cat", "dog", "owl"]


def sample(columns=("image", "owl", "cat", "dog"), rows=(("02", "0", "0", "0"), ("01", "0", "0", "0"))):
    return pd.DataFrame(rows, columns=columns)


def chances(n=2, classes=3, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(classes), n)


def table(ids, p, classes, kind, sample=None, layout=Layout()):  # noqa: B008 - it cannot be changed
    """The submission as it is answered where nothing was tuned."""
    decisions = metrics.decide(p, classes, multi_label=not np.allclose(p.sum(1), 1))
    return submission.tabulate(ids, p, decisions, classes, kind, sample, layout)


def written(path, answer, **changes):
    options = {
        "test_ids": ["01", "02"],
        "kind": "probabilities",
        "single_label": True,
        "classes": CLASSES,
        "sample": None,
    }
    write_checked(path, answer, **{**options, **changes})
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


# ---- the format


@pytest.mark.parametrize(
    ("found", "classes", "task", "expected"),
    [
        (None, CLASSES, "single", "probabilities"),
        (sample(), CLASSES, "single", "probabilities"),
        (sample(("id", "label"), [("1", "dog"), ("2", "dog")]), CLASSES, "single", "label"),
        (sample(("id", "label"), [("1", "0.5"), ("2", "0.5")]), ["cat", "dog"], "single", "positive"),
        (sample(("id", "label"), [("1", "0"), ("2", "1")]), ["0", "1"], "single", "positive"),
        (sample(("id", "tags"), [("1", "cat owl"), ("2", "")]), CLASSES, "multi", "tags"),
    ],
)
def test_the_format_is_read_off_the_sample(found, classes, task, expected):
    assert infer_format(found, classes, task, "auto")[0] == expected
    if found is None or found.shape[1] == 2:
        assert infer_format(found, classes, task, "tags") == ("tags", "config")


def test_a_sample_of_something_else_is_refused():
    with pytest.raises(UserError, match=r"cannot tell its format.*'bat'.*lacks .*\['cat'.*set submission\.format"):
        infer_format(sample(("id", "bat", "dog", "owl"), []), CLASSES, "single", "auto")


# ---- the table


def test_columns_are_the_samples_by_name_and_rows_as_given(tmp_path):
    p = chances()
    answer = table(["02", "01"], p, CLASSES, "probabilities", sample())
    found = written(tmp_path / "s.csv", answer, sample=sample())
    assert found[0] == ["image", "owl", "cat", "dog"] and [row[0] for row in found[1:]] == ["02", "01"]
    np.testing.assert_allclose(np.array(found[1:])[:, 1:].astype(float), p[:, [2, 0, 1]], atol=1e-10)


def test_one_column_gives_the_positive_class():
    p = chances(classes=2)
    for positive, column in ((None, 1), ("cat", 0), ("dog", 1)):
        found = table(["1", "2"], p, ["cat", "dog"], "positive", sample(("id", "p"), []), Layout(positive))
        assert list(found.columns) == ["id", "p"]
        np.testing.assert_allclose(found["p"].astype(float), p[:, column], atol=1e-10)
    with pytest.raises(UserError, match=r"'bird', which is not a class of this job; allowed: \['cat', 'dog'\]"):
        table(["1", "2"], p, ["cat", "dog"], "positive", None, Layout("bird"))


def test_labels_and_tags():
    p = np.array([[0.2, 0.7, 0.6], [0.4, 0.3, 0.1]])
    assert table(["1", "2"], p, CLASSES, "label").to_numpy().tolist() == [["1", "dog"], ["2", "cat"]]
    assert table(["1", "2"], p, CLASSES, "tags").to_numpy().tolist() == [["1", "dog owl"], ["2", ""]]
    assert table(["1", "2"], p, CLASSES, "tags", layout=Layout(separator="|"))["label"][0] == "dog|owl"


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(2, 300), st.integers(0, 1000), st.sampled_from([0.0, 0.001]))
def test_rows_sum_to_1_as_written(n, classes, seed, clip):
    names = [f"c{i}" for i in range(classes)]
    p = chances(n, classes, seed)
    found = (
        table([str(i) for i in range(n)], p, names, "probabilities", layout=Layout(clip=clip))
        .iloc[:, 1:]
        .astype(float)
        .to_numpy()
    )
    assert (np.abs(found.sum(1) - 1) <= 1e-6).all() and (found >= 0).all() and (found <= 1).all()


def test_clip_bounds_a_confident_mistake():
    found = table(["1"], np.array([[1.0, 0.0]]), ["a", "b"], "probabilities", layout=Layout(clip=0.02))
    assert found.iloc[0, 1:].astype(float).tolist() == pytest.approx([0.98, 0.02])


@pytest.mark.parametrize("name", ["007", "nan", "1e5", "12345678901234567890", "a,b", 'q"q', "x\ny", "ü", "NA", " s"])
def test_ids_survive_writing_and_reading(tmp_path, name):
    answer = table([name, "other"], chances(), CLASSES, "probabilities")
    written(tmp_path / "s.csv", answer, test_ids=[name, "other"])
    assert read_ids(tmp_path / "s.csv")["id"].tolist() == [name, "other"]


# ---- what is refused


def broken(**changes):
    answer = table(["01", "02"], chances(), CLASSES, "probabilities")
    for column, cells in changes.items():
        answer[column] = cells
    return answer


@pytest.mark.parametrize(
    ("answer", "changes", "message"),
    [
        (broken(id=["01", "01"]), {}, r"duplicate ids: \['01'\]"),
        (broken(id=["01", "03"]), {}, r"missing \['02'\], unknown \['03'\]"),
        (broken(cat=["0.1", "nan"]), {}, r"not finite numbers in rows \[1\]"),
        (broken(cat=["inf", "0.1"]), {}, r"not finite numbers in rows \[0\]"),
        (broken(cat=["", "0.1"]), {}, r"not finite numbers in rows \[0\]"),
        (broken(cat=["1.5", "-0.5"]), {}, r"outside \[0, 1\]"),
        (broken(cat=["0.9", "0.9"]), {}, r"do not sum to 1: \[0, 1\]"),
        (broken(), {"sample": sample()}, r"columns \['id', 'cat', 'dog', 'owl'\] are not the sample's"),
        (broken(), {"sample": sample(("id", *CLASSES))}, "ids are not the sample's, in its order"),
        (broken(), {"test_ids": ["01", "02", "03"]}, r"missing \['03'\]"),
        (pd.DataFrame({"id": ["01", "02"], "label": ["cat", "bat"]}), {"kind": "label"}, r"not classes: \['bat'\]"),
    ],
)
def test_what_a_grader_would_refuse_is_not_written(tmp_path, answer, changes, message):
    with pytest.raises(UserError, match=message):
        written(tmp_path / "s.csv", answer, **changes)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "s.csv").write_text("the good one before\n")
    with pytest.raises(UserError, match=message):
        written(tmp_path / "s.csv", answer, **changes)
    assert (tmp_path / "s.csv").read_text() == "the good one before\n"


def test_several_labels_need_not_sum_to_1(tmp_path):
    answer = broken(cat=["0.9", "0.9"], dog=["0.8", "0.1"])
    assert len(written(tmp_path / "s.csv", answer, single_label=False)) == 3
    assert submission.problems(tmp_path / "s.csv", ["01", "02"], "probabilities", True, CLASSES, None)


def test_a_sample_that_is_no_table_is_named(tmp_path):
    (tmp_path / "sample.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match=r"sample\.csv: not a readable CSV"):
        read_ids(tmp_path / "sample.csv")
    with pytest.raises(UserError, match=r"none\.csv: not a readable CSV"):
        read_ids(tmp_path / "none.csv")


# ---- before it is sent


def test_a_file_that_a_grader_would_refuse_is_not_sent(tmp_path):
    split = ["train", "test", "test"]
    images = pd.DataFrame({"id": ["00", "01", "02"], "split": split, "labels": ["cat", "", ""]})
    asked = {"format": "label", "positive": None, "top_k": None, "separator": " ", "id_column": "id"}
    asked |= {"label_column": "label"}
    info = {"classes": CLASSES, "task": "single", "sample_submission": None}
    path = tmp_path / "submission.csv"
    write_text(path, "id,label\n01,cat\n02,dog\n")
    submission.check_written(path, images, info, asked)
    write_text(path, "id,label\n01,cat\n03,wasp\n")
    with pytest.raises(UserError, match=r"submission\.csv: not sent.*missing \['02'\], unknown \['03'\].*wasp"):
        submission.check_written(path, images, info, asked)
