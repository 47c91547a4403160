"""Doubted labels, on planted errors and by hand; their table and their sheet."""

import numpy as np
import pytest
from test_review import images_of

from eightfold.review import label_noise
from eightfold.review.sheets import AMBER


def test_planted_label_errors_are_ranked_first():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 400)
    logits = 5 * np.eye(4)[truth] + rng.normal(0, 1, (400, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    given, planted = truth.copy(), rng.choice(400, 20, replace=False)
    given[planted] = (given[planted] + 1) % 4
    rows, classes, margins = label_noise.suspicious(p, given)
    assert (np.diff(margins) >= 0).all() and len(set(rows)) == len(rows)
    assert len(set(rows[:20]) & set(planted)) >= 15
    assert (classes != given[rows]).all()
    inside = np.isin(rows[:15], planted)
    assert (classes[:15][inside] == truth[rows[:15][inside]]).mean() > 0.9


def test_a_doubt_needs_a_class_that_is_confidently_seen():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55], [0.2, 0.8]])
    given = np.array([0, 0, 1, 0, 1])  # thresholds: mean of .9 .8 .45 = .717, mean of .7 .8 = .75
    assert len(label_noise.suspicious(p, given)[0]) == 0  # .55 is below what class 1 has
    p[3] = [0.1, 0.9]
    rows, classes, margins = label_noise.suspicious(p, given)
    assert rows.tolist() == [3] and classes.tolist() == [1] and np.isclose(margins[0], -0.8)


def test_each_of_several_labels_is_doubted_for_itself():
    rng = np.random.default_rng(1)
    hot = (rng.random((200, 3)) < 0.4).astype(np.float32)
    p = np.clip(0.8 * hot + 0.1 + rng.normal(0, 0.05, hot.shape), 0, 1)
    hot[7, 2] = 1 - hot[7, 2]
    rows, columns, margins = label_noise.suspicious(p, hot)
    assert (rows[0], columns[0]) == (7, 2) and margins[0] < -0.5
    empty = label_noise.suspicious(np.empty((0, 3)), np.empty((0, 3)))
    assert [len(part) for part in empty] == [0, 0, 0]


@pytest.mark.parametrize("task", ["single", "multi"])
def test_a_doubt_is_listed_with_what_the_image_may_rather_be(task):
    p = np.array([[0.1, 0.9], [0.8, 0.2], [0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
    targets = np.array([0, 0, 0, 1, 1])  # the first is planted
    images = images_of(p, targets if task == "single" else np.eye(2)[targets], ["ant", "bee"], rows=[5, 4, 3, 2, 1])
    labels = [f"label of row {row}" for row in range(6)]
    places, table = label_noise.doubts(images, labels)
    first = table.iloc[0]
    assert places[0] == 0 and (first["id"], first["label"]) == ("image 5", "label of row 5")
    assert (first["doubt"] == "bee" and len(table) == 1) if task == "single" else first["doubt"] == "not ant"
    pixels = np.full((6, 4, 4, 3), 9, np.uint8)
    svg = label_noise.sheet_of(images, places, table, pixels, 1)
    assert svg.count("<image") == 1 and f"labelled label of row 5\nor rather {first['doubt']}?\nimage 5" in svg
    assert f'stroke="{AMBER}"' in svg


def test_without_a_doubt_the_sheet_says_so_and_without_images_too():
    sure = images_of(np.eye(2), np.array([0, 1]), ["ant", "bee"])
    places, table = label_noise.doubts(sure, ["ant", "bee"])
    assert list(table.columns) == ["id", "label", "doubt", "margin"] and table.empty
    assert "No label is doubted." in label_noise.sheet_of(sure, places, table, [], 8)
    none = images_of(np.empty((0, 2)), np.empty(0, int), ["ant", "bee"])
    assert "There are no validation images." in label_noise.sheet_of(none, *label_noise.doubts(none, []), [], 8)
