"""Odd and bad images, made here and not shipped: each is read as the image it shows, or rejected for a reason.

`KINDS` maps a name to what makes the bytes of a file and to what is expected of it: a function that draws the right
image (uint8 (H, W, 3)) and how far colours may be off, or a regular expression of the reason.
"""

import base64
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, features

HEIGHT, WIDTH = 16, 24
_y, _x = np.mgrid[:HEIGHT, :WIDTH]
COLOR = np.stack([_x * 10, _y * 15, np.full_like(_x, 128)], -1).astype(np.uint8)  # (16, 24, 3)
GREY = COLOR[..., 0]
LOSSY = 24  # levels that a lossy format may be off

# COLOR by `cjpeg -arithmetic -quality 90`: Pillow reads such files and writes none.
ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8X"
    "GBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/yQAR"
    "CAAQABgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ANwbvPA62PXu/ZzCNMjV011hBwFDeF02UfPDHH2yDJ4pkQqL2J0t"
    "amUNbExDN+JhD+M7vEMOqiE1uwkS5lCj5W4kQP/Z"
)
UPRIGHT: dict[int, Callable] = {  # what each EXIF orientation says of the stored rows and columns, from the standard
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def saved(image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    shown = image if isinstance(image, Image.Image) else Image.fromarray(image)
    shown.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file with its right checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, color: int, data: bytes, *more: bytes, interlaced: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def rows(array: np.ndarray) -> bytes:
    """The scan lines of an array of bytes (H, n), unfiltered."""
    return b"".join(b"\0" + line.tobytes() for line in np.ascontiguousarray(array))


def adam7(array: np.ndarray) -> bytes:
    """The seven passes of an interlaced PNG."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = (array[top::down, left::right] for top, left, down, right in passes)
    return b"".join(rows(part.reshape(len(part), -1)) for part in parts if part.size)


def oriented(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(COLOR, kind, exif=exif)


def cmyk(**options) -> bytes:
    """As printers send them: CMYK, inverted, with Adobe's marker (Pillow writes it)."""
    return saved(Image.fromarray(COLOR).convert("CMYK"), "JPEG", quality=95, **options)


def palette(**options) -> Image.Image:
    image = Image.fromarray(np.array([[0, 1] * 8] * 8, np.uint8), "P")
    image.putpalette([1, 2, 3, 200, 100, 50])
    return image


def frames(kind: str, **options) -> bytes:
    second = Image.new("RGB", (WIDTH, HEIGHT), "blue")
    return saved(Image.fromarray(COLOR), kind, save_all=True, append_images=[second, second], **options)


def with_segment(content: bytes, marker: int, data: bytes, times: int = 1) -> bytes:
    """A JPEG with an application segment after its start."""
    segment = b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data
    return content[:2] + segment * times + content[2:]


def scan_bomb(times: int) -> bytes:
    """A progressive JPEG whose last scan is told again and again."""
    content = saved(COLOR, "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * times + content[-2:]


def tiff_loop() -> bytes:
    """A TIFF whose list of pages leads back to its first."""
    content = bytearray(saved(COLOR, "TIFF"))
    at = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, at)[0]
    struct.pack_into("<I", content, at + 2 + 12 * entries, at)
    return bytes(content)


def declared(side: int) -> bytes:
    return png(side, side, 8, 2, zlib.compress(b"\0" * 100))


def bmp_of_height(height: int) -> bytes:
    content = bytearray(saved(COLOR, "BMP"))
    struct.pack_into("<i", content, 22, height)
    return bytes(content)


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a.jpg", saved(COLOR, "JPEG"))
    return file.getvalue()


class Planted:
    """What a pickle runs when it is opened: it makes the file that ``canary`` names."""

    def __init__(self, canary: str):
        self.canary = canary

    def __reduce__(self):
        return open, (self.canary, "w")


def exact(image=COLOR) -> tuple:
    return image, 0


def near(image=COLOR) -> tuple:
    return image, LOSSY


def grey(values=GREY) -> np.ndarray:
    return np.stack([values] * 3, -1)


JPEG = saved(COLOR, "JPEG", quality=95, subsampling=0)
PNG = saved(COLOR, "PNG")
DEEP = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 170).astype(np.uint16)
DEEP8 = np.rint(DEEP / 257).astype(np.uint8)
BITS = (GREY > 100).astype(np.uint8)
NOT = "not an image"

KINDS: dict[str, tuple[Callable[[], bytes], tuple | str]] = {
    # ---- JPEG
    "jpeg": (lambda: JPEG, near()),
    "jpeg_progressive": (lambda: saved(COLOR, "JPEG", quality=95, subsampling=0, progressive=True), near()),
    "jpeg_arithmetic": (lambda: base64.b64decode(ARITHMETIC), near()),
    "jpeg_restart_markers": (lambda: saved(COLOR, "JPEG", quality=95, subsampling=0, restart_marker_blocks=1), near()),
    "jpeg_halved_colors": (lambda: saved(COLOR, "JPEG", quality=95, subsampling=2), near()),
    "jpeg_grey": (lambda: saved(GREY, "JPEG", quality=95), near(grey())),
    "jpeg_cmyk_adobe": (cmyk, near()),
    "jpeg_cmyk_progressive": (lambda: cmyk(progressive=True), near()),
    "jpeg_broken_profile": (lambda: saved(COLOR, "JPEG", quality=95, subsampling=0, icc_profile=b"junk" * 99), near()),
    "jpeg_broken_exif": (lambda: with_segment(JPEG, 0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"), near()),
    "jpeg_huge_metadata": (lambda: with_segment(JPEG, 0xEB, b"x" * 65_000, 80), near()),
    "jpeg_trailing_junk": (lambda: JPEG + b"junk" * 999, near()),
    "jpeg_mpo_of_two": (lambda: frames("MPO", quality=95), near()),
    "jpeg_truncated": (lambda: JPEG[: len(JPEG) * 3 // 4], "(?i)truncated|broken"),
    "jpeg_head_only": (lambda: JPEG[:200], "(?i)truncated|broken|" + NOT),
    "jpeg_marker_only": (lambda: b"\xff\xd8\xff", NOT),
    "jpeg_zero_size": (lambda: JPEG.replace(b"\0\x10\0\x18", b"\0\0\0\0", 1), "."),
    "jpeg_scan_bomb": (lambda: scan_bomb(500), "scans"),
    **{f"jpeg_turned_{way}": (lambda way=way: oriented("JPEG", way), near(UPRIGHT[way](COLOR))) for way in UPRIGHT},
    # ---- PNG
    "png": (lambda: PNG, exact()),
    "png_16_bit_grey": (lambda: saved(DEEP, "PNG"), exact(grey(DEEP8))),
    "png_16_bit_color": (
        lambda: png(WIDTH, HEIGHT, 16, 2, zlib.compress(rows(np.repeat(COLOR, 2, 2).reshape(HEIGHT, -1)))),
        exact(),
    ),
    "png_1_bit": (lambda: saved(BITS.astype(bool), "PNG"), exact(grey(BITS * 255))),
    "png_4_bit_grey": (
        lambda: png(WIDTH, HEIGHT, 4, 0, zlib.compress(rows((GREY // 16)[:, ::2] * 16 + (GREY // 16)[:, 1::2]))),
        exact(grey(GREY // 16 * 17)),
    ),
    "png_interlaced": (lambda: png(WIDTH, HEIGHT, 8, 2, zlib.compress(adam7(COLOR)), interlaced=1), exact()),
    "png_palette": (lambda: saved(palette(), "PNG"), exact(np.asarray(palette().convert("RGB")))),
    "png_palette_transparent": (
        lambda: saved(palette(), "PNG", transparency=0),
        exact(np.where(np.asarray(palette())[..., None] == 0, 255, np.asarray(palette().convert("RGB")))),
    ),
    "png_grey_and_alpha": (
        lambda: saved(np.dstack([GREY, BITS * 255]), "PNG"),
        exact(grey(np.where(BITS, GREY, 255))),
    ),
    "png_color_and_alpha": (
        lambda: saved(np.dstack([COLOR, BITS * 255]), "PNG"),
        exact(np.where(BITS[..., None], COLOR, 255)),
    ),
    "png_1x1": (lambda: saved(COLOR[:1, 1:2], "PNG"), exact(COLOR[:1, 1:2])),
    "png_animated": (lambda: frames("PNG"), exact()),
    "png_1x20000": (lambda: saved(Image.new("L", (1, 20_000)), "PNG"), "one side is more than"),
    "png_30000x30000_declared": (lambda: declared(30_000), "decompression bomb"),
    "png_4_billion_declared": (lambda: declared(2**31 - 1), "."),
    "png_zero_size": (lambda: declared(0), "."),
    "png_truncated": (lambda: PNG[:-40], "truncated|broken|."),
    "png_without_end": (lambda: PNG[:-12], exact()),
    "png_wrong_checksum": (lambda: PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:], "."),
    "png_profile_bomb": (
        lambda: png(
            WIDTH,
            HEIGHT,
            8,
            2,
            zlib.compress(rows(COLOR.reshape(HEIGHT, -1))),
            chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(2**27))),
        ),
        (COLOR, 0, "."),
    ),
    "png_text_bomb": (
        lambda: png(
            WIDTH,
            HEIGHT,
            8,
            2,
            zlib.compress(rows(COLOR.reshape(HEIGHT, -1))),
            *[chunk(b"zTXt", b"p\0\0" + zlib.compress(bytes(2**24)))] * 20,
        ),
        (COLOR, 0, "."),
    ),
    # ---- the others
    "gif": (lambda: saved(palette(), "GIF"), exact(np.asarray(palette().convert("RGB")))),
    "gif_animated": (lambda: frames("GIF"), near()),
    "gif_transparent": (
        lambda: saved(palette(), "GIF", transparency=0),
        exact(np.where(np.asarray(palette())[..., None] == 0, 255, np.asarray(palette().convert("RGB")))),
    ),
    "gif_truncated": (lambda: saved(palette(), "GIF")[:-20], "."),
    "webp": (lambda: saved(COLOR, "WEBP", quality=95), near()),
    "webp_lossless": (lambda: saved(COLOR, "WEBP", lossless=True), exact()),
    "webp_animated": (lambda: frames("WEBP", lossless=True), exact()),
    "webp_truncated": (lambda: saved(COLOR, "WEBP")[:-30], "."),
    "bmp": (lambda: saved(COLOR, "BMP"), exact()),
    "bmp_1_bit": (lambda: saved(Image.fromarray(BITS.astype(bool)), "BMP"), exact(grey(BITS * 255))),
    "bmp_top_down": (lambda: bmp_of_height(-HEIGHT), exact(COLOR[::-1])),
    "bmp_too_high": (lambda: bmp_of_height(HEIGHT * 50), "."),
    "tiff": (lambda: saved(COLOR, "TIFF"), exact()),
    "tiff_lzw": (lambda: saved(COLOR, "TIFF", compression="tiff_lzw"), exact()),
    "tiff_deflate": (lambda: saved(COLOR, "TIFF", compression="tiff_adobe_deflate"), exact()),
    "tiff_of_pages": (lambda: frames("TIFF"), exact()),
    "tiff_float": (lambda: saved(GREY.astype(np.float32) / 255, "TIFF"), exact(grey())),
    "tiff_16_bit": (lambda: saved(DEEP, "TIFF"), exact(grey(DEEP8))),
    "tiff_cmyk": (lambda: saved(Image.fromarray(COLOR).convert("CMYK"), "TIFF"), exact()),
    "tiff_pages_in_a_loop": (tiff_loop, exact()),
    "tiff_truncated": (lambda: saved(COLOR, "TIFF", compression="tiff_lzw")[:200], "."),
    "ppm": (lambda: saved(COLOR, "PPM"), exact()),
    "pgm_16_bit": (lambda: b"P5 24 16 65535\n" + DEEP.astype(">u2").tobytes(), exact(grey(DEEP8))),
    "pbm": (lambda: saved(Image.fromarray(BITS.astype(bool)), "PPM"), exact(grey(BITS * 255))),
    # ---- what is not an image at all
    "empty": (lambda: b"", "an empty file"),
    "zeros": (lambda: bytes(4096), NOT),
    "html": (lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>", NOT),
    "text": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", NOT),
    "error_of_a_store": (lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", NOT),
    "heic_head_only": (lambda: b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf", "HEIC|" + NOT),
    "jxl_head_only": (lambda: b"\xff\n\x03\x07\0\x13\x88\x02\0\xc0\0\xb5\x9f ", "."),
    "jxl_without_size": (lambda: b"\xff\n\x03", "."),
    "dicom_that_is_none": (lambda: bytes(128) + b"DICM" + bytes(50), "DICOM"),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', NOT),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch x)(w)file\n", NOT),
    "pdf": (lambda: saved(COLOR, "PDF"), NOT),
    "icon": (lambda: saved(Image.fromarray(COLOR), "ICO"), NOT),
    "tga_has_no_signature": (lambda: saved(COLOR, "TGA"), NOT),
    "zip": (archive, NOT),
    "pickle": (lambda: pickle.dumps(Planted("run-by-a-pickle")), NOT),
    "npy_of_objects": (lambda: _npy_of_objects(), "npy"),
    "npy_of_no_image": (lambda: _npy(np.zeros((2, 3, 4, 5))), "not an image"),
    "npy_cut_short": (lambda: _npy(COLOR)[:-9], "npy"),
    "npy": (lambda: _npy(COLOR), exact()),
}
if features.check("avif"):
    KINDS["avif"] = (lambda: saved(COLOR, "AVIF", quality=95), near())
    KINDS["avif_truncated"] = (lambda: saved(COLOR, "AVIF")[:-20], ".")
if features.check("jpg_2000"):
    KINDS["jpeg2000"] = (lambda: saved(COLOR, "JPEG2000"), exact())
    KINDS["jpeg2000_truncated"] = (lambda: saved(COLOR, "JPEG2000")[:80], ".")


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _npy_of_objects() -> bytes:
    return _npy(np.array([Planted("run-by-a-pickle")], object))


def sound() -> list[bytes]:
    """The files that are right, of every format: what a fuzzer starts from."""
    return [make() for make, expected in KINDS.values() if isinstance(expected, tuple)]
