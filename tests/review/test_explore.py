"""The first look at the data: same bytes every time, any class name, any number of classes."""

from xml.etree import ElementTree

import pandas as pd
import pytest
from PIL import Image

from eightfold.review import explore

NASTY = ["<b>&amp;", "q\"uo'te", "$x^2$", "日本", "a" * 300]


@pytest.fixture
def data(tmp_path):
    """(table, info) of two images per nasty class and one unreadable test image."""
    rows = []
    for number, name in enumerate(NASTY * 2):
        Image.new("RGB", (20 + number, 10), (9 * number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append((f"<{number}>", f"{number}.png", name, 20 + number, 10, "ok"))
    rows.append(("t", "t.png", "", 0, 0, "unreadable"))
    table = pd.DataFrame(rows, columns=["id", "path", "labels", "width", "height", "status"])
    return table, {
        "classes": sorted(NASTY),
        "separator": None,
        "root": str(tmp_path),
        "reading": {"id": "id", "bands": None, "range": None},
    }


def test_counts_are_sorted_and_of_labelled_images(data):
    table, info = data
    assert explore.class_counts(table, info) == dict.fromkeys(sorted(NASTY), 2)
    several = pd.DataFrame({"labels": ["b a", "b", ""]})
    counts = explore.class_counts(several, {"classes": ["a", "b", "c"], "separator": " "})
    assert list(counts.items()) == [("b", 2), ("a", 1), ("c", 0)]


def test_drawings_are_xml_and_the_same_bytes_again(data, tmp_path):
    table, info = data
    drawings = {}
    for turn in ("first", "again"):
        folder = tmp_path / turn
        explore.plot_classes(folder / "classes.svg", explore.class_counts(table, info))
        explore.plot_sizes(folder / "sizes.svg", table)
        explore.write_sample(folder / "sample.svg", table, info, seed=3)
        drawings[turn] = [path.read_bytes() for path in sorted(folder.iterdir())]
        for text in drawings[turn]:
            ElementTree.fromstring(text)
    assert drawings["first"] == drawings["again"] and len(drawings["first"]) == 3


@pytest.mark.parametrize("classes", [1, 2, 40, 41, 1500])
def test_any_number_of_classes_is_drawn(classes, tmp_path):
    counts = {f"class {number:04d}": 1 + classes - number for number in range(classes)}
    explore.plot_classes(tmp_path / "classes.svg", counts)
    text = (tmp_path / "classes.svg").read_text()
    assert "class 0000" in text and f"class {classes - 1:04d}" in text
    assert len(text) < 150_000


def test_images_of_one_size_are_drawn(data, tmp_path):
    table, _ = data
    explore.plot_sizes(tmp_path / "sizes.svg", table[:1])
    ElementTree.fromstring((tmp_path / "sizes.svg").read_text())


def test_sample_is_of_labelled_images_of_at_most_ten_classes():
    labels = [f"{number % 30:02d}" for number in range(300)] + [""] * 50
    table, info = pd.DataFrame({"labels": labels}), {"classes": sorted(set(labels) - {""}), "separator": None}
    sample = explore.choose_sample(table, info, seed=0)
    assert len(sample) == 40 and len({name for name, _ in sample}) == 10 and len(set(sample)) == 40
    assert all(labels[row] == name for name, row in sample)
    assert sample == explore.choose_sample(table, info, seed=0) != explore.choose_sample(table, info, seed=1)
