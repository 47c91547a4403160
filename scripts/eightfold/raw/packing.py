"""The pixels of a manifest's images: each read again, held to be the file that the manifest saw, decoded and resized."""

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from eightfold.core import software
from eightfold.core.files import UserError, digest
from eightfold.inputs import pixels
from eightfold.raw import images
from eightfold.raw.stores import Store


def read_images(
    store: Store, table: pd.DataFrame, short_side: int, threads: int, manifest: str | os.PathLike
) -> Iterator[np.ndarray]:
    """The images of rows of a manifest, in order: uint8 (height, width, 3), the smaller side at ``short_side`` px; 0 x 0
    for one that could not be read when the manifest was made. ``manifest``: its folder, for messages.

    Raises UserError for a file that has changed since, or can no longer be read.
    """
    items = zip(table["path"], table["status"], table["sha256"], strict=True)
    read = functools.partial(_read_image, store, short_side=short_side, manifest=manifest)
    return pixels.in_order(read, items, threads)


def _read_image(store: Store, item: tuple[str, str, str], short_side: int, manifest: str | os.PathLike) -> np.ndarray:
    path, status, sha256 = item
    if status != "ok":
        return np.empty((0, 0, 3), np.uint8)
    try:
        content = store.read(path)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(
                f"{Path(store.root, path)}: has changed since the manifest was made; delete {manifest} "
                "and run again, and see what writes there"
            )
        return pixels.resized(images.open_image(content, store.reading["range"], short_side), short_side)
    except (images.BadImage, OSError) as error:
        raise UserError(
            f"{Path(store.root, path)}: was readable when the manifest was made, and no longer is ({error})"
        ) from error


def describe_pack(index: np.ndarray, data: str, settings: dict) -> dict:
    """What pixels.json says of a packed folder: a digest of all that later rules depend on, and of its index.

    index: as `pixels.pack` gives it, whose checksums cover every pixel. data: the manifest's digest. settings: short_side, px.
    """
    content = digest([data, settings, index.tolist()])
    index_digest = pixels.index_digest(index)
    described = {"digest": content, "index": index_digest, "short_side": settings["short_side"], "images": len(index)}
    return described | {"versions": software.versions()}
