"""The packed pixel cache: what goes in comes out, and damage is told."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from eightfold.config.plan import short_side_for
from eightfold.core.files import UserError
from eightfold.inputs.pixels import MAX_ASPECT, Pixels, in_order, pack, resized

image_lists = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda hw: arrays.arrays(np.uint8, (*hw, 3))), max_size=6
)


@pytest.fixture
def packed(tmp_path):
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in ((4, 5), (3, 3), (6, 2))]
    pack(tmp_path, images)
    return tmp_path, images


@settings(max_examples=40, deadline=None)
@given(images=image_lists, data=st.data())
def test_what_is_packed_is_read(tmp_path_factory, images, data):
    folder = tmp_path_factory.mktemp("pixels")
    index = pack(folder, iter(images))
    found = Pixels(folder)
    assert len(found) == len(images) and (found.index == index).all()
    assert all((found[row] == image).all() for row, image in enumerate(images))
    if images:
        rows = np.array(data.draw(st.lists(st.integers(0, len(images) - 1), min_size=1, max_size=8)))
        flat, offsets, heights, widths = found.batch(rows)
        for row, offset, height, width in zip(rows, offsets, heights, widths, strict=True):
            assert (flat[offset : offset + height * width].reshape(height, width, 3) == images[row]).all()
        assert len(flat) == (heights * widths).sum()
    assert sorted(path.name for path in folder.iterdir()) == ["index.npy", "pixels.u8"]


def test_an_image_that_is_none_takes_no_room(tmp_path):
    nothing, something = np.empty((0, 0, 3), np.uint8), np.full((2, 2, 3), 7, np.uint8)
    pack(tmp_path, [nothing, something, nothing])
    found = Pixels(tmp_path)
    assert found[0].size == 0 and (found[1] == 7).all() and (tmp_path / "pixels.u8").stat().st_size == 12


def test_every_flipped_bit_is_seen(packed):
    folder, images = packed
    path = folder / "pixels.u8"
    content = path.read_bytes()
    owner = np.repeat(np.arange(3), [image.size for image in images])
    for byte in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[byte] ^= 1 << byte % 8
        path.write_bytes(damaged)
        found = Pixels(folder)
        for row, image in enumerate(images):
            if row == owner[byte]:
                with pytest.raises(UserError, match=rf"pixels\.u8: the pixels of row {row} are damaged"):
                    found.batch(np.array([row]))
            else:
                assert (found[row] == image).all()


def test_rows_swapped_in_the_index_are_seen(packed):
    folder, _ = packed
    index = np.load(folder / "index.npy")
    index[[0, 1], 3] = index[[1, 0], 3]
    np.save(folder / "index.npy", index)
    with pytest.raises(UserError, match="row 0"):
        Pixels(folder)[0]


@pytest.mark.parametrize("content", [b"", b"junk", b"\x93NUMPY\x01\x00"])
def test_files_cut_short_are_named(packed, content):
    folder, _ = packed
    whole = (folder / "pixels.u8").read_bytes()
    (folder / "pixels.u8").write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"pixels\.u8: \d+ bytes where its index says \d+; delete the folder"):
        Pixels(folder)
    (folder / "pixels.u8").write_bytes(whole)
    (folder / "index.npy").write_bytes(content)
    with pytest.raises(UserError, match="not a readable pixel cache"):
        Pixels(folder)


def test_missing_files_and_an_empty_cache(tmp_path):
    with pytest.raises(UserError, match="not a readable pixel cache"):
        Pixels(tmp_path)
    pack(tmp_path, [])
    assert len(Pixels(tmp_path)) == 0


def test_an_index_with_pickle_in_it_is_not_run(packed):
    folder, _ = packed
    np.save(folder / "index.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="not a readable pixel cache"):
        Pixels(folder)


def test_a_pack_that_fails_leaves_the_old_one(packed):
    folder, images = packed

    def failing():
        yield images[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        pack(folder, failing())
    assert (Pixels(folder)[2] == images[2]).all() and len(list(folder.iterdir())) == 2


# ---- sizes


def test_the_cache_is_an_eighth_larger_than_what_is_trained():
    assert short_side_for(224) == 256 and short_side_for(299) == 340
    for size in range(16, 1000):
        assert short_side_for(size) % 4 == 0 and size * 1.1 - 4 <= short_side_for(size) <= size * 1.15


@pytest.mark.parametrize(("width", "height"), [(100, 50), (50, 100), (64, 64), (33, 97), (20, 31), (400, 300)])
def test_the_short_side_is_met_and_the_aspect_kept(width, height):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))
    found = resized(image, 40)
    assert min(found.shape[:2]) == 40 and found.dtype == np.uint8
    assert found.shape[1] / found.shape[0] == pytest.approx(
        width / height, abs=0.5 * 1.01 / 40 * max(1, width / height)
    )


def test_an_image_of_the_right_size_is_left_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 70, 3)).astype(np.uint8)
    assert (resized(Image.fromarray(pixels), 40) == pixels).all()


def test_a_long_strip_is_cut_to_its_middle():
    pixels = np.zeros((10, 400, 3), np.uint8)
    pixels[:, 160:240] = 200
    found = resized(Image.fromarray(pixels), 20)
    assert found.shape == (20, 20 * MAX_ASPECT, 3)
    assert (found[:, 1:-1] == 200).all()  # Pillow blends the outermost with its neighbours beyond the cut
    assert resized(Image.fromarray(pixels.transpose(1, 0, 2)), 20).shape == (20 * MAX_ASPECT, 20, 3)


# ---- order


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_and_few_wait(threads):
    waiting, most, lock = 0, 0, threading.Lock()

    def work(item):
        nonlocal waiting, most
        time.sleep(0.001 * (item * 7 % 5))
        with lock:
            waiting += 1
            most = max(most, waiting)
        return item * item

    for expected, found in enumerate(in_order(work, range(100), threads)):
        assert found == expected**2
        with lock:
            waiting -= 1
    assert expected == 99 and most <= 2 * threads + 1
    assert list(in_order(work, [], threads)) == []


def test_an_error_of_the_work_is_told_in_its_place():
    def work(item):
        if item == 3:
            raise UserError("item 3")
        return item

    results, found = in_order(work, range(9), 2), []
    with pytest.raises(UserError, match="item 3"):
        for item in results:
            found.append(item)
    assert found == [0, 1, 2]
