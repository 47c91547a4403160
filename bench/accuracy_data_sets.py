"""The data sets of accuracy.py: the config that each is answered with, and its files laid out so that no method sees the test labels."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from measure import ROOT, Skipped

from eightfold.core.files import UserError, write_text
from eightfold.raw import demo, solar

SHARED = ROOT.parent / "shared"
DATA_FOLDER = Path(os.environ.get("EIGHTFOLD_BENCH_DATA", SHARED / "data" / "ants_bees"))
DATA_WEIGHTS = Path(os.environ.get("EIGHTFOLD_BENCH_WEIGHTS", SHARED / "weights" / "mobilenet_v2.pth"))


class LaidOut(NamedTuple):
    """A job on disk: root has train/, test/, labels.csv and sample_submission.csv; held_back.csv has the test labels."""

    root: Path
    held_back: Path
    suffix: str
    weights: str  # a path, or none


@dataclass(frozen=True)
class Data:
    """A data set: the config it is answered with, and what a fastai user would ask for.

    fastai: px of the images, epochs of all layers (after one of the head alone), and the rate; flip_vert: seen from above.
    """

    title: str
    config: str
    lay_out: Callable[[Path], LaidOut]
    size: int
    epochs: int
    flip_vert: bool = False
    flip: bool = True
    lr: float = 2e-3


def lay_out_digits(folder: Path) -> LaidOut:
    """scikit-learn's digits, as the demo has them."""
    demo.write_demo(folder / "job")
    return LaidOut(folder / "job", folder / "held_back.csv", ".png", "none")


def lay_out_ants_bees(folder: Path) -> LaidOut:
    """The ants and bees below DATA_FOLDER: train/ with labels, valid/ as what is to be predicted."""
    if not DATA_FOLDER.is_dir() or not DATA_WEIGHTS.is_file():
        raise Skipped(
            f"{DATA_FOLDER} or {DATA_WEIGHTS} is not there; EIGHTFOLD_BENCH_DATA names a folder with train/<class>/ and "
            "valid/<class>/, EIGHTFOLD_BENCH_WEIGHTS torchvision's file of MobileNetV2"
        )
    root, listed = folder / "job", {}
    for split, source in (("train", "train"), ("test", "valid")):
        (root / split).mkdir(parents=True)
        listed[split] = []
        for path in sorted((DATA_FOLDER / source).glob("*/*")):
            name = f"{path.parent.name}_{path.name}"
            # The name of a test image must not say its class.
            name = f"{len(listed[split]):04d}{path.suffix}" if split == "test" else name
            shutil.copyfile(path, root / split / name)
            listed[split].append([name, path.parent.name])
    classes = sorted({label for _, label in listed["train"]})
    uniform = [[name, *[1 / len(classes)] * len(classes)] for name, _ in listed["test"]]
    write_text(root / "labels.csv", demo.table([["id", "label"], *listed["train"]]))
    write_text(root / "sample_submission.csv", demo.table([["id", *classes], *uniform]))
    write_text(folder / "held_back.csv", demo.table([["id", "label"], *listed["test"]]))
    return LaidOut(root, folder / "held_back.csv", "", str(DATA_WEIGHTS))


def lay_out_solar(folder: Path) -> LaidOut:
    """The solar cells, out of the two packages of `make solar`."""
    try:
        solar.lay_out(folder)
    except UserError as error:
        raise Skipped(str(error)) from None
    return LaidOut(folder / "job", folder / "held_back.csv", ".png", str(folder / "tf_efficientnet_lite0.safetensors"))


DATA = {
    "digits": Data("digits, 32 px, random weights", "config.yaml", lay_out_digits, 32, 6, flip=False),
    "ants_bees": Data("ants and bees, MobileNetV2", "examples/ants_bees.yaml", lay_out_ants_bees, 224, 4),
    "solar": Data("solar cells, lite0", "examples/solar_cells.yaml", lay_out_solar, 224, 6, flip_vert=True),
}
