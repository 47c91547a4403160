"""Which images look alike: maps, neighbours and thumbnails, against brute force, and what is recorded of them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from test_review import images_of

from eightfold.review import alike


def test_nearest_are_those_of_brute_force_and_never_itself():
    values = np.random.default_rng(0).normal(size=(30, 5))
    found = alike.nearest(values, 4)
    for i, row in enumerate(found):
        like = [v @ values[i] / np.linalg.norm(v) if j != i else -np.inf for j, v in enumerate(values)]
        assert row.tolist() == np.argsort(like)[::-1][:4].tolist()


def test_a_map_parts_two_groups_and_comes_out_the_same_twice():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, (20, 8)), rng.normal(12, 1, (20, 8))])
    maps = alike.flat_maps(values, 0)
    for places in maps.values():
        assert places.min() >= 0 and places.max() <= 1
        apart = np.linalg.norm(places[:20].mean(0) - places[20:].mean(0))
        assert apart > 2 * places[:20].std(0).mean()
    assert all((alike.flat_maps(values, 0)[name] == maps[name]).all() for name in maps)
    assert alike.flat_maps(values[:2], 0)["tsne"].shape == (2, 2)


def test_a_sprite_holds_every_image_in_its_place():
    images = [np.full((10, 20, 3), shade, np.uint8) for shade in range(0, 250, 6)]
    page = np.asarray(Image.open(io.BytesIO(alike.sprite(images))))
    side = alike.THUMBNAIL
    for number, image in enumerate(images):
        y, x = (divmod(number, alike.COLUMNS)[0] + 0.5) * side, (number % alike.COLUMNS + 0.5) * side
        assert abs(int(page[int(y), int(x), 0]) - int(image[0, 0, 0])) < 12


@pytest.mark.parametrize("task", ["single", "multi"])
def test_a_record_holds_a_point_for_each_image(task):
    rng = np.random.default_rng(0)
    p, values = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]), rng.normal(size=(3, 4))
    targets = np.array([0, 0, 1]) if task == "single" else np.array([[1, 0], [1, 1], [0, 0]])
    images = images_of(p, targets, ["ant", "bee"], rows=[2, 0, 4])
    made = alike.record(images, values, np.full((5, 8, 8, 3), 7, np.uint8), seed=0)
    first, second, third = made["points"]
    assert [point["id"] for point in made["points"]] == ["image 2", "image 0", "image 4"]
    assert (first["truth"], first["said"], first["right"], first["sure"]) == ("ant", "ant", True, 0.9)
    assert (second["said"], second["right"]) == ("bee", False) and third["right"] == (task == "single")
    assert second["truth"] == ("ant" if task == "single" else "ant, bee")
    assert third["truth"] == ("bee" if task == "single" else "nothing")
    # A colour is the actual class, or where labels are several the likeliest one.
    assert [point["colour"] for point in made["points"]] == ([0, 0, 1] if task == "single" else [0, 1, 1])
    assert sorted(first["like"]) == [1, 2] and len(first["tsne"]) == len(first["pca"]) == 2
    assert Image.open(io.BytesIO(base64.b64decode(made["sprite"]))).size == (64 * 32, 64)


def test_of_no_image_there_is_a_record_without_points():
    made = alike.record(images_of(np.empty((0, 2)), np.empty(0, int), "ab"), np.empty((0, 4)), [], seed=0)
    assert made["points"] == [] and made["sprite"] is None and made["classes"] == ["a", "b"]
