"""Generated images: smooth shapes and noise, which a JPEG coder finds about as hard as photographs."""

from pathlib import Path

import numpy as np
from PIL import Image


def photo(number: int, width: int, height: int) -> Image.Image:
    """RGB; equal arguments, equal pixels."""
    random = np.random.default_rng([number, width, height])
    coarse = Image.fromarray(random.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return Image.fromarray(np.clip(smooth + random.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8))


def write_photos(folder: Path, number: int, width: int, height: int) -> list[Path]:
    """JPEG files of quality 90."""
    folder.mkdir(parents=True)
    paths = [folder / f"{i:05d}.jpg" for i in range(number)]
    for i, path in enumerate(paths):
        photo(i % 16, width, height).save(path, quality=90)
    return paths


def write_many(root: Path, number: int, classes: int = 10) -> None:
    """``number`` PNG files of 16 x 16 px in train/<class>/, a thousand of them different."""
    import io

    contents = []
    for i in range(min(number, 1000)):
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    for c in range(classes):
        (root / "train" / f"class{c}").mkdir(parents=True)
    for i in range(number):
        (root / "train" / f"class{i % classes}" / f"{i:06d}.png").write_bytes(contents[i % len(contents)])
