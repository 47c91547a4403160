"""The demo's data: scikit-learn's 1,797 handwritten digits, laid out like a Kaggle competition."""

import csv
import io
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from eightfold.core.files import write_text
from eightfold.inputs.stratify import stratified

PX = 32  # side of the images; the digits are 8 x 8
HELD_BACK = 5  # one in this many is a test image
SEED = 0


def write_demo(root: str | os.PathLike) -> None:
    """Write {train,test}/*.png, labels.csv and sample_submission.csv below ``root``, same bytes every time.

    The labels of the test images go to held_back.csv BESIDE root, where the pipeline does not look.
    """
    from sklearn.datasets import load_digits  # 1 s, and only the demo needs it

    root = Path(root)
    digits = load_digits()
    names = [f"digit_{number:04d}" for number in range(len(digits.target))]
    labels = [str(label) for label in digits.target]
    test = stratified(labels, HELD_BACK, SEED) == 0
    temporary = root.with_name(f".{root.name}.{os.getpid()}.tmp")
    try:
        for split, chosen in (("train", ~test), ("test", test)):
            (temporary / split).mkdir(parents=True)
            for row in np.flatnonzero(chosen):
                draw_digit(digits.images[row]).save(temporary / split / f"{names[row]}.png")
        known = [[names[row], labels[row]] for row in np.flatnonzero(~test)]
        held_back = [[names[row], labels[row]] for row in np.flatnonzero(test)]
        classes = sorted(set(labels))
        uniform = [[name, *[1 / len(classes)] * len(classes)] for name, _ in held_back]
        write_text(temporary / "labels.csv", table([["id", "label"], *known]))
        write_text(temporary / "sample_submission.csv", table([["id", *classes], *uniform]))
        write_text(root.with_name("held_back.csv"), table([["id", "label"], *held_back]))
        shutil.rmtree(root, ignore_errors=True)
        temporary.rename(root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def draw_digit(digit: np.ndarray) -> Image.Image:
    """Intensities 0..16 (8, 8) -> 8-bit grey (PX, PX), smoothly enlarged."""
    grey = Image.fromarray(np.rint(digit * (255 / 16)).astype(np.uint8))
    return grey.resize((PX, PX), Image.Resampling.BICUBIC)


def table(rows: list[list]) -> str:
    """Rows as CSV text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
