"""New images: found, packed for each size, and listed with what they are answered."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from eightfold.core.files import UserError
from eightfold.inputs.pixels import Pixels
from eightfold.predict import new_images
from eightfold.raw.strangers import MAX_FILE

CLASSES = ["ant", "bee", "id"]


def test_a_new_image_s_answer_is_that_of_the_cut_points_or_thresholds():
    p = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    said = new_images.tabulate_answers(["x", "y"], p, CLASSES, None, np.array([2, 0]))
    assert said["prediction"].tolist() == ["id", "ant"] and said["probability"].tolist() == [0.3, 0.6]
    said = new_images.tabulate_answers(["x", "y"], p, CLASSES, " ", np.array([[1, 1, 0], [0, 0, 0]]))
    assert said["prediction"].tolist() == ["ant bee", ""] and said["probability"].tolist() == [0.5, 0.6]


@pytest.fixture
def folder(tmp_path):
    """Two images, one of them in a folder below, a broken one and a text."""
    folder = tmp_path / "new"
    (folder / "below").mkdir(parents=True)
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(folder / "below" / "a.png")
    Image.fromarray(np.full((40, 20, 3), 30, np.uint8)).save(folder / "c.png")
    (folder / "b.png").write_bytes(b"\x89PNG but no more")
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_images_are_known_by_their_suffix_and_a_folder_without_any_is_refused(folder, tmp_path):
    assert new_images.find(folder) == (["b.png", "below/a.png", "c.png"], [])
    assert new_images.find(folder, ".txt") == (["b.png", "below/a.png", "c.png", "notes.txt"], [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="none of its 0 files"):
        new_images.find(tmp_path / "empty")


def test_nothing_that_a_folder_may_hold_stops_the_answers_or_vanishes(folder, tmp_path, monkeypatch, caplog):
    """Names in Latin-1, a pipe, a device, a giant, a DICOM file called .jpg, links to nowhere; images of other suffixes."""
    monkeypatch.setattr(new_images.log, "propagate", True)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    image = (folder / "c.png").read_bytes()
    Path(os.fsdecode(os.fsencode(folder) + b"/M\xfccke.png")).write_bytes(image)
    (folder / "two\rlines.png").write_bytes(image)
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "dicom.jpg").write_bytes(bytes(128) + b"DICM" + bytes(50))
    (folder / "empty.jpg").touch()
    with open(folder / "giant.png", "wb") as file:
        file.truncate(MAX_FILE + 1)
    for name in ("IMG_1", "x.xyz", "y.xyz", "table.csv", ".hidden.png", "@eaDir/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(image)
    names, left_out = new_images.find(folder)
    _, bad = new_images.pack_sizes(folder, names, tmp_path / "packed", {8: 10}, 2)
    reasons = dict(bad + left_out)
    assert set(names) - set(reasons) == {"below/a.png", "c.png"} and len(reasons) == len(bad) + len(left_out)
    wanted = {
        "M\\xfccke.png": "not UTF-8",
        "two\\rlines.png": "carriage return",
        **dict.fromkeys(["pipe.png", "zero.png"], "no plain file"),
        "loop.png": "cannot be read",
        "dicom.jpg": "pydicom",
        "giant.png": "bytes, more than",
        "b.png": ".",
        "empty.jpg": ".",
        "IMG_1": "without a suffix",
        "x.xyz": "suffix .xyz",
        "y.xyz": "suffix .xyz",
    }
    assert reasons.keys() == wanted.keys() and all(re.search(wanted[name], reasons[name]) for name in wanted)
    assert "3 files are not taken for images: 2 of suffix .xyz, 1 without a suffix" in caplog.text
    pd.DataFrame(bad + left_out).to_csv(tmp_path / "unreadable.csv", encoding="utf-8")


def test_a_folder_of_which_nothing_can_be_read_is_refused_with_the_reasons(folder, tmp_path):
    for name in ("below/a.png", "c.png"):
        (folder / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=r"none of its 3 images can be read(?s:.*)git lfs pull"):
        new_images.pack_sizes(folder, new_images.find(folder)[0], tmp_path / "packed", {8: 10}, 1)


def test_each_size_has_its_pixels_in_the_order_of_the_names_and_what_is_broken_holds_none(folder, tmp_path):
    sides = {8: 10, 9: 10, 14: 16}
    folders, bad = new_images.pack_sizes(folder, new_images.find(folder)[0], tmp_path / "packed", sides, 1)
    assert [name for name, _ in bad] == ["b.png"]
    assert list(folders) == [8, 9, 14] and folders[8] == folders[9] != folders[14]
    for size, side in sides.items():
        shapes = Pixels(folders[size]).index[:, 1:3].tolist()
        assert shapes == [[0, 0], [side, side * 3 // 2], [2 * side, side]]
    assert Pixels(folders[14])[1].min() == Pixels(folders[14])[1].max() == 90
