"""Views: pure functions of (seed, view, image), and what they do to pixels."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eightfold.core.devices import Device
from eightfold.inputs import views
from eightfold.inputs.pixels import Pixels, pack
from eightfold.inputs.sources import Views

AUGMENTATION = {"preset": "side_on", "max_zoom": 1.1, "max_rotate": 10, "max_light": 0.05, "crop": "random"}
STILL = {"preset": "basic", "max_zoom": 1.0, "max_rotate": 0, "max_light": 0, "crop": "random"}
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
CPU = Device(torch.device("cpu"), torch.float32)
SIZES = [(40, 60), (64, 40), (48, 48), (41, 57), (100, 40), (40, 40), (44, 90)]  # (height, width)


def noise(height, width, seed=0):
    return np.random.default_rng([seed, height, width]).integers(0, 256, (height, width, 3)).astype(np.uint8)


def laid_out(images):
    """flat uint8 (pixels, 4), offsets, heights, widths, as `views.sample` wants them."""
    flat = np.concatenate([np.pad(p.reshape(-1, 3), ((0, 0), (0, 1))) for p in images])
    heights, widths = (np.array([p.shape[axis] for p in images]) for axis in (0, 1))
    offsets = np.concatenate([[0], np.cumsum(heights * widths)[:-1]])
    return tuple(map(torch.from_numpy, (np.ascontiguousarray(flat), offsets, heights, widths)))


def render(images, table, size, augmentation):
    """Views in 0-1, not normalised: (images, 3, size, size)."""
    flat, offsets, heights, widths = laid_out(images)
    choice = views.choose(table, heights.numpy(), widths.numpy(), size, augmentation)
    return views.render(flat, offsets, heights, widths, choice, size, ZERO, ONE)


def rows_of_table(images=1, **columns):
    """A view table of 0.5 everywhere but in the columns given."""
    table = np.full((images, len(views._COLUMNS)), 0.5)
    for name, value in columns.items():
        table[:, views._COLUMNS.index(name)] = value
    return table


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels")
    pack(folder, [noise(h, w, seed) for seed, (h, w) in enumerate(SIZES * 3)])
    return Pixels(folder)


def source(pixels, **augmentation):
    return Views(pixels, 32, {**AUGMENTATION, **augmentation}, 7, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), CPU)


# ---- the choice


def test_a_row_of_the_table_is_its_images_own():
    """Not of how many images there are, of the order of calls, or of the global random state."""
    many = views.view_table(3, 2, 1000)
    np.random.seed(1)
    assert (views.view_table(3, 2, 10) == many[:10]).all() and (many >= 0).all() and (many < 1).all()
    assert (views.view_table(3, 1, 10) != many[:10]).all() and (views.view_table(4, 2, 10) != many[:10]).all()
    assert len(np.unique(many)) == many.size


@pytest.mark.parametrize("preset", ["basic", "side_on", "top_down"])
def test_random_numbers_come_in_the_shares_of_the_recipe(preset):
    """Rotation and zoom with p 0.75, uniform; flips uniform; read off the maps that were chosen."""
    n, size = 20_000, 32
    heights = widths = np.full(n, 64)
    augmentation = {**AUGMENTATION, "preset": preset, "max_rotate": 10, "crop": "center"}
    choice = views.choose(views.view_table(0, 1, n), heights, widths, size, augmentation)
    linear = choice.affine[:, :, :2]
    zoom = 2 / np.sqrt(np.abs(np.linalg.det(linear)))
    zoomed = zoom > 1 + 1e-9
    assert zoomed.mean() == pytest.approx(0.75, abs=0.02)
    assert zoom.max() <= 1.1 + 1e-9 and zoom[zoomed].mean() == pytest.approx(1.05, abs=0.002)
    mirrored = np.linalg.det(linear) < 0
    assert mirrored.mean() == pytest.approx({"basic": 0, "side_on": 0.5, "top_down": 0.5}[preset], abs=0.02)
    # Angle of the map, less the quarter turns of top_down.
    angle = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    angle = (angle + 45) % 90 - 45
    turned = np.abs(angle) > 1e-9
    assert turned.mean() == pytest.approx(0.75, abs=0.02) and np.abs(angle).max() <= 10
    assert np.abs(angle[turned]).mean() == pytest.approx(5, abs=0.15) and abs(angle.mean()) < 0.15
    for light in (choice.brightness, choice.contrast):
        assert np.abs(light).max() <= 0.05 and np.abs(light).mean() == pytest.approx(0.025, abs=0.001)
    if preset == "top_down":
        quarter = np.round(np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0])) / 90).astype(int) % 4
        counts = np.unique(quarter * 2 + mirrored, return_counts=True)[1] / n
        assert len(counts) == 8 and np.allclose(counts, 1 / 8, atol=0.02)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(16, 200),
    st.integers(16, 200),
    st.sampled_from([16, 32, 48]),
    st.sampled_from(["random", "center", "squish", "area"]),
    st.sampled_from(["basic", "side_on", "top_down"]),
    st.integers(0, 1000),
)
def test_a_crop_stays_within_the_image(height, width, size, crop, preset, seed):
    augmentation = {**AUGMENTATION, "crop": crop, "preset": preset, "max_rotate": 0}
    table = views.view_table(seed, 1, 8)
    choice = views.choose(table, np.full(8, height), np.full(8, width), size, augmentation)
    corners = np.array([[x, y, 1] for x, y in itertools.product((0, size), repeat=2)]).T
    at = choice.affine @ corners  # (8, 2, 4)
    assert at.min() >= -1e-6
    assert at[:, 0].max() <= width + 1e-6 and at[:, 1].max() <= height + 1e-6
    box = at.max(2) - at.min(2)  # (8, 2): width and height of what is seen
    if crop == "area":
        share = box.prod(1) / (height * width)
        assert (share <= 1 + 1e-9).all() and (share >= 0.08 * 0.75 * min(height, width) / max(height, width)).all()
        free = (box[:, 0] < width - 1e-6) & (box[:, 1] < height - 1e-6)  # not clipped by the image's edge
        assert (share[free] >= 0.08 - 1e-9).all()
        aspect = box[free, 0] / box[free, 1]
        assert ((aspect > 0.75 - 1e-9) & (aspect < 4 / 3 + 1e-9)).all()
    elif crop == "squish":
        np.testing.assert_allclose(box[:, 0] / width, box[:, 1] / height)
        assert (box[:, 0] >= width / 1.1 - 1e-6).all()
    else:
        np.testing.assert_allclose(box[:, 0], box[:, 1])
        assert (box <= min(height, width) + 1e-6).all() and (box >= min(height, width) / 1.1 - 1e-6).all()
    if crop in ("center", "squish"):
        np.testing.assert_allclose(at.mean(2), [[width / 2, height / 2]] * 8, atol=1e-6)


# ---- the pixels


@pytest.mark.parametrize("sample", [views.sample, views._sample_one_by_one, views._sample_together])
def test_sample_is_torchs_grid_sample(sample):
    """Of each image by itself, for maps that go far beyond its edges; on the CPU and on what else there is."""
    random = np.random.default_rng(0)
    images = [noise(h, w) for h, w in SIZES]
    flat, offsets, heights, widths = laid_out(images)
    size = 24
    affine = random.uniform(-3, 3, (len(images), 2, 3)) * [[[1, 1, 60]]]
    found = sample(flat, offsets, heights, widths, torch.from_numpy(affine), size)
    centre = np.arange(size) + 0.5
    x, y = np.meshgrid(centre, centre)
    for number, image in enumerate(images):
        at = affine[number] @ np.stack([x.ravel(), y.ravel(), np.ones(size * size)])  # (2, size * size), px
        grid = 2 * at / [[image.shape[1]], [image.shape[0]]] - 1
        expected = torch.nn.functional.grid_sample(
            torch.from_numpy(image).permute(2, 0, 1)[None].double(),
            torch.from_numpy(grid.T.reshape(1, size, size, 2)),
            padding_mode="reflection",
            align_corners=False,
        )[0]
        torch.testing.assert_close(found[number].double(), expected, rtol=0, atol=0.05)


def test_the_eight_views_of_a_square_are_distinct_and_move_pixels_whole():
    image = noise(32, 32)
    table = rows_of_table(8, zoom_if=0.9, turn_if=0.9, flip=np.arange(8) / 8 + 0.01)
    augmentation = {**STILL, "preset": "top_down"}
    found = (render([image] * 8, table, 32, augmentation) * 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(found - found.round()).max() < 1e-3
    found = found.round().astype(np.uint8)
    symmetries = [np.rot90(side, turns) for side in (image, image[:, ::-1]) for turns in range(4)]
    matches = [[(one == other).all() for other in symmetries] for one in found]
    assert (np.sum(matches, 0) == 1).all() and (np.sum(matches, 1) == 1).all()
    assert (found[0] == image).all() and (found[1] == image[:, ::-1]).all()


def test_symmetries_are_a_group_and_flips_their_own_inverse():
    maps = views.dihedral(np.arange(8), 10)
    for flip in range(4):
        np.testing.assert_allclose(maps[flip] @ maps[flip], np.eye(3), atol=1e-12)
    for one, other in itertools.product(maps, maps):
        assert sum(np.allclose(one @ other, known) for known in maps) == 1
    assert {tuple(np.round(m[:2, :2].ravel()).astype(int)) for m in maps[:4]} == {
        (x, 0, 0, y) for x in (1, -1) for y in (1, -1)
    }


@pytest.mark.parametrize(("height", "width"), [(32, 48), (48, 32), (32, 32), (33, 40)])
def test_the_plain_view_is_the_middle(height, width):
    """At its own size: the pixels themselves. Enlarged: as Pillow enlarges."""
    image = noise(height, width)
    side = min(height, width)
    found = render([image], None, side, AUGMENTATION)[0].permute(1, 2, 0).numpy() * 255
    top, left = (height - side) / 2, (width - side) / 2
    if top == int(top) and left == int(left):
        middle = image[int(top) : int(top) + side, int(left) : int(left) + side]
        np.testing.assert_allclose(found, middle, atol=1e-3)
    size = 2 * side  # Pillow's and our bilinear agree where nothing is averaged away
    found = render([image], None, size, AUGMENTATION)[0].permute(1, 2, 0).numpy() * 255
    box = (left, top, left + side, top + side)
    whole = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box), float)
    np.testing.assert_allclose(found, whole, atol=1.01)


def test_the_plain_view_of_a_squished_image_is_all_of_it():
    image = noise(32, 64)
    found = render([image], None, 64, {**AUGMENTATION, "crop": "squish"})[0].permute(1, 2, 0).numpy() * 255
    expected = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR), float)
    np.testing.assert_allclose(found, expected, atol=1.01)


def test_rotation_is_about_the_middle_and_by_the_angle():
    choice = views.choose(
        rows_of_table(turn_if=0.0, turn=1.0, zoom_if=0.9),
        np.array([64]),
        np.array([64]),
        64,
        {**STILL, "max_rotate": 10, "crop": "center"},
    )
    angle = math.radians(10)
    middle, right = choice.affine[0] @ [32, 32, 1], choice.affine[0] @ [52, 32, 1]
    np.testing.assert_allclose(middle, [32, 32], atol=1e-9)
    assert math.hypot(*(right - middle)) == pytest.approx(20)
    assert abs(math.atan2(*(right - middle)[::-1])) == pytest.approx(angle)


def test_a_quarter_turn_is_numpys():
    image = noise(32, 32)
    table = rows_of_table(turn_if=0.0, turn=1.0, zoom_if=0.9, flip=0.0)
    found = render([image], table, 32, {**STILL, "max_rotate": 90})[0].permute(1, 2, 0).numpy() * 255
    assert min(np.abs(found - np.rot90(image, turns)).max() for turns in (1, 3)) < 0.01


@pytest.mark.parametrize(("b", "c"), [(0.05, 0.05), (-0.05, -0.05), (0.0, 0.04), (0.03, 0.0), (-0.4, 0.6), (0.3, -0.7)])
def test_lighting_is_the_recipes(b, c):
    x = np.random.default_rng(0).random((1, 3, 16, 16))
    factor = c + 1 if c >= 0 else -1 / (c - 1)
    expected = np.clip((x - x.mean()) * factor + x.mean() + b, 0, 1)
    found = views.light(torch.from_numpy(x), torch.tensor([b], dtype=float), torch.tensor([c], dtype=float))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_view_is_normalised_last(pixels):
    still = source(pixels, **STILL)
    plain = render([pixels[0]], None, 32, STILL)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    torch.testing.assert_close(still(np.array([0]), 0), (plain - mean) / std)


# ---- bytes


@pytest.mark.parametrize("preset", ["side_on", "top_down", "basic"])
@pytest.mark.parametrize("crop", ["random", "center", "squish", "area"])
@pytest.mark.parametrize("view", [0, 1, 5])
def test_bytes_do_not_depend_on_batch_order_or_threads(pixels, preset, crop, view):
    make = source(pixels, preset=preset, crop=crop)
    rows = np.arange(len(SIZES) * 3)
    whole = make(rows, view)
    assert whole.shape == (21, 3, 32, 32) and whole.isfinite().all()
    order = np.random.default_rng(view).permutation(rows)
    assert torch.equal(make(order, view), whole[order])
    assert torch.equal(torch.cat([make(rows[i : i + 4], view) for i in range(0, 21, 4)]), whole)
    assert torch.equal(torch.cat([make(rows[i : i + 1], view) for i in rows]), whole)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert torch.equal(source(pixels, preset=preset, crop=crop)(rows, view), whole)
    finally:
        torch.set_num_threads(threads)


def test_views_differ_and_the_preset_none_is_plain_in_every_view(pixels):
    make, rows = source(pixels), np.arange(5)
    different = [make(rows, view) for view in (0, 1, 2, 3)]
    assert all((a != b).flatten(1).any(1).all() for a, b in itertools.combinations(different, 2))
    none = source(pixels, preset="none")
    assert torch.equal(none(rows, 0), different[0]) and torch.equal(none(rows, 3), different[0])


def test_a_preset_that_ignores_a_number_does_not_shift_the_others(pixels):
    """The unflipped half of side_on's views are basic's, to the bit."""
    rows = np.arange(21)
    flips = views.view_table(7, 1, 21)[:, views._COLUMNS.index("flip")]
    one, other = source(pixels)(rows, 1), source(pixels, preset="basic")(rows, 1)
    same = (one == other).flatten(1).all(1).numpy()
    assert (same == (flips < 0.5)).all() and 0 < same.sum() < 21
