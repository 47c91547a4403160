"""Submission formats: what a sample tells, what each looks like in the file, and what is refused."""

import csv
import gzip
import io
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from eightfold.core.files import UserError
from eightfold.predict import metrics, submission

BREEDS = ["ant", "bee", "cat"]


def sample_of(head, *rows) -> pd.DataFrame:
    text = io.StringIO()
    csv.writer(text).writerows([head, *rows])
    return submission.read_ids(io.BytesIO(text.getvalue().encode()))


# columns and cells of the sample, classes, task -> format, and a word of the reason
TELLS = [
    ((["id", "bee", "ant", "cat"], [["1", "0", "0", "1"]]), BREEDS, "single", "probabilities", "column per class"),
    ((["id", "bee", "ant", "cat"], [["1", "0", "0", "1"]]), BREEDS, "multi", "probabilities", "column per class"),
    ((["id", "label"], [["1", "cat"], ["2", "cat"]]), BREEDS, "single", "label", "are classes"),
    ((["id", "grade"], [["1", "0"]]), list("01234"), "single", "label", "are classes"),
    ((["id", "label"], [["1", "0"], ["2", "2"]]), BREEDS, "single", "index", "below 3"),
    ((["id", "label"], [["1", "0"]]), ["cat", "dog"], "single", "positive", "numbers from 0 to 1"),
    ((["id", "label"], [["1", "0.5"]]), ["0", "1"], "single", "positive", "numbers from 0 to 1"),
    ((["id", "label"], [["1", "0"]]), ["0", "1"], "single", "positive", "numbers from 0 to 1"),
    ((["id", "label"], [["1", "1"]]), ["1", "2"], "single", "label", "are classes"),
    ((["id", "label"], [["1", "dog"]]), ["cat", "dog"], "single", "label", "are classes"),
    ((["id", "tags"], [["1", "ant bee"]]), BREEDS, "multi", "tags", "several labels"),
    ((["id", "best"], [["1", "ant bee"], ["2", "cat"]]), BREEDS, "single", "top_k", "several class names"),
    ((["id", "best"], [["1", "new pot"]]), ["new pot", "old pot"], "single", "label", "are classes"),
]


@pytest.mark.parametrize(("given", "classes", "task", "kind", "why"), TELLS)
def test_the_sample_tells_the_format(given, classes, task, kind, why):
    found = submission.infer_format(sample_of(given[0], *given[1]), classes, task, "auto")
    assert found[0] == kind and why in found[1]


def test_without_a_sample_or_with_a_wish_there_is_nothing_to_infer():
    assert submission.infer_format(None, BREEDS, "single", "auto")[0] == "probabilities"
    sample = sample_of(["id", "x"], ["1", "?"])
    assert submission.infer_format(sample, BREEDS, "single", "label") == ("label", "config")


@pytest.mark.parametrize(
    ("head", "row", "wanted", "words"),
    [
        (["id", "ant", "bee"], ["1", "0", "0"], "auto", "lacks columns for the 1 classes ['cat']"),
        (["id", "ant", "bee"], ["1", "0", "0"], "probabilities", "['cat']"),
        (["id", "ant", "bee", "cat", "dog"], ["1", "0", "0", "0", "0"], "auto", "['dog'] are not classes"),
        (["id", "label"], ["1", "wasp"], "auto", "'wasp'"),
    ],
)
def test_more_or_other_labels_than_the_sample_has_are_named(head, row, wanted, words):
    with pytest.raises(UserError) as caught:
        submission.infer_format(sample_of(head, row), BREEDS, "single", wanted)
    assert words in str(caught.value) and "submission.format" in str(caught.value)


P = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
IDS = ["007", "nan"]


def cells(kind, p=P, decisions=None, **options):
    layout = submission.Layout(**options)
    return submission.table(IDS, p, BREEDS, kind, None, layout, decisions).iloc[:, 1:].to_numpy().tolist()


def test_each_format_as_it_stands_in_the_file():
    assert cells("probabilities")[1] == ["0.6000000000", "0.1000000000", "0.3000000000"]
    assert cells("positive", positive="bee") == [["0.5000000000"], ["0.1000000000"]]
    assert cells("label") == [["bee"], ["ant"]] and cells("index") == [["1"], ["0"]]
    assert cells("top_k", k=2) == [["bee cat"], ["ant cat"]]
    assert cells("zero_one") == [["0", "1", "0"], ["1", "0", "0"]]
    multi_label = np.array([[0.2, 0.6, 0.7], [0.1, 0.2, 0.4]])
    assert cells("tags", multi_label, separator="|") == [["bee|cat"], [""]]
    assert cells("tags", multi_label, never_empty=True) == [["bee cat"], ["cat"]]
    tuned = metrics.decide(multi_label, BREEDS, True, {"thresholds": [0.05, 0.3, 0.9]})
    assert cells("tags", multi_label, decisions=tuned) == [["ant bee"], ["ant"]]
    assert cells("zero_one", multi_label, decisions=tuned) == [["1", "1", "0"], ["1", "0", "0"]]


def test_cut_points_decide_grades_in_their_natural_order():
    grades = ["0", "1", "10", "2"]  # as they are sorted; 10 is the highest
    p = np.array([[0, 0, 1.0, 0], [0.5, 0, 0.5, 0], [1, 0, 0, 0]])
    assert metrics.decide(p, grades, False, {"cut_points": [0.5, 1.4, 2.5]}).tolist() == [2, 3, 0]
    assert metrics.decide(p, grades, False, {"cut_points": None}).tolist() == [2, 0, 0]


def test_rows_of_a_hundred_and_of_thousands_of_classes_sum_to_one_as_written():
    for number in (120, 5005):
        names = [f"w_{i:04d}" for i in range(number)]
        p = np.random.default_rng(number).dirichlet(np.full(number, 0.02), 5)
        written = submission.table(list("abcde"), p, names, "probabilities", None, submission.Layout(clip=1e-6)).to_csv(
            index=False
        )
        for row in list(csv.reader(io.StringIO(written)))[1:]:
            assert abs(sum(map(Decimal, row[1:])) - 1) < Decimal("1e-6") and not any("e" in cell for cell in row[1:])


def test_the_positive_class_is_the_given_one_or_the_column_s_or_the_last():
    one = sample_of(["id", "cat"], ["1", "0.5"])
    assert submission.positive_class(one, ["cat", "dog"], None) == "cat"
    assert submission.positive_class(one, ["cat", "dog"], "dog") == "dog"
    assert submission.positive_class(None, ["cat", "dog"], None) == "dog"
    with pytest.raises(UserError, match="'owl'"):
        submission.positive_class(one, ["cat", "dog"], "owl")


def test_top_k_has_as_many_names_as_the_sample():
    sample = sample_of(["id", "best"], ["1", "ant bee"], ["2", "cat"])
    assert submission.answers_per_row(sample, BREEDS, None, " ") == 2
    assert submission.answers_per_row(sample, BREEDS, 9, " ") == 3  # there are no more
    assert submission.answers_per_row(None, BREEDS, None, " ") == 3


def write(tmp_path, table, **options):
    check = {"test_ids": IDS, "kind": "label", "single_label": True, "classes": BREEDS, "sample": None} | options
    submission.write_checked(tmp_path / "s.csv", table, **check)


def test_odd_ids_are_in_the_file_as_they_were_and_the_packed_one_is_the_same(tmp_path):
    answer = submission.table(IDS, P, BREEDS, "label")
    for _ in range(2):
        write(tmp_path, answer, packed=tmp_path / "s.csv.gz")
        packed = (tmp_path / "s.csv.gz").read_bytes()
        assert gzip.decompress(packed) == (tmp_path / "s.csv").read_bytes() == b"id,label\n007,bee\nnan,ant\n"
    write(tmp_path, answer, packed=tmp_path / "t.csv.gz")
    assert (tmp_path / "t.csv.gz").read_bytes() == packed


@pytest.mark.parametrize(
    ("kind", "column", "words"),
    [
        ("label", ["bee", "wasp"], "wasp"),
        ("index", ["1", "3"], "3"),
        ("tags", ["ant bee", "ant ant"], "twice"),
        ("top_k", ["ant", ""], "without a name"),
        ("zero_one", ["0", "2"], "neither 0 nor 1"),
        ("positive", ["0.5", "1.5"], "outside"),
        ("positive", ["0.5", "nan"], "finite"),
    ],
)
def test_what_a_grader_would_refuse_is_not_written(tmp_path, kind, column, words):
    answer = pd.DataFrame({"id": IDS, "label": column})
    with pytest.raises(UserError, match=words):
        write(tmp_path, answer, kind=kind)
    assert list(tmp_path.iterdir()) == []
