"""What the network looks at: Grad-CAM on a network made by hand, and the sheets of it."""

import re

import numpy as np
import pandas as pd
import torch
from test_review import images_of
from torch import nn

from eightfold.net import nets, trunks
from eightfold.review import insight
from eightfold.review.sheets import GREEN, RED


def network():
    """A trunk that passes two channels on, and a head that reads class 0 off the first and class 1 off the second."""
    early, late = nn.AvgPool2d(8), nn.Identity()
    head = nn.Linear(6, 2, bias=False)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[0, 3], head.weight[1, 4] = 1.0, 1.0  # the averages of channels 0 and 1
    return nets.Net(trunks.TorchvisionTrunk(early, late, nn.Flatten(), 6), head)


def corner(rows, view):
    """Inputs (n, 3, 32, 32): channel 0 is lit at the top left, channel 1 at the bottom right, more so in later rows."""
    inputs = torch.zeros(len(rows), 3, 32, 32)
    inputs[:, 0, :8, :8] = 1.0
    inputs[:, 1, 24:, 24:] = torch.as_tensor(rows, dtype=torch.float32).view(-1, 1, 1)
    return inputs


def test_grad_cam_lights_up_what_speaks_for_the_class():
    first, second = insight.grad_cam(network(), corner([1, 1], 0), [0, 1])
    assert first.shape == (32, 32) and first.max() == second.max() == 1
    assert first[:8, :8].mean() > 0.7 and first[16:, 16:].max() == 0
    assert second[24:, 24:].mean() > 0.7 and second[:16, :16].max() == 0


def test_features_are_those_of_the_plain_view_and_of_no_rows_there_are_none():
    asked = []

    def source(rows, view):
        asked.append(view)
        return corner(rows, view)

    values, logits = insight.features(network(), source, np.array([0, 2]), insight.CPU)
    np.testing.assert_allclose(values[:, :2], [[1, 0], [1, 2]])  # maxima of channels 0 and 1
    np.testing.assert_allclose(logits, [[1 / 16, 0], [1 / 16, 2 / 16]])
    assert set(asked) == {0}
    values, logits = insight.features(network(), source, np.empty(0, int), insight.CPU)
    assert values.shape == (0, 6) and logits.shape == (0, 2)


def test_rows_to_show_are_held_out_and_few():
    folds = pd.DataFrame({"row": np.arange(40), "fold": np.arange(40) % 4})
    found = insight.rows_to_show(folds, {"fold": "1", "most": 6, "seed": 0})
    assert len(found) == 6 and (found % 4 == 1).all() and (np.diff(found) > 0).all()
    assert len(insight.rows_to_show(folds, {"fold": "all", "most": 6, "seed": 0})) == 0


def test_a_sheet_has_each_image_twice_for_what_was_predicted_and_what_it_is():
    p = np.array([[0.3, 0.7], [0.6, 0.4]])
    images = images_of(p, np.array([0, 0]), ["ant", "bee"], rows=[3, 1])
    scale = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    made = insight.cam_sheets(network(), corner, images, scale, 6)
    wrong, unsure = made["most_incorrect"], made["most_uncertain"]
    assert wrong.count("<image") == 2 and unsure.count("<image") == 4
    assert "for predicted bee\n70%\nimage 3" in wrong and "for actual ant\n30%\nimage 3" in wrong
    assert re.findall('stroke="(#[0-9a-f]{6})"', unsure) == [GREEN, GREEN, RED, GREEN]  # image 1, then image 3


def test_of_several_labels_the_likeliest_actual_one_is_shown():
    images = images_of(np.array([[0.2, 0.9, 0.4]]), np.array([[1, 0, 1]]), ["ant", "bee", "cat"])
    net = network()
    net.head = nn.Linear(6, 3)
    made = insight.cam_sheets(net, corner, images, {"mean": [0.5] * 3, "std": [0.2] * 3}, 6)["most_incorrect"]
    assert "for likeliest bee\n90%" in made and "for actual cat\n40%" in made


def test_inputs_are_shown_as_the_pixels_that_they_were_made_of():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3))
    scale = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]}
    inputs = torch.as_tensor((pixels / 255 - scale["mean"]) / scale["std"]).permute(2, 0, 1).float()
    np.testing.assert_allclose(insight._shown(inputs, scale), pixels, atol=1e-3)


def test_overlay_keeps_what_is_hot_and_dims_the_rest():
    image = np.full((4, 4, 3), 200, np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[0, 0] = 1
    made = insight.overlay(image, heat)
    assert made.dtype == np.uint8 and made[0, 0, 0] > made[0, 0, 2] > 100 and (made[1:] == 120).all()
