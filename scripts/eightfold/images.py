"""Any picture file to 8-bit RGB, upright. The one place that knows what Pillow does with odd files."""

import os
import struct
import warnings
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".avif", ".jp2"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
MAX_PIXELS = 178_956_970  # more is a decompression bomb: half a gigabyte of RGB, and Pillow's own limit for an error
MAX_ASPECT = 100  # a longer strip turns into a bomb when its SHORT side is resized to the training size

# By content, not by suffix. Not every format Pillow knows: its EPS reader would run Ghostscript on the file, and TGA
# has no signature, so that junk passes for it.
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
# What Pillow raises on damaged files. Bugs of ours (AttributeError, NameError) are not among them.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, MemoryError),
    *(RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)
_UPRIGHT = {  # EXIF orientation -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112

# Pillow's remarks on odd metadata and on pictures of half of MAX_PIXELS name no file, so they would only be noise.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BadImage(Exception):
    """A file that is no usable picture; the message is the reason, without the file's name."""


def open_image(source: str | os.PathLike | BinaryIO) -> Image.Image:
    """The picture as upright 8-bit RGB, wholly decoded. Raises BadImage(reason), nothing else, on any damage."""
    return decode(source)[0]


def decode(source: str | os.PathLike | BinaryIO) -> tuple[Image.Image, str]:
    """(upright RGB picture, Pillow mode that the file had). Of an animation, the first frame. Raises BadImage."""
    try:
        with Image.open(source, formats=_known_formats()) as image:
            _check_size(*image.size)  # before any pixel is decoded
            image.load()
            orientation = _orientation(image)
            rgb = _to_rgb(image)
            mode = image.mode
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
    except BadImage:
        raise
    except Image.UnidentifiedImageError as error:
        raise BadImage("not a picture in any known format") from error
    except _DAMAGE as error:
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from error
    return rgb, mode


def _known_formats() -> list[str]:
    """The formats that this build of Pillow can read, of those we allow."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage(f"decompression bomb: {width} x {height} is more than {MAX_PIXELS:,} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImage(f"{width} x {height}: one side is more than {MAX_ASPECT} times the other")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where the EXIF data are damaged, since the picture itself may be fine.

    Asked after decoding, because Pillow turns TIFF files upright by itself then, and PNG may keep EXIF at the end.
    """
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except _DAMAGE:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB. Transparent pixels show a white page, 16-bit greys keep their relative brightness."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(grey: np.ndarray) -> np.ndarray:
    """(H, W) of 16-bit, 32-bit or float values -> uint8 (H, W).

    A 16-bit file says its range: 0..65535. Wider types do not, so it is read off the largest value: above 255 the
    picture is 16-bit, floats up to 1 are fractions, the rest is 8-bit already. NaN is black, infinity white.
    """
    top = 65_535
    if grey.dtype.itemsize > 2:
        peak = np.max(grey, initial=0, where=np.isfinite(grey))
        if peak <= 255:
            top = 1 if grey.dtype.kind == "f" and peak <= 1 else 255
    scaled = np.nan_to_num(grey * np.float32(255 / top), posinf=255)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
