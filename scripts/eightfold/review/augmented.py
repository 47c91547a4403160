"""A few labelled images as they are and as training sees them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from eightfold.core.devices import Device
from eightfold.inputs import views
from eightfold.inputs.pixels import Pixels
from eightfold.inputs.sources import Views
from eightfold.review.sheets import GREEN, GREY, sheet_svg
from eightfold.review.telling_images import random_rows


def rows_to_show(table: pd.DataFrame, number: int, seed: int) -> np.ndarray:
    """``number`` rows of the manifest at most, of labelled images that can be read; the same for the same seed."""
    labelled = table.index[(table["split"] != "test") & (table["status"] == "ok")].to_numpy()
    return random_rows(labelled, number, seed)


def source_of(pixels: Pixels, settings: Mapping) -> Views:
    """Views whose values are those of pixels, 0-255, on the CPU. settings: size (px), augmentation, seed."""
    cpu = Device(torch.device("cpu"), torch.float32)
    # A mean of 0 and a deviation of 1/255 leave the pixels as they are.
    scale = (0,) * 3, (1 / 255,) * 3
    return Views(pixels, settings["size"], settings["augmentation"], settings["seed"], *scale, cpu)


def sheet_of(
    source: Callable[[np.ndarray, int], torch.Tensor], rows: np.ndarray, ids: Sequence[str], random: int, preset: str
) -> str:
    """A sheet as SVG text: a line for each row, the plain view first, then ``random`` others. ids: of the rows."""
    numbers = range(random + 1)
    shown = [source(rows, view).clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8) for view in numbers]
    order = [(row, view) for row in range(len(rows)) for view in numbers]
    return sheet_svg(
        [shown[view][row] for row, view in order],
        [f"view {view}" if view != views.PLAIN else f"plain\n{ids[row]}" for row, view in order],
        columns=len(numbers),
        title=f"As they are (green) and as training sees them: {preset}",
        colors=[GREY if view != views.PLAIN else GREEN for _, view in order],
    )
