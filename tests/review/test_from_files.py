"""What a page takes from files: plots in a given order, sheets taken apart, cells that hold numbers or none."""

import base64

import numpy as np
import pytest
from test_report import EVIL

from eightfold.core.files import write_text
from eightfold.review import from_files, sheets


def test_a_sheet_is_taken_apart_with_its_captions_whole(tmp_path):
    image = np.zeros((90, 60, 3), np.uint8)
    long = "a_class_whose_name_is_far_too_long_for_a_sheet " + EVIL
    sheets.sheet(tmp_path / "s.svg", [image, image[:0]], [f"{long}\n12 %", "b"], colors=[sheets.RED, sheets.GREEN])
    one, two = from_files.cells(tmp_path / "s.svg")["cells"]
    assert one["lines"] == [long, "12 %"] and one["colour"] == sheets.RED and one["src"].startswith("data:image/jpeg")
    assert two == {"lines": ["b"], "src": "", "colour": sheets.GREEN, "crisp": False}
    sheets.sheet(tmp_path / "s.svg", [], [], title=EVIL, empty="None: all right.")
    assert from_files.cells(tmp_path / "s.svg") == {"cells": [], "empty": "None: all right."}


def test_files_are_shown_in_the_order_of_the_texts_and_others_are_left_out(tmp_path):
    paths = [str(tmp_path / f"{name}.svg") for name in ("b", "other", "a")]
    for path in paths:
        write_text(path, f"<svg>{path}</svg>")
    found = from_files.figures(paths, {"a": ("A", "first"), "missing": ("M", "none"), "b": ("B", "second")})
    assert [(figure["title"], figure["text"]) for figure in found] == [("A", "first"), ("B", "second")]
    head, _, data = found[0]["src"].partition(",")
    assert head == "data:image/svg+xml;base64" and base64.b64decode(data).decode() == f"<svg>{paths[2]}</svg>"


@pytest.mark.parametrize(
    ("text", "number"),
    [("1.5", 1.5), (" 2 ", 2.0), ("-", None), ("", None), ("nan", None), ("inf", None), (None, None)],
)
def test_a_cell_holds_a_finite_number_or_none(text, number):
    assert from_files.number_of(text) == number


def test_cells_of_a_table_stay_text(tmp_path):
    write_text(tmp_path / "t.csv", "id,n\n007,\nnan,1e3\n")
    assert from_files.table_rows(tmp_path / "t.csv") == [{"id": "007", "n": ""}, {"id": "nan", "n": "1e3"}]
