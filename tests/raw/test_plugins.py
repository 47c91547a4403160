"""What Pillow reads by plugins, where they are installed, and the size that a JPEG XL file declares."""

import io

import corpus
import numpy as np
import pytest
from PIL import Image

from eightfold.raw import images, plugins

SIZES = [
    (1, 1),
    (24, 16),
    (7, 300),
    (300, 7),
    (256, 256),
    (640, 480),
    (1600, 900),
    (520, 1000),
    (2000, 1000),
    (9001, 91),
]


def test_the_size_in_a_head_is_that_of_the_format():
    """By hand, from ISO 18181-1: small sides, 8 * (1 + 1) px high, ratio 3:2."""
    assert plugins.jxl_size(b"\xff\n\x03\x07" + bytes(20)) == (24, 16)
    for other in (b"", corpus.PNG, corpus.JPEG, b"\xff\n\x03"):
        assert plugins.jxl_size(other) is None


def test_a_bomb_is_refused_from_its_head():
    """Not small, 30 bits of height and as many of width, all ones: a billion pixels a side."""
    bits = 0b0 | 0b11 << 1 | (2**30 - 1) << 3 | 0 << 33 | 0b11 << 36 | (2**30 - 1) << 38
    content = b"\xff\n" + bits.to_bytes(9, "little") + bytes(20)
    assert plugins.jxl_size(content) == (2**30, 2**30)
    with pytest.raises(images.BadImage, match="decompression bomb"):
        images.decode(content)


@pytest.mark.parametrize("size", SIZES)
def test_the_size_in_a_head_is_what_the_plugin_decodes(size):
    pytest.importorskip("pillow_jxl")
    content = corpus.saved(Image.new("RGB", size), "JXL")
    assert plugins.jxl_size(content) == size == images.decode(content)[0].size


@pytest.mark.parametrize(("kind", "module"), [("HEIF", "pillow_heif"), ("JXL", "pillow_jxl")])
def test_an_image_is_read_upright_or_refused_where_it_is_damaged(kind, module):
    pytest.importorskip(module)
    plugins.register()
    content = corpus.saved(corpus.COLOR.repeat(4, 0).repeat(4, 1), kind, quality=95)
    shown = np.asarray(images.decode(content)[0])[2::4, 2::4]
    assert np.abs(shown.astype(int) - corpus.COLOR).max() <= 2 * corpus.LOSSY
    for end in (5, 20, len(content) // 2, len(content) - 5):
        with pytest.raises(images.BadImage):
            images.decode(content[:end])
    # Both say in the image itself how it stands; EXIF is a copy of that.
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(corpus.COLOR).save(file, kind, exif=exif.tobytes())
    assert images.decode(file.getvalue())[0].size in {(corpus.WIDTH, corpus.HEIGHT), (corpus.HEIGHT, corpus.WIDTH)}
