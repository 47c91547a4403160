"""The sheet of images before and after augmentation."""

import re

import numpy as np
import pandas as pd
import torch

from eightfold.inputs import pixels
from eightfold.review import augmented
from eightfold.review.sheets import GREEN, GREY


def test_rows_are_labelled_and_readable_and_the_same_again():
    split = np.array(["train", "valid", "test", "train"])[np.arange(40) % 4]
    table = pd.DataFrame({"split": split, "status": np.where(np.arange(40) < 8, "unreadable", "ok")})
    rows = augmented.rows_to_show(table, 5, seed=1)
    assert len(rows) == 5 and rows.min() >= 8 and (rows % 4 != 2).all()
    assert rows.tolist() == augmented.rows_to_show(table, 5, seed=1).tolist()


def test_a_plain_view_has_the_pixels_themselves(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels.pack(tmp_path, [image])
    settings = {"size": 32, "augmentation": {"preset": "none", "crop": "center"}, "seed": 0}
    plain = augmented.source_of(pixels.Pixels(tmp_path), settings)(np.array([0]), 0)
    np.testing.assert_allclose(plain[0].permute(1, 2, 0).numpy(), image, atol=1e-3)


def test_a_line_holds_an_image_plain_and_in_its_other_views():
    def source(rows, view):
        return torch.full((len(rows), 3, 4, 4), 300.0 if view else 10.0)  # beyond white is white

    svg = augmented.sheet_of(source, np.array([4, 7]), ["a", "b"], 2, "side_on")
    assert re.findall('stroke="(#[0-9a-f]{6})"', svg) == 2 * [GREEN, GREY, GREY]
    titles = re.findall(r"<g><title>([^<]*)</title>", svg)
    assert titles == ["plain\na", "view 1", "view 2", "plain\nb", "view 1", "view 2"] and "side_on" in svg
