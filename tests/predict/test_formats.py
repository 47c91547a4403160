"""Submission formats: what a sample tells, what each looks like in the file, and what is refused."""

import csv
import gzip
import io
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from test_report import run_script

from eightfold.core.files import UserError
from eightfold.predict import formats, metrics, submission

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


# What the table of labels calls its column; a sample whose column has that name, classes -> format
NUMBERED = [
    (["id", "grade"], ["0", "0"], list("12345"), "label"),
    (["id", "answer"], ["0", "0"], list("12345"), "label"),  # a placeholder, and the classes are numbers
    (["id", "grade"], ["0", "1"], list("12345"), "label"),
    (["id", "grade"], ["0.5", "0.5"], list("12345"), "label"),
    (["id", "grade"], ["0", "0"], ["1", "2"], "label"),
    (["id", "grade"], ["0.5", "0.5"], ["1", "2"], "positive"),
    (["id", "grade"], ["0", "0"], ["0", "1"], "positive"),
    (["id", "grade"], ["0 0 0", "0 0 0"], list("12345"), "top_k"),
    (["id", "grade"], ["0", "0"], BREEDS, "label"),
    (["id", "grade"], ["0", "2"], BREEDS, "index"),
    (["id", "answer"], ["0", "0"], BREEDS, "index"),
]


@pytest.mark.parametrize(("head", "cells", "classes", "kind"), NUMBERED)
def test_a_small_number_that_holds_the_place_of_an_answer_is_not_an_index(head, cells, classes, kind):
    sample = sample_of(head, *([str(n), cell] for n, cell in enumerate(cells)))
    assert submission.infer_format(sample, classes, "single", "auto", " ", "grade")[0] == kind


def test_other_numbers_than_the_classes_are_neither_labels_nor_an_index():
    with pytest.raises(UserError, match=r"'0' in row 2, which is not a class"):
        submission.infer_format(sample_of(["id", "x"], ["a", "1"], ["b", "0"]), list("12345"), "single", "auto")


def test_one_column_called_as_a_class_is_its_probability():
    sample = sample_of(["id", "bee"], ["1", "0"])
    assert submission.infer_format(sample, BREEDS, "multi", "auto")[0] == "positive"
    assert submission.infer_format(sample, BREEDS, "single", "auto")[0] == "positive"
    assert submission.positive_class(sample, BREEDS, None) == "bee"


def test_without_a_sample_or_with_a_wish_there_is_nothing_to_infer():
    assert submission.infer_format(None, BREEDS, "single", "auto")[0] == "probabilities"
    sample = sample_of(["id", "x"], ["1", "?"])
    assert submission.infer_format(sample, BREEDS, "single", "label") == ("label", "config")


@pytest.mark.parametrize(
    ("head", "row", "wanted", "words"),
    [
        (["id", "ant", "wasp"], ["1", "0", "0"], "auto", "lacks columns for the 2 classes ['bee', 'cat']"),
        (["id", "ant", "wasp"], ["1", "0", "0"], "zero_one", "['wasp'] are not classes"),
        (["id", "ant", "bee", "cat", "dog"], ["1", "0", "0", "0", "0"], "auto", "['dog'] are not classes"),
        (["id", "ant", "bee"], ["1", "0", "0"], "label", "the sample has 2: ['ant', 'bee']"),
        (["id", "label"], ["1", "wasp"], "auto", "'wasp' in row 1"),
    ],
)
def test_columns_and_cells_that_are_not_of_the_job_are_named(head, row, wanted, words):
    with pytest.raises(UserError) as caught:
        submission.infer_format(sample_of(head, row), BREEDS, "single", wanted)
    assert words in str(caught.value) and "submission.format" in str(caught.value)


P = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
IDS = ["007", "nan"]


def tabulate(p, classes, kind, tuned=None, **options):
    """The submission of rows named as IDS are, as it is answered with what was tuned, without a sample."""
    multi_label = not np.allclose(p.sum(1), 1)
    decisions = metrics.decide(p, classes, multi_label, tuned)
    return submission.tabulate(IDS[: len(p)], p, decisions, classes, kind, None, submission.Layout(**options))


def cells(kind, p=P, tuned=None, **options):
    return tabulate(p, BREEDS, kind, tuned, **options).iloc[:, 1:].to_numpy().tolist()


def test_each_format_as_it_stands_in_the_file():
    assert cells("probabilities")[1] == ["0.6000000000", "0.1000000000", "0.3000000000"]
    assert cells("positive", positive="bee") == [["0.5000000000"], ["0.1000000000"]]
    assert cells("label") == [["bee"], ["ant"]] and cells("index") == [["1"], ["0"]]
    assert cells("top_k", k=2) == [["bee cat"], ["ant cat"]]
    assert cells("zero_one") == [["0", "1", "0"], ["1", "0", "0"]]
    multi_label = np.array([[0.2, 0.6, 0.7], [0.1, 0.2, 0.4]])
    assert cells("tags", multi_label, separator="|") == [["bee|cat"], [""]]
    assert cells("tags", multi_label, never_empty=True) == [["bee cat"], ["cat"]]
    tuned = {"thresholds": [0.05, 0.3, 0.9]}
    assert cells("tags", multi_label, tuned) == [["ant bee"], ["ant"]]
    assert cells("zero_one", multi_label, tuned) == [["1", "1", "0"], ["1", "0", "0"]]


def test_rows_of_a_hundred_and_of_thousands_of_classes_sum_to_one_as_written():
    for number in (120, 5005):
        names = [f"w_{i:04d}" for i in range(number)]
        p = np.random.default_rng(number).dirichlet(np.full(number, 0.02), 2)
        written = tabulate(p, names, "probabilities", clip=1e-6).to_csv(index=False)
        for row in list(csv.reader(io.StringIO(written)))[1:]:
            assert abs(sum(map(Decimal, row[1:])) - 1) < Decimal("1e-6") and not any("e" in cell for cell in row[1:])


def test_the_positive_class_is_the_given_one_or_the_column_s_or_the_last():
    one = sample_of(["id", "cat"], ["1", "0.5"])
    assert submission.positive_class(one, ["cat", "dog"], None) == "cat"
    assert submission.positive_class(one, ["cat", "dog"], "dog") == "dog"
    assert submission.positive_class(None, ["cat", "dog"], None) == "dog"
    with pytest.raises(UserError, match="'owl'"):
        submission.positive_class(one, ["cat", "dog"], "owl")


def test_a_class_may_be_called_as_the_column_of_ids(tmp_path):
    classes, p = ["ant", "id"], np.array([[0.25, 0.75], [0.5, 0.5]])
    answer = tabulate(p, classes, "probabilities")
    write(tmp_path, answer, kind="probabilities", classes=classes)
    rows = list(csv.reader(io.StringIO((tmp_path / "s.csv").read_text())))
    assert rows[0] == ["id", "ant", "id"] and [row[0] for row in rows[1:]] == IDS
    np.testing.assert_array_equal(np.array(rows[1:])[:, 1:].astype(float), p)


def test_a_sample_whose_class_is_called_as_the_column_of_ids_is_filled_by_position(tmp_path):
    classes, p, sample = ["ant", "id"], np.array([[0.25, 0.75], [0.5, 0.5]]), sample_of(["id", "id", "ant"], *(
        [name, "0", "0"] for name in IDS
    ))  # fmt: skip
    assert submission.infer_format(sample, classes, "single", "auto")[0] == "probabilities"
    answer = submission.tabulate(IDS, p, p.argmax(1), classes, "probabilities", sample, submission.Layout())
    write(tmp_path, answer, kind="probabilities", classes=classes, sample=sample)
    rows = list(csv.reader(io.StringIO((tmp_path / "s.csv").read_text())))
    assert rows[0] == ["id", "id", "ant"] and [row[0] for row in rows[1:]] == IDS
    np.testing.assert_array_equal(np.array(rows[1:])[:, 1:].astype(float), p[:, ::-1])


def test_a_class_that_the_sample_does_not_ask_for_is_left_out_and_one_label_still_sums_to_one(tmp_path):
    sample = sample_of(["id", "cat", "ant"], *([name, "0", "0"] for name in IDS))
    kind, why = submission.infer_format(sample, BREEDS, "single", "auto")
    assert kind == "probabilities" and "2 of the 3 classes" in why

    def tabulated(p, kind="probabilities"):
        decisions = metrics.decide(p, BREEDS, False)
        answer = submission.tabulate(IDS, p, decisions, BREEDS, kind, sample, submission.Layout())
        write(tmp_path, answer, kind=kind, sample=sample)
        return answer.iloc[:, 1:].astype(float).to_numpy()

    np.testing.assert_allclose(tabulated(P), P[:, [2, 0]] / P[:, [2, 0]].sum(1, keepdims=True), atol=1e-9)
    np.testing.assert_array_equal(tabulated(np.array([[0, 1.0, 0], [1, 0, 0]])), [[0.5, 0.5], [0, 1]])
    assert tabulated(P, "zero_one").tolist() == [[0, 0], [0, 1]]


def test_tags_of_images_of_one_label_are_one_each():
    assert tabulate(P, BREEDS, "tags").iloc[:, 1].tolist() == ["bee", "ant"]


def test_names_that_could_not_be_told_apart_in_a_cell_are_refused_with_a_separator_that_would_do():
    with pytest.raises(UserError, match=r"submission.separator is ' '.*'new pot'.*submission.separator to '\|'"):
        formats.check_joined(["new pot", "old"], " ")
    with pytest.raises(UserError, match=r"the class 'a\|' "):
        formats.check_joined(["a|", "b"], "||")  # a||| could be a| and nothing, or a and |
    formats.check_joined(["a|", "b"], " ")


def test_a_row_with_more_cells_than_the_head_is_named_and_takes_no_cell_for_a_name_of_the_row():
    with pytest.raises(UserError, match="line 3, saw 3"):
        submission.read_ids(io.BytesIO(b"id,a\n1,0\n2,0,0\n"))
    with pytest.raises(UserError, match="line 2, saw 3"):
        submission.read_ids(io.BytesIO(b"id,a\n1,0,0\n2,0,0\n"))


def test_top_k_has_as_many_names_as_the_sample():
    sample = sample_of(["id", "best"], ["1", "ant bee"], ["2", "cat"])
    assert submission.answers_per_row(sample, BREEDS, None, " ") == 2
    assert submission.answers_per_row(sample, BREEDS, 9, " ") == 3  # there are no more
    assert submission.answers_per_row(None, BREEDS, None, " ") == 3


SETTINGS = {
    "positive": "bee",
    "clip": 0,
    "separator": " ",
    "id_column": "image",
    "label_column": "breed",
    "top_k": None,
}


def test_a_layout_is_the_config_s_with_the_tuned_clip_where_it_has_none():
    labels, sample = ["ant", "bee"], sample_of(["id", "best"], ["1", "ant bee"])
    found = submission.lay_out(SETTINGS, {"clip": 0.01}, sample, BREEDS, labels)
    assert found == submission.Layout("bee", 0.01, " ", "image", "breed", 2, never_empty=True)
    own = submission.lay_out(SETTINGS | {"clip": 0.02, "top_k": 1}, {"clip": 0.01}, None, BREEDS, ["ant", ""])
    assert own.clip == 0.02 and own.k == 1 and not own.never_empty  # an image without a label: an answer may have none
    assert submission.lay_out(SETTINGS, {}, None, BREEDS, labels).clip == 0


def test_predictions_are_read_by_position_as_they_were_written(tmp_path):
    (tmp_path / "test.csv").write_text("id,ant,id\n007,0.25,0.75\nnan,1.0,0.0\n")
    ids, p = submission.read_predictions(tmp_path / "test.csv")
    assert ids == IDS and p.dtype == np.float64 and p.tolist() == [[0.25, 0.75], [1, 0]]


def write(tmp_path, table, **options):
    check = {"test_ids": IDS, "kind": "label", "single_label": True, "classes": BREEDS, "sample": None} | options
    submission.write_checked(tmp_path / "s.csv", table, **check)


def test_odd_ids_are_in_the_file_as_they_were_and_the_packed_one_is_the_same(tmp_path):
    write(tmp_path, tabulate(P, BREEDS, "label"))
    packed = []
    for name in ("s", "t"):
        given, made = {"submission": tmp_path / "s.csv"}, {"packed": tmp_path / f"{name}.csv.gz"}
        run_script("gzip_submission.py", input=given, output=made, settings={}, log=tmp_path / "log")
        packed.append(made["packed"].read_bytes())
        assert gzip.decompress(packed[-1]) == (tmp_path / "s.csv").read_bytes() == b"id,label\n007,bee\nnan,ant\n"
    assert packed[0] == packed[1]


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
