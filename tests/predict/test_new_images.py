"""New images: found, packed for each size, and listed with what they are answered."""

import numpy as np

from eightfold.predict import new_images

CLASSES = ["ant", "bee", "id"]


def test_a_new_image_s_answer_is_that_of_the_cut_points_or_thresholds():
    p = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    said = new_images.tabulate_answers(["x", "y"], p, CLASSES, None, np.array([2, 0]))
    assert said["prediction"].tolist() == ["id", "ant"] and said["probability"].tolist() == [0.3, 0.6]
    said = new_images.tabulate_answers(["x", "y"], p, CLASSES, " ", np.array([[1, 1, 0], [0, 0, 0]]))
    assert said["prediction"].tolist() == ["ant bee", ""] and said["probability"].tolist() == [0.5, 0.6]
