"""Activations: the frozen trunk's pooled output for every image and view, computed once and kept in files.

They go to the file as they come and are read where they lie in it: memory does not grow with the number of images.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from eightfold.core import tensors
from eightfold.core.devices import Device
from eightfold.core.files import UserError
from eightfold.core.tensors import Pieces
from eightfold.net import inference
from eightfold.net.trunks import Trunk


def compute(
    trunk: Trunk,
    source: Callable[[np.ndarray, int], torch.Tensor],
    rows: np.ndarray,
    views: Sequence[int],
    device: Device,
    on_progress: Callable[[], object] = lambda: None,
) -> dict[int, Pieces]:
    """View: float32 (rows, width), computed batch by batch when it is written. ``on_progress`` is called after each."""
    trunk = trunk.to(device.device, memory_format=torch.channels_last).eval()
    shape = (len(rows), trunk.width)
    return {
        view: Pieces(torch.float32, shape, inference.batches(trunk, source, rows, view, device, on_progress))
        for view in views
    }


def write(path: str | os.PathLike, rows: np.ndarray, views: Mapping[int, torch.Tensor | Pieces], identity: str) -> None:
    """Write the activations of some views of the same rows, with the identity of what made them."""
    named = {f"view{view}": values for view, values in views.items()}
    tensors.save(path, {"rows": torch.from_numpy(rows.astype(np.int64)), **named}, identity)


def read(path: str | os.PathLike, identity: str | None = None) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    """Rows int64 (n,), and by view float32 (n, width). Raises UserError for a damaged or alien file."""
    found = tensors.load(path, identity)
    return found.pop("rows"), {int(name.removeprefix("view")): values for name, values in found.items()}


def join(paths: Sequence[str | os.PathLike], rows: np.ndarray, identity: str) -> dict[int, Pieces]:
    """View: activations of ``rows``, from files that hold consecutive parts of them."""
    parts = [read(path, identity) for path in paths]
    if torch.cat([part for part, _ in parts]).tolist() != rows.tolist():
        raise UserError(f"{Path(paths[0]).parent}: the parts are not those of these images; delete it and run again")
    return {
        view: Pieces(first.dtype, (len(rows), first.shape[1]), [values[view] for _, values in parts])
        for view, first in parts[0][1].items()
    }
