"""The pixels of a manifest's images: those that it saw, resized; a file that has changed since is refused."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from miniatures import encoded, put
from PIL import Image

from eightfold.core import shards
from eightfold.core.files import UserError
from eightfold.inputs import pixels
from eightfold.raw.packing import describe_pack, read_images
from eightfold.raw.stores import Store

READING = {"id": "id", "bands": None, "range": None}


@pytest.fixture
def rows(tmp_path):
    """Three images, and one that could not be read when the manifest was made."""
    contents = {f"{n}.png": encoded(n % 2, n) for n in range(3)}
    for name, content in contents.items():
        put(tmp_path / name, content)
    sums = [hashlib.sha256(content).hexdigest() for content in contents.values()]
    found = {"path": [*contents, "bad.png"], "status": ["ok", "ok", "ok", "unreadable"], "sha256": [*sums, ""]}
    return Store(tmp_path, READING), pd.DataFrame(found)


@pytest.mark.parametrize("threads", [1, 3])
def test_every_image_comes_in_order_at_its_size(rows, tmp_path, threads):
    store, table = rows
    *found, unreadable = read_images(store, table, 20, threads, "data")
    for n, image in enumerate(found):
        expected = pixels.resized(Image.open(tmp_path / f"{n}.png").convert("RGB"), 20)
        assert min(image.shape[:2]) == 20 and np.array_equal(image, expected)
    assert unreadable.shape == (0, 0, 3) and unreadable.dtype == np.uint8


def test_a_file_that_has_changed_is_refused_and_so_is_one_that_is_gone(rows, tmp_path):
    store, table = rows
    put(tmp_path / "1.png", encoded(0, 9))
    with pytest.raises(
        UserError, match=r"1\.png: has changed since the manifest was made; delete results/data and run"
    ):
        list(read_images(store, table, 20, 2, "results/data"))
    (tmp_path / "1.png").unlink()
    with pytest.raises(UserError, match=r"1\.png: was readable when the manifest was made, and no longer is"):
        list(read_images(store, table, 20, 2, "results/data"))


def test_a_part_of_the_table_is_a_part_of_the_images(rows, monkeypatch):
    store, table = rows
    monkeypatch.setattr(shards, "BATCH", 2)
    whole = list(read_images(store, table, 20, 1, "data"))
    parts = [list(read_images(store, shards.rows_of(table, name), 20, 1, "data")) for name in shards.names(3)]
    assert [len(part) for part in parts] == [0, 2, 2]
    joined = [image for part in parts for image in part]
    assert all(np.array_equal(a, b) for a, b in zip(joined, whole, strict=True))


def test_the_identity_follows_the_pixels_the_data_and_the_size(tmp_path):
    image = np.zeros((4, 5, 3), np.uint8)
    index, other = (pixels.pack(tmp_path / str(shade), [image + shade]) for shade in (0, 1))
    found = describe_pack(index, "of the data", {"short_side": 4})
    assert (found["short_side"], found["images"]) == (4, 1) and found["index"] == pixels.index_digest(index)
    changed = [(other, "of the data", 4), (index, "of other data", 4), (index, "of the data", 5)]
    digests = {describe_pack(pack, data, {"short_side": side})["digest"] for pack, data, side in changed}
    assert len({found["digest"], *digests}) == 4
