"""The drawing of a run's losses: bands in order, epochs within them, and heights that are logarithms."""

import math

import numpy as np
import pytest

from eightfold.review.loss_curve import BOTTOM, HEIGHT, TOP, course, loss_ticks


def stage(name, fold, *losses):
    return {
        "name": name,
        "fold": fold,
        "history": [{"train_loss": train, "valid_loss": valid} for train, valid in losses],
    }


def test_losses_lie_in_their_stages_band_at_their_logarithm():
    told = course([stage("head", "0", (1.0, 0.5)), stage("all", "0", (0.5, 0.1), (0.1, 0.01))])
    head, everything = told["bands"]
    assert (head["epochs"], everything["epochs"]) == (1, 2) and head["x"] + head["width"] == pytest.approx(
        everything["x"]
    )
    train, valid, *_, last = [line["points"] for line in told["lines"]]
    assert train[0][0] == valid[0][0] == pytest.approx(head["x"] + head["width"] / 2)
    assert everything["x"] < last[0][0] < last[1][0] < everything["x"] + everything["width"]
    top, half, tenth, least = train[0][1], valid[0][1], last[0][1], last[1][1]
    assert TOP <= top < half < tenth < least <= HEIGHT - BOTTOM
    assert (least - tenth) / (tenth - top) == pytest.approx(1)  # each a factor of ten
    assert (half - top) / (tenth - top) == pytest.approx(math.log10(2))
    assert {text: y for y, text in told["ticks"]}["0.1"] == pytest.approx(tenth)


def test_what_has_no_logarithm_is_left_out():
    told = course([stage("head", "0", (0.4, None), (0.0, None)), stage("head", "1", (0.4, None), (0.4, None))])
    assert [(line["kind"], len(line["points"])) for line in told["lines"]] == [
        ("train", 1),
        ("valid", 0),
        ("train", 2),
        ("valid", 0),
    ]
    assert len(told["bands"]) == 1 and all(
        TOP <= y <= HEIGHT - BOTTOM for line in told["lines"] for _, y in line["points"]
    )
    assert course([stage("head", "0", (None, None))]) == course([]) == {}


def test_a_narrow_range_of_losses_has_ticks_too():
    for low, high in ((-0.2, -0.05), (-3, 2), (-0.13, -0.1), (0.001, 0.3)):
        ticks = loss_ticks(low, high)
        assert 2 <= len(ticks) <= 8 and all(low <= np.log10(tick) <= high for tick in ticks)
        assert ticks == sorted({float(f"{tick:.2g}") for tick in ticks})
