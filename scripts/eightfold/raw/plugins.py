"""Formats that Pillow reads by a plugin, where one is installed (HEIC by pillow-heif, JPEG XL by pillow-jxl-plugin), and what
a file is that is not an image in any format."""

import contextlib
import functools
import importlib
import re

from PIL import Image

_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # of width to height, as JPEG XL numbers them


@functools.cache
def register() -> None:
    """Make the formats of the plugins that are installed known to Pillow."""
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_jxl")


def describe(content: bytes) -> str:
    """What a file is that nothing here reads, and what to do; "" where it is not known."""
    if content[4:8] == b"ftyp" and content[8:12] in _HEIC and "HEIF" not in Image.OPEN:
        return "a HEIC image, which needs the package pillow-heif: .venv/bin/python -m pip install pillow-heif"
    if is_jxl(content) and "JXL" not in Image.OPEN:
        return "a JPEG XL image, which needs a package: .venv/bin/python -m pip install pillow-jxl-plugin"
    if content.startswith(b"version https://git-lfs"):
        return "not an image but a git-LFS pointer to one: fetch the files by git lfs pull"
    if re.match(
        rb"\s*(<!doctype html|<html|(<\?xml[^>]*>\s*)?<error)", content[:1000].lstrip(b"\xef\xbb\xbf"), re.IGNORECASE
    ):
        return "not an image but a saved web page, of an error or a sign-in: download it again"
    return ""


def is_jxl(content: bytes) -> bool:
    """Whether the bytes begin as a JPEG XL file does."""
    return content.startswith(_JXL)


def jxl_size(content: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels that a JPEG XL file declares; None for any other file, and a damaged one.

    Its plugin decodes all pixels as soon as it opens a file, so that this must be asked before.
    """
    stream = _jxl_codestream(content)
    if stream is None or len(stream) < 12:
        return None
    bits, at = int.from_bytes(stream[2:12], "little"), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (at - count) & ((1 << count) - 1)

    small = read(1)

    def side() -> int:
        return 8 * (read(5) + 1) if small else read((9, 13, 18, 30)[read(2)]) + 1

    height, ratio = side(), read(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _jxl_codestream(content: bytes) -> bytes | None:
    """The start of the codestream, bare or in the boxes of a container."""
    if content.startswith(_JXL[0]):
        return content[:64]
    at = 0
    while content.startswith(_JXL[1]) and at + 16 <= len(content):
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        head = 8
        if size == 1:
            size, head = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + (4 if kind == b"jxlp" else 0)  # a part begins with its number
            return content[start : start + 64]
        if size < head:
            return None
        at += size
    return None
