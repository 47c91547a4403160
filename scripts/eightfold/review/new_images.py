"""The sheet of new images: each with what it is answered, and how surely."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from eightfold.review.sheets import AMBER, GREY, sheet


def draw_answers(
    path: str | os.PathLike,
    folder: str | os.PathLike,
    images: Sequence[np.ndarray],
    answer: pd.DataFrame,
    files: int,
    sure: float,
) -> None:
    """Write a sheet of the first ``images``, uint8 (H, W, 3), of those that ``answer`` has, as `new_images.tabulate_answers`
    gives it, in its order. folder: where the ``files`` that were asked for lie. sure: the probability below which a frame is amber.
    """
    shown = list(answer.iloc[: len(images), :3].itertuples(index=False, name=None))  # path, prediction, probability
    title = f"{Path(folder).name}: the first {len(shown)} of {len(answer)} images; amber: less than {sure:.0%} sure"
    sheet(
        path,
        images,
        [f"{said or 'nothing'} {probability:.0%}\n{name}" for name, said, probability in shown],
        columns=6,
        title=title,
        colors=[AMBER if probability < sure else GREY for *_, probability in shown],
        empty=f"None of the {files} files could be read.",
    )
