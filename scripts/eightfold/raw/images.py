"""Any image file to 8-bit RGB, upright. The one place that knows what Pillow does with odd files."""

import contextlib
import importlib
import io
import os
import struct
import threading
import warnings
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from eightfold.raw import plugins

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".avif", ".jp2"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".hif", ".jxl"}
)
MAX_PIXELS = 178_956_970  # more is a decompression bomb: half a gigabyte of RGB, and Pillow's own limit for an error
THUMB = 16  # side of a thumbnail, pixels
LARGE = 2**23  # pixels; larger images are decoded one at a time, or sixteen threads would need gigabytes each
MAX_SCANS = 100  # of a progressive JPEG; each goes over the whole image, and one of a few bytes may do so for hours
MAX_ASPECT = 100  # a longer strip turns into a bomb when its SHORT side is resized to the training size

# By content, not by suffix. Not every format Pillow knows: its EPS reader would run Ghostscript on the file, and TGA
# has no signature, so that junk passes for it.
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "HEIF", "JXL")
# What Pillow raises on damaged files. Bugs of ours (AttributeError, NameError) are not among them.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, MemoryError),
    *(RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)
_UPRIGHT = {  # EXIF orientation -> what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112

# Pillow's remarks on odd metadata and on images of half of MAX_PIXELS name no file, so they would only be noise.
warnings.filterwarnings("ignore", module=r"PIL\.")


_one_large = threading.Lock()

Span = tuple[float, float] | None  # the values that become black and white


class BadImage(Exception):
    """A file that is not a usable image; the message is the reason, without the file's name."""


def open_image(source: str | os.PathLike | BinaryIO, span: Span = None, short_side: int | None = None) -> Image.Image:
    """The image as upright 8-bit RGB, wholly decoded. Raises BadImage(reason), nothing else, on any damage."""
    return decode(source, span, short_side)[0]


def decode(
    source: str | os.PathLike | BinaryIO | bytes, span: Span = None, short_side: int | None = None
) -> tuple[Image.Image, str]:
    """(upright RGB image, Pillow mode that the file had). Of an animation, the first frame. Raises BadImage.

    ``span``: the values that become black and white, where an image has more than 8 bits; None: read off the file.
    ``short_side``: what the image will be resized to (px). A JPEG file is then decoded at a half, a quarter or an eighth of
    its size, as its format allows, if that leaves twice as many pixels.
    HEIC and JPEG XL are read where their plugins are installed (`plugins`).
    Bytes may also be a .npy file of (H, W), (H, W, C) or (C, H, W) values, or a DICOM file (needs pydicom).
    """
    content = b""
    if isinstance(source, bytes):
        if source.startswith(b"\x93NUMPY"):
            return _array(source, span)
        if source[128:132] == b"DICM":
            return _dicom(source, span)
        if plugins.is_jxl(source):
            if (declared := plugins.jxl_size(source)) is None:
                raise BadImage("a JPEG XL file that declares no size, so it is damaged")
            _check_size(*declared)
        content, source = source[:4096], io.BytesIO(source)
    try:
        # Of JPEG XL only what is checked above: its plugin decodes as soon as it opens a file.
        formats = [name for name in _known_formats() if name != "JXL" or content]
        with Image.open(source, formats=formats) as image:
            _check_size(*image.size)  # before any pixel is decoded
            _check_scans(image)
            if short_side:
                image.draft(None, (2 * short_side, 2 * short_side))
            large = image.width * image.height > LARGE
            with _one_large if large else contextlib.nullcontext():
                image.load()
                orientation = _orientation(image)
                rgb = _to_rgb(image, span)
                mode = image.mode
                if orientation in _UPRIGHT:
                    rgb = rgb.transpose(_UPRIGHT[orientation])
    except BadImage:
        raise
    except Image.UnidentifiedImageError as error:
        raise BadImage(plugins.describe(content) or "not an image in any known format") from error
    except _DAMAGE as error:
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from error
    return rgb, mode


def thumbnail(image: Image.Image) -> np.ndarray:
    """Grey thumbnail of an RGB image, aspect lost: uint8 (THUMB, THUMB). Images that look alike have similar ones."""
    small = image.resize((THUMB, THUMB), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small.convert("L"))


def _known_formats() -> list[str]:
    """The formats that this build of Pillow can read, of those we allow."""
    Image.init()
    plugins.register()
    return [name for name in _FORMATS if name in Image.OPEN]


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage(f"decompression bomb: {width} x {height} is more than {MAX_PIXELS:,} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImage(f"{width} x {height}: one side is more than {MAX_ASPECT} times the other")


def _check_scans(image: Image.Image) -> None:
    if image.format in ("JPEG", "MPO"):
        at = image.fp.tell()
        image.fp.seek(0)
        scans = image.fp.read().count(b"\xff\xda")
        image.fp.seek(at)
        if scans > MAX_SCANS:
            raise BadImage(f"a progressive JPEG of {scans} scans, more than {MAX_SCANS}")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where the EXIF data are damaged, since the image itself may be fine.

    Asked after decoding, because Pillow turns TIFF files upright by itself then, and PNG may keep EXIF at the end.
    """
    if image.format == "JXL" and not image.jpeg:  # decoded upright already, by what counts more than EXIF there
        return 1
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except _DAMAGE:
        return 1


def _to_rgb(image: Image.Image, span: Span) -> Image.Image:
    """8-bit RGB. Transparent pixels show a white page, 16-bit greys keep their relative brightness."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8_bit(np.asarray(image), span)).convert("RGB")
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # a copy would be a tenth of the time


def _to_8_bit(grey: np.ndarray, span: Span = None) -> np.ndarray:
    """(H, W) of 16-bit, 32-bit or float values -> uint8 (H, W).

    ``span`` says which value is black and which is white.
    A 16-bit file says its range: 0..65535. Wider types do not, so it is read off the largest value: above 255 the
    image is 16-bit, floats up to 1 are fractions, the rest is 8-bit already. NaN is black, infinity white.
    """
    if span is not None:
        return _stretched(grey, *span)
    top = 65_535
    if grey.dtype.itemsize > 2:
        peak = np.max(grey, initial=0, where=np.isfinite(grey))
        if peak <= 255:
            top = 1 if grey.dtype.kind == "f" and peak <= 1 else 255
    scaled = np.nan_to_num(grey * np.float32(255 / top), posinf=255)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8 of the same shape: ``low`` and below is 0, ``high`` and above 255. NaN is 0."""
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.clip(np.rint(np.nan_to_num(scaled)), 0, 255).astype(np.uint8)


# ---- what Pillow does not read


def _array(content: bytes, span: Span) -> tuple[Image.Image, str]:
    """A .npy file as an image. Its mode is given as its type and channels, e.g. float32x2."""
    try:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # its header is read as Python, and raises whatever that can raise
        raise BadImage(f"not a readable .npy file ({' '.join(str(error).split())})") from error
    return _drawn(values, span)


def _drawn(values: np.ndarray, span: Span) -> tuple[Image.Image, str]:
    """(H, W), (H, W, C) or (C, H, W) values as an image of 1 to 4 channels, of which the fourth does not count."""
    if values.ndim == 3 and values.shape[2] > 4 and values.shape[0] <= 4:
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] > 4 or not values.size or values.dtype.kind not in "buif":
        raise BadImage(f"an array of {values.dtype} of shape {values.shape} is not an image")
    _check_size(values.shape[1], values.shape[0])
    mode = f"{values.dtype}x{values.shape[2]}"
    if values.dtype == bool:
        values = values * np.uint8(255)
    elif values.dtype != np.uint8 or span is not None:
        values = _stretched(values, *(span or _span_of(values)))
    if values.shape[2] == 1:
        values = np.repeat(values, 3, 2)
    elif values.shape[2] == 2:  # two bands and their mean, as is usual for radar
        values = np.dstack([values, values.mean(2).astype(np.uint8)])
    return Image.fromarray(np.ascontiguousarray(values[:, :, :3])), mode


def _span_of(values: np.ndarray) -> tuple[float, float]:
    """All that 16 bits can say; else the array's own least and greatest value."""
    finite = values[np.isfinite(values)]
    if values.dtype == np.uint16 or not finite.size:
        return 0, 65_535
    low, high = float(finite.min()), float(finite.max())
    return low, high if high > low else low + 1


def _dicom(content: bytes, span: Span) -> tuple[Image.Image, str]:
    """A DICOM file, of one frame, as an image, by pydicom."""
    try:
        pydicom = importlib.import_module("pydicom")
    except ImportError:
        raise BadImage(
            "a DICOM file, which needs the package pydicom: pip install -r envs/requirements-extra.txt"
        ) from None
    try:
        file = pydicom.dcmread(io.BytesIO(content))
        _check_size(int(file.Columns), int(file.Rows))
        values, meaning = file.pixel_array, str(file.PhotometricInterpretation)
        if int(file.get("NumberOfFrames", 1) or 1) > 1:
            values = values[0]  # as of an animation
        if meaning.startswith("YBR") and values.ndim == 3:
            values = importlib.import_module("pydicom.pixels").convert_color_space(values, meaning, "RGB")
        elif meaning.startswith("MONOCHROME"):
            values = values * float(file.get("RescaleSlope", 1)) + float(file.get("RescaleIntercept", 0))
    except BadImage:
        raise
    except Exception as error:  # pydicom's own are of every kind
        raise BadImage(f"not a readable DICOM file ({' '.join(str(error).split())})") from error
    drawn, _ = _drawn(values, span)
    if meaning == "MONOCHROME1":  # its least value is white
        drawn = ImageOps.invert(drawn)
    return drawn, f"DICOM {meaning}"
