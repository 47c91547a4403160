"""The demo's data are the digits, in Kaggle's layout, and nothing gives the test labels away."""

import csv

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from eightfold.core.listing import listing_digest
from eightfold.raw import demo


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "data"
    demo.write_demo(root)
    return root


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_every_digit_is_in_train_or_test_with_its_label(root):
    known, held_back = rows(root / "labels.csv"), rows(root.parent / "held_back.csv")
    assert known[0] == held_back[0] == ["id", "label"]
    digits = load_digits()
    labels = dict(known[1:] + held_back[1:])
    assert labels == {f"digit_{row:04d}": str(label) for row, label in enumerate(digits.target)}
    for split, listed in (("train", known), ("test", held_back)):
        assert sorted(path.name for path in (root / split).iterdir()) == [f"{name}.png" for name, _ in listed[1:]]
    assert len(held_back) - 1 == 360
    for label in set(labels.values()):
        share = sum(row[1] == label for row in held_back) / sum(value == label for value in labels.values())
        assert abs(share - 0.2) < 0.01


def test_images_show_the_digits(root):
    digits = load_digits()
    path = next(path for path in sorted((root / "test").iterdir()))
    with Image.open(path) as image:
        assert image.mode == "L" and image.size == (32, 32)
        small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), float) / 255 * 16
    assert np.corrcoef(small.ravel(), digits.images[int(path.stem[-4:])].ravel())[0, 1] > 0.95


def test_sample_submission_is_uniform_over_the_sorted_classes(root):
    head, *body = rows(root / "sample_submission.csv")
    assert head == ["id", *"0123456789"]
    assert [row[0] for row in body] == [row[0] for row in rows(root.parent / "held_back.csv")[1:]]
    assert all(row[1:] == ["0.1"] * 10 for row in body)


def test_no_test_label_lies_below_the_root(root):
    assert {path.name for path in root.iterdir()} == {"train", "test", "labels.csv", "sample_submission.csv"}
    assert not {row[0] for row in rows(root / "labels.csv")} & {
        row[0] for row in rows(root.parent / "held_back.csv")[1:]
    }


def test_same_bytes_again_and_nothing_left_behind(root):
    files = {path: path.read_bytes() for path in root.rglob("*.*")}
    digest = listing_digest(root)
    (root / "stale.png").write_bytes(b"of an older version")
    demo.write_demo(root)
    assert {path: path.read_bytes() for path in root.rglob("*.*")} == files
    assert listing_digest(root) == digest
    assert {path.name for path in root.parent.iterdir()} == {"data", "held_back.csv"}
