"""New images: found, packed for each size, and listed with what they are answered."""

import numpy as np
import pytest
from PIL import Image

from eightfold.core.files import UserError
from eightfold.inputs.pixels import Pixels
from eightfold.predict import new_images

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
    assert new_images.find(folder) == ["b.png", "below/a.png", "c.png"]
    assert new_images.find(folder, ".txt") == ["b.png", "below/a.png", "c.png", "notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="none of its 0 files"):
        new_images.find(tmp_path / "empty")


def test_each_size_has_its_pixels_in_the_order_of_the_names_and_what_is_broken_holds_none(folder, tmp_path):
    sides = {8: 10, 9: 10, 14: 16}
    folders, bad = new_images.pack_sizes(folder, new_images.find(folder), tmp_path / "packed", sides, 1)
    assert [name for name, _ in bad] == ["b.png"]
    assert list(folders) == [8, 9, 14] and folders[8] == folders[9] != folders[14]
    for size, side in sides.items():
        shapes = Pixels(folders[size]).index[:, 1:3].tolist()
        assert shapes == [[0, 0], [side, side * 3 // 2], [2 * side, side]]
    assert Pixels(folders[14])[1].min() == Pixels(folders[14])[1].max() == 90
