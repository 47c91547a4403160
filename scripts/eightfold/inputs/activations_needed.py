"""Which activations a rule is asked for, which of them lie in files already, and what computes the rest.

Apart from `activations`, which all that trains imports: an edit here trains nothing again.
"""

import contextlib
import os
import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from eightfold.core import shards
from eightfold.core.devices import device
from eightfold.core.files import UserError, checked, read_json
from eightfold.core.runtime import counted, log
from eightfold.core.tensors import Pieces
from eightfold.inputs import activations, dataset
from eightfold.inputs.pixels import Pixels
from eightfold.inputs.sources import Views
from eightfold.net import checkpoint_parts, trunks


def choose_rows(which: str, table: pd.DataFrame, folds: str | os.PathLike | None, fold: str | None) -> np.ndarray:
    """Rows of the manifest, int64: ``which`` is a value of `Plan.activations_settings`.

    labelled, trainable (labelled, and no fold of their own to validate), readable (labelled, or to be predicted and sound);
    or train, valid: of a ``fold`` of the table ``folds``.
    """
    if which in ("train", "valid"):
        return dataset.train_valid_rows(dataset.read_folds(folds), fold)[which == "valid"]
    labelled, sound = table["split"] != "test", table["status"] == "ok"
    kept = {"labelled": labelled, "trainable": table["split"] == "train", "readable": labelled | sound}[which]
    return table.index[kept].to_numpy()


def read_earlier(
    output: str | os.PathLike, wanted: Container[int], identity: str, precision: str
) -> dict[int, torch.Tensor]:
    """View: float32 (rows, width), for the views of ``wanted`` that lie in files beside ``output`` already.

    They are named as it is but for the range of views (views_1-3), and carry its ``identity``, which the range is no part of:
    a view computed for a run of more or fewer epochs is as good. Files of another identity, or that a node of another number
    format computed, are left alone, and the log says so.
    """
    output, found = Path(output), {}
    for path in sorted(output.parent.glob(re.sub(r"\d+-\d+", "*", output.name))):
        try:
            _, earlier = activations.read(path, identity)
            computed_in = read_json(path.with_suffix(".json"))["precision"]
            if computed_in != precision:
                log.info("%s was computed in %s, not in %s; leaving it alone", path, computed_in, precision)
                continue
            found |= {view: values for view, values in earlier.items() if view in wanted}
        except (UserError, OSError):
            log.info("%s was made from something else; leaving it alone", path)
    return found


@contextlib.contextmanager
def compute_missing(given, settings: dict, rows: np.ndarray, views: Sequence[int]) -> Iterator[dict[int, Pieces]]:
    """View: activations of ``rows``, computed on the rule's device when they are written, which has to be within the block.

    ``given`` are the rule's named inputs, ``settings`` its settings. Without views no device is taken.
    """
    if not views:
        yield {}
        return
    weights, batches = read_json(given.weights_identity), len(views) * -(-len(rows) // shards.BATCH)
    trunk = trunks.trunk_outline(weights["arch"])
    checkpoint_parts.load_part(trunk, checked(given.trunk, read_json(given.trunk_identity)), "trunk")
    # The plain view has no settings of its own, but for a squished one.
    augmentation = settings.get("augmentation", {"preset": "none", "crop": settings.get("crop", "center")})
    pixels, size, seed = Pixels(Path(given.pixels).parent), settings["size"], settings.get("seed", 0)
    with device(**settings["device"]) as here, counted(batches, "activations", " batches") as on_progress:
        source = Views(pixels, size, augmentation, seed, weights["mean"], weights["std"], here)
        yield activations.compute(trunk, source, rows, views, here, on_progress)
