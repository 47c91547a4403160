"""The held-out images as they are read from valid.csv and the manifest, whatever ids and classes are called."""

import numpy as np
import pandas as pd
import pytest

from eightfold.core.files import UserError, write_table
from eightfold.review import held_out

CLASSES = ["id", "label", "nan"]


def manifest(task="single"):
    labels = ["id", "nan", "label", "", "id"] if task == "single" else ["id|nan", "nan", "", "", "label"]
    split = ["train", "valid", "train", "test", "train"]
    table = pd.DataFrame({"id": ["007", "nan", "7", "007", "x"], "split": split, "labels": labels})
    return table, {"task": task, "classes": CLASSES, "separator": "|"}


def write_valid(path, ids, probabilities, classes=CLASSES):
    named = pd.DataFrame({"id": ids, "label": "any"})
    write_table(path, pd.concat([named, pd.DataFrame(probabilities, columns=classes)], axis=1))
    return path


@pytest.mark.parametrize("task", ["single", "multi"])
def test_rows_are_found_by_id_among_the_labelled_images_in_the_order_of_the_file(tmp_path, task):
    p = np.random.default_rng(0).dirichlet(np.ones(3), 3)
    images = held_out.read(write_valid(tmp_path / "valid.csv", ["x", "007", "nan"], p), *manifest(task), {})
    assert images.ids == ["x", "007", "nan"] and images.rows.tolist() == [4, 0, 1]
    np.testing.assert_allclose(images.probabilities, p, rtol=1e-15)
    expected = [0, 0, 2] if task == "single" else [[0, 1, 0], [1, 0, 1], [0, 0, 1]]
    assert images.targets.tolist() == expected and images.classes == CLASSES


def test_what_is_right_is_right_in_every_label(tmp_path):
    p = np.array([[0.1, 0.9, 0.1], [0.9, 0.1, 0.4], [0.2, 0.1, 0.8]])
    images = held_out.read(write_valid(tmp_path / "valid.csv", ["x", "007", "nan"], p), *manifest("multi"), {})
    assert images.decisions.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]] and images.right.tolist() == [
        True,
        False,
        True,
    ]


def test_what_was_tuned_decides(tmp_path):
    p = np.array([[0.1, 0.9, 0.3], [0.9, 0.1, 0.3], [0.15, 0.1, 0.8]])
    valid = write_valid(tmp_path / "valid.csv", ["x", "007", "nan"], p)
    images = held_out.read(valid, *manifest("multi"), {"thresholds": [0.5, 0.05, 0.2], "temperature": 3.0})
    assert images.decisions.tolist() == [[0, 1, 1], [1, 1, 1], [0, 1, 1]]
    assert (images.probabilities == p).all()  # a temperature is in the file already


def test_a_file_without_images_is_none(tmp_path):
    for task in ("single", "multi"):
        images = held_out.read(write_valid(tmp_path / "valid.csv", [], np.empty((0, 3))), *manifest(task), {})
        assert images.ids == [] and images.probabilities.shape == (0, 3) and images.right.tolist() == []


def test_a_file_of_other_classes_or_images_is_named(tmp_path):
    other = write_valid(tmp_path / "valid.csv", ["x"], np.ones((1, 3)) / 3, ["label", "id", "nan"])
    with pytest.raises(UserError, match="columns are not the manifest's classes"):
        held_out.read(other, *manifest(), {})
    table, info = manifest()
    unlabelled = write_valid(tmp_path / "valid.csv", ["x", "y"], np.ones((2, 3)) / 3)
    with pytest.raises(UserError, match=r"valid\.csv: 'y' is not a labelled image"):
        held_out.read(unlabelled, table, info, {})
    with pytest.raises(UserError, match="'007' is not a labelled image"):  # the test image of that name is not meant
        held_out.read(write_valid(tmp_path / "valid.csv", ["007"], np.ones((1, 3)) / 3), table.drop(index=0), info, {})
