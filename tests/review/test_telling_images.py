"""Which held-out images are shown, against brute force, and what their sheets say."""

import re

import numpy as np
import pytest
from test_review import images_of, several, single

from eightfold.review import review, telling_images
from eightfold.review.sheets import GREEN, RED


def turns(rows, score, group, number):
    """Brute force of the choice by class: every class's best, then every class's second ..."""
    queues = {g: sorted((r for r in rows if group[r] == g), key=lambda r: (-score[r], r)) for g in set(group[rows])}
    picked, turn = [], 0
    while len(picked) < number and any(len(queue) > turn for queue in queues.values()):
        found = sorted((q[turn] for q in queues.values() if len(q) > turn), key=lambda r: (-score[r], r))
        picked += [(group[r], turn, r) for r in found][: number - len(picked)]
        turn += 1
    return [row for _, _, row in sorted(picked)]


@pytest.mark.parametrize("number", [1, 8, 40, 1000])
@pytest.mark.parametrize("data", [single, several])
def test_most_correct_and_incorrect_take_the_classes_in_turn(data, number):
    p, y = data()
    images = images_of(p, y, range(p.shape[1]))
    good = images.right
    group = y if y.ndim == 1 else np.zeros(len(y), int)
    truth = [
        chances[t] if y.ndim == 1 else np.mean([c if has else 1 - c for c, has in zip(chances, t, strict=True)])
        for chances, t in zip(p, y, strict=True)
    ]
    np.testing.assert_allclose(review.truth_probability(p, y), truth)
    truth = review.truth_probability(p, y)
    expected = turns(np.flatnonzero(good), truth, group, number)
    assert telling_images.most_correct(images, number).tolist() == expected
    expected = turns(np.flatnonzero(~good), -truth, group, number)
    assert telling_images.most_incorrect(images, number).tolist() == expected


def test_most_uncertain_is_near_one_over_classes_or_near_a_half():
    p, y = single()
    expected = sorted(range(len(p)), key=lambda row: (max(p[row]), row))[:8]
    assert telling_images.most_uncertain(images_of(p, y, range(5)), 8).tolist() == expected
    p, y = np.array([[0.9, 0.1], [0.5, 0.45], [0.5, 0.55], [0.1, 0.5]]), np.zeros((4, 2), int)
    images = images_of(p, y, "ab")
    assert telling_images.most_uncertain(images, 3)[2] == 3
    assert set(telling_images.most_uncertain(images, 2)) == {1, 2}


def test_random_rows_are_few_distinct_and_the_same_again():
    rows = np.arange(100, 160)
    picked = telling_images.random_rows(rows, 8, seed=3)
    assert (
        picked.tolist()
        == telling_images.random_rows(rows, 8, seed=3).tolist()
        != telling_images.random_rows(rows, 8, seed=4).tolist()
    )
    assert len(set(picked)) == 8 and set(picked) <= set(rows)
    assert telling_images.random_rows(rows[:3], 8, seed=0).tolist() == [100, 101, 102]
    assert telling_images.random_rows(rows[:0], 8, seed=0).tolist() == []


def test_each_sheet_holds_its_own_and_none_of_no_images():
    p, y = single()
    images = images_of(p, y, "abcde")
    chosen = telling_images.chosen(images, 8, seed=1)
    assert list(chosen) == list(telling_images.TITLES)
    for name, right in (("most_correct", True), ("random_right", True), ("most_incorrect", False)):
        assert len(chosen[name]) == 8 and (images.right[chosen[name]] == right).all()
    assert not images.right[chosen["random_wrong"]].any() and set(chosen["random_wrong"]) != set(
        chosen["most_incorrect"]
    )
    for targets in (np.zeros(0, int), np.zeros((0, 3), int)):
        none = images_of(np.zeros((0, 3)), targets, "abc")
        assert all(len(shown) == 0 for shown in telling_images.chosen(none, 8, seed=1).values())


def test_a_caption_says_what_was_answered_what_it_is_and_how_sure():
    one = images_of(np.array([[0.25, 0.75]]), np.array([0]), ["ant", "bee"], rows=[7])
    assert telling_images.caption(one, 0) == "predicted bee 75%\nactual ant 25%\nimage 7"
    two = images_of(
        np.array([[0.9, 0.8, 0.1], [0.1, 0.1, 0.1]]), np.array([[1, 0, 1], [0, 0, 0]]), ["ant", "bee", "cat"]
    )
    assert telling_images.caption(two, 0) == "predicted ant, bee\nactual ant, cat\nimage 0"
    assert telling_images.caption(two, 1) == "predicted nothing\nactual nothing\nimage 1"


def test_a_sheet_shows_the_pixels_of_the_row_and_frames_right_and_wrong():
    images = images_of(np.array([[0.25, 0.75], [0.25, 0.75]]), np.array([0, 1]), ["ant", "bee"], rows=[3, 1])
    pixels = {3: np.full((8, 8, 3), 10, np.uint8), 1: np.full((8, 8, 3), 250, np.uint8)}
    svg = telling_images.sheet_of("most_uncertain", images, [0, 1], pixels)
    assert re.findall('stroke="(#[0-9a-f]{6})"', svg) == [RED, GREEN] and svg.count("<image") == 2
    assert telling_images.TITLES["most_uncertain"] in svg and svg.index("image 3") < svg.index("image 1")


@pytest.mark.parametrize(("targets", "word"), [([1, 1], "right"), ([0, 0], "wrong")])
def test_an_empty_sheet_says_why(targets, word):
    images = images_of(np.array([[0.25, 0.75], [0.25, 0.75]]), np.array(targets), ["ant", "bee"])
    assert f"None: all of the 2 validation images are {word}." in telling_images.sheet_of(
        "random_wrong", images, [], {}
    )
    none = images_of(np.zeros((0, 2)), np.zeros(0, int), ["ant", "bee"])
    assert "There are no validation images." in telling_images.sheet_of("random_wrong", none, [], {})
