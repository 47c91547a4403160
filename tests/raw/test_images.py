"""Any image file becomes upright 8-bit RGB, or a BadImage with a reason."""

import io
import random

import numpy as np
import pytest
from corpus import UPRIGHT
from PIL import Image

from eightfold.inputs import pixels
from eightfold.raw import images

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's comments on the damage

COLOR = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def reopened(image: Image.Image, kind: str, **options) -> np.ndarray:
    """What open_image makes of the image saved as ``kind``: uint8 (H, W, 3)."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    result = images.open_image(file)
    assert result.mode == "RGB"
    return np.asarray(result)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied_once(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    result = reopened(Image.fromarray(COLOR), kind, exif=exif, **options)
    np.testing.assert_array_equal(result, UPRIGHT[orientation](COLOR))


def test_nonsense_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 99
    np.testing.assert_array_equal(reopened(Image.fromarray(COLOR), "PNG", exif=exif), COLOR)


def test_damaged_exif_does_not_lose_the_image():
    good = io.BytesIO()
    Image.fromarray(COLOR).save(good, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert images.open_image(io.BytesIO(good.getvalue())).size == (7, 5)


GREY16 = np.array([[0, 255, 256, 257], [128 * 257, 40_000, 65_534, 65_535]], np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_relative_brightness(kind):
    result = reopened(Image.fromarray(GREY16), kind)
    expected = np.rint(GREY16 / 257)
    np.testing.assert_array_equal(result, np.stack([expected] * 3, -1))


def test_dark_16_bit_grey_stays_dark():
    assert reopened(Image.fromarray(np.full((4, 4), 200, np.uint16)), "PNG").max() == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[0.0, 25_700.0, 65_535.0]], np.float32), [0, 100, 255]),
        (np.array([[np.nan, 1.0, np.inf]], np.float32), [0, 255, 255]),
        (np.array([[-5.0, 0.0, 255.0]], np.float32), [0, 0, 255]),
        (np.array([[0, 1, 1]], np.int32), [0, 1, 1]),
        (np.array([[0, 7, 255]], np.int32), [0, 7, 255]),
        (np.array([[-1, 257, 65_535]], np.int32), [0, 1, 255]),
    ],
)
def test_wide_greys_are_scaled_by_their_range(values, expected):
    assert reopened(Image.fromarray(values), "TIFF")[0, :, 0].tolist() == expected


def test_transparent_pixels_show_a_white_page():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., 3] = [[0, 255], [128, 255]]
    result = reopened(Image.fromarray(rgba), "PNG")
    assert result[:, :, 0].tolist() == [[255, 0], [127, 0]]
    grey = Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), "LA")
    assert reopened(grey, "PNG")[0, :, 0].tolist() == [10, 255]


def test_transparent_palette_and_color_key():
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([1, 2, 3, 200, 100, 50])
    assert reopened(palette, "PNG").tolist() == [[[1, 2, 3], [200, 100, 50]]]
    assert reopened(palette, "PNG", transparency=0).tolist() == [[[255] * 3, [200, 100, 50]]]
    assert reopened(palette, "GIF", transparency=0).tolist() == [[[255] * 3, [200, 100, 50]]]
    keyed = Image.fromarray(np.array([[9, 10]], np.uint8))
    assert reopened(keyed, "PNG", transparency=9)[0, :, 0].tolist() == [255, 10]


def test_grey_one_bit_and_cmyk():
    grey = COLOR[..., 0]
    np.testing.assert_array_equal(reopened(Image.fromarray(grey), "PNG"), np.stack([grey] * 3, -1))
    assert reopened(Image.fromarray(np.array([[True, False]])), "PNG")[0, :, 0].tolist() == [255, 0]
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(reopened(red, "JPEG").astype(int) - [255, 0, 0]).max() <= 2
    np.testing.assert_array_equal(reopened(red, "TIFF")[0, 0], [255, 0, 0])


def test_animation_is_its_first_frame():
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    assert reopened(frames[0], "GIF", save_all=True, append_images=frames[1:])[0, 0].tolist() == [255, 0, 0]


def test_mode_is_that_of_the_file(tmp_path):
    Image.fromarray(GREY16).save(tmp_path / "a.png")
    image, mode = images.decode(tmp_path / "a.png")
    assert mode.startswith("I") and image.size == (4, 2)


def broken(kind: str, keep: float) -> io.BytesIO:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(file, kind)
    return io.BytesIO(file.getvalue()[: int(len(file.getvalue()) * keep)])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.95])
def test_truncated_files_are_bad(kind, keep):
    with pytest.raises(images.BadImage) as caught:
        images.open_image(broken(kind, keep))
    assert str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_image_is_bad(content):
    with pytest.raises(images.BadImage, match="not an image"):
        images.open_image(io.BytesIO(content))


def test_missing_file_is_bad(tmp_path):
    with pytest.raises(images.BadImage, match="No such file"):
        images.open_image(tmp_path / "none.png")


@pytest.mark.parametrize("side", [13_400, 30_000])  # Pillow itself refuses only the second
def test_decompression_bomb_is_refused_before_it_is_decoded(side):
    header = io.BytesIO()
    Image.new("1", (8, 8)).save(header, "BMP")
    content = bytearray(header.getvalue())
    content[18:26] = side.to_bytes(4, "little") * 2
    with pytest.raises(images.BadImage, match="decompression bomb"):
        images.open_image(io.BytesIO(bytes(content)))


def test_strip_that_would_explode_is_refused():
    with pytest.raises(images.BadImage, match="101 x 1"):
        reopened(Image.new("RGB", (101, 1)), "PNG")
    assert reopened(Image.new("RGB", (100, 1)), "PNG").shape == (1, 100, 3)


def test_random_damage_is_an_image_or_bad_and_nothing_else():
    source, chance = [], random.Random(0)
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        file = io.BytesIO()
        Image.fromarray(COLOR).resize((30, 20)).save(file, kind)
        source.append(file.getvalue())
    for _ in range(600):
        content = bytearray(chance.choice(source))
        for _ in range(chance.choice([1, 3, 9])):
            content[chance.randrange(min(len(content), 200))] = chance.choice([0, 255, chance.randrange(256)])
        try:
            assert images.open_image(io.BytesIO(bytes(content))).mode == "RGB"
        except images.BadImage as error:
            assert str(error)


def test_a_large_jpeg_is_decoded_small_and_shows_the_same():
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    content = io.BytesIO()
    coarse.resize((960, 640), Image.Resampling.BICUBIC).save(content, "JPEG", quality=95)
    full, drafted = images.open_image(content.getvalue()), images.open_image(content.getvalue(), None, 64)
    assert (full.size, drafted.size) == ((960, 640), (240, 160))  # an eighth would be less than twice 64
    assert images.open_image(content.getvalue(), None, 400).size == (960, 640)
    one, other = (pixels.resized(image, 64).astype(int) for image in (full, drafted))
    assert one.shape == other.shape
    assert np.abs(one - other).mean() < 1.5
