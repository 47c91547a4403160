"""Packed pixels: every image decoded and resized once, then read by memory map.

A folder holds `pixels.u8`, the RGB bytes of all images one after another, `index.npy`, an int64 row (offset in
pixels, height, width, crc32) per row of the manifest, and `pixels.json`, its identity. Offsets count pixels, not
bytes, so that they index a (pixels, 3) array directly.
"""

import hashlib
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from eightfold.core.files import UserError, read_json, replacing

MAX_ASPECT = 8  # a longer strip is cropped to its middle: a 1 x 20,000 image would else fill gigabytes


class Batch(NamedTuple):
    """Some images laid end to end: flat (pixels, 3) uint8, and int64 offsets, heights and widths (images,)."""

    flat: np.ndarray
    offsets: np.ndarray
    heights: np.ndarray
    widths: np.ndarray


def resized(image: Image.Image, short_side: int) -> np.ndarray:
    """An upright RGB image with its smaller side at ``short_side`` px, aspect kept: uint8 (height, width, 3)."""
    width, height = image.size
    scale = short_side / min(width, height)
    box = None
    if max(width, height) > MAX_ASPECT * min(width, height):
        keep = MAX_ASPECT * min(width, height)
        left, top = max(0, width - keep) // 2, max(0, height - keep) // 2
        width, height = min(width, keep), min(height, keep)
        box = (left, top, left + width, top + height)
    target = max(short_side, round(width * scale)), max(short_side, round(height * scale))
    if target != image.size or box:
        image = image.resize(target, Image.Resampling.BILINEAR, box=box, reducing_gap=3.0 if scale < 1 else None)
    return np.asarray(image)


def in_order(work: Callable, items: Iterable, threads: int) -> Iterator:
    """``map`` over threads that keeps the order and never holds more than a few results, so memory stays flat."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def pack(folder: str | os.PathLike, images: Iterable[np.ndarray]) -> np.ndarray:
    """Write `pixels.u8` and `index.npy` from uint8 images (height, width, 3); a 0 x 0 image stands for none.

    Returns the index, whose checksums cover every pixel.
    """
    folder = Path(folder)
    rows, offset = [], 0
    with replacing(folder / "pixels.u8") as path, open(path, "wb") as file:
        for image in images:
            height, width = image.shape[:2]
            data = np.ascontiguousarray(image)
            rows.append((offset, height, width, zlib.crc32(data)))
            file.write(data)
            offset += height * width
    index = np.asarray(rows, dtype=np.int64).reshape(-1, 4)
    with replacing(folder / "index.npy") as path, open(path, "wb") as file:
        np.save(file, index, allow_pickle=False)
    return index


def join(folder: str | os.PathLike, parts: Sequence[str | os.PathLike]) -> np.ndarray:
    """Write the packed folder that ``pack`` would have written from the images of all ``parts``. Returns the index."""
    folder, rows, offset = Path(folder), [np.empty((0, 4), np.int64)], 0
    with replacing(folder / "pixels.u8") as path, open(path, "wb") as file:
        for part in map(Pixels, parts):
            with open(part.folder / "pixels.u8", "rb") as packed:
                shutil.copyfileobj(packed, file, 1 << 24)
            rows.append(part.index + np.array([offset, 0, 0, 0]))
            offset += len(part.flat)
    index = np.concatenate(rows)
    with replacing(folder / "index.npy") as path, open(path, "wb") as file:
        np.save(file, index, allow_pickle=False)
    return index


def index_digest(index: np.ndarray) -> str:
    """Digest of an index, and by its checksums of all pixels: it stands in `pixels.json`."""
    return hashlib.blake2b(np.ascontiguousarray(index, np.int64), digest_size=16).hexdigest()


class Pixels:
    """A packed folder, read by memory map. ``pixels[row]`` is one image; ``pixels.batch(rows)`` many, end to end.

    Raises UserError for a folder that is not what its `pixels.json` says, where there is one.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        try:
            with open(self.folder / "index.npy", "rb") as file:
                self.index = np.lib.format.read_array(file, allow_pickle=False)
            size = (self.folder / "pixels.u8").stat().st_size
        except Exception as error:  # an .npy header is read as Python, and raises whatever that can raise
            raise UserError(
                f"{self.folder}: not a readable pixel cache ({error}); delete the folder and run again"
            ) from error
        record = self.folder / "pixels.json"
        if record.is_file() and read_json(record)["index"] != index_digest(self.index):
            raise UserError(
                f"{self.folder / 'index.npy'}: damaged, or not the index that pixels.json was written for; delete the "
                "folder and run again"
            )
        wanted = int((self.index[:, 1] * self.index[:, 2]).sum()) * 3
        if size != wanted:
            raise UserError(
                f"{self.folder / 'pixels.u8'}: {size} bytes where its index says {wanted}; delete the folder and run again"
            )
        # An empty file cannot be mapped, and none of its images will be asked for.
        self.flat = (
            np.memmap(self.folder / "pixels.u8", np.uint8, "r").reshape(-1, 3) if size else np.empty((0, 3), np.uint8)
        )

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, row: int) -> np.ndarray:
        """The image of a row of the manifest: uint8 (height, width, 3). Raises UserError when its checksum is wrong."""
        offset, height, width, checksum = self.index[row]
        data = np.asarray(self.flat[offset : offset + height * width])
        if zlib.crc32(data) != checksum:
            raise UserError(
                f"{self.folder / 'pixels.u8'}: the pixels of row {row} are damaged (checksum); delete the folder and run again"
            )
        return data.reshape(height, width, 3)

    def batch(self, rows: np.ndarray) -> Batch:
        """The images of ``rows``, copied end to end in that order."""
        flat = np.concatenate([self[row].reshape(-1, 3) for row in rows])
        heights, widths = self.index[rows, 1], self.index[rows, 2]
        offsets = np.concatenate([[0], np.cumsum(heights * widths)[:-1]])
        return Batch(flat, offsets, heights, widths)
