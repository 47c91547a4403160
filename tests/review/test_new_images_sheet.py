"""The sheet of new images: what each is answered, which are unsure, and what it says where none could be read."""

import numpy as np

from eightfold.predict import new_images
from eightfold.review.new_images import draw_answers
from eightfold.review.sheets import AMBER, GREY


def answer_of(probabilities):
    decisions = probabilities.argmax(1)
    names = [f"{number}.png" for number in range(len(probabilities))]
    return new_images.tabulate_answers(names, probabilities, ["ant", "bee"], None, decisions)


def test_each_image_is_captioned_and_an_unsure_one_is_framed_in_amber(tmp_path):
    answer = answer_of(np.array([[0.75, 0.25], [0.05, 0.95], [0.5, 0.5]]))
    images = [np.full((10, 10, 3), 99, np.uint8)] * 2  # the first two of three
    draw_answers(tmp_path / "s.svg", "some/folder", images, answer, 4, 0.8)
    text = (tmp_path / "s.svg").read_text()
    assert text.count("<image") == 2 and "ant 75%" in text and "bee 95%" in text and "1.png" in text
    assert "2.png" not in text and "folder: the first 2 of 3 images; amber: less than 80% sure" in text
    assert text.count(AMBER) == 1 and text.count(GREY) == 1 and text.index(AMBER) < text.index(GREY)


def test_a_sheet_without_images_says_so(tmp_path):
    draw_answers(tmp_path / "s.svg", "folder", [], answer_of(np.empty((0, 2))), 4, 0.8)
    assert "None of the 4 files could be read." in (tmp_path / "s.svg").read_text()
