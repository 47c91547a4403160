"""Activations: the frozen trunk's pooled output for every image and view, computed once and kept in files."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from eightfold import inference, tensors
from eightfold.devices import Device
from eightfold.files import UserError
from eightfold.nets import Trunk
from eightfold.runtime import counted
from eightfold.shards import BATCH


def compute(
    trunk: Trunk,
    source: Callable[[np.ndarray, int], torch.Tensor],
    rows: np.ndarray,
    views: Sequence[int],
    device: Device,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (view, float32 (rows, 2 * features)) for each view, in order."""
    trunk = trunk.to(device.device, memory_format=torch.channels_last).eval()
    batches = len(views) * -(-len(rows) // BATCH)
    with counted(batches, "activations", " batches") as told:
        for view in views:
            yield view, inference.outputs(trunk, source, rows, view, device, 2 * trunk.features, told)


def write(path: str | os.PathLike, rows: np.ndarray, views: dict[int, torch.Tensor], identity: str) -> None:
    """Write the activations of some views of the same rows, with the identity of what made them."""
    named = {f"view{view}": values for view, values in views.items()}
    tensors.save(path, {"rows": torch.from_numpy(rows.astype(np.int64)), **named}, identity)


def read(path: str | os.PathLike, identity: str | None = None) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """View: (rows int64 (n,), activations float32 (n, 2 * features)). Raises UserError for a damaged or alien file."""
    found = tensors.load(path, identity)
    rows = found.pop("rows")
    return {int(name.removeprefix("view")): (rows, values) for name, values in found.items()}


def join(paths: Sequence[str | os.PathLike], rows: np.ndarray, identity: str) -> dict[int, torch.Tensor]:
    """View: activations of ``rows``, from files that hold consecutive parts of them."""
    parts = [read(path, identity) for path in paths]
    for view in parts[0]:
        if torch.cat([part[view][0] for part in parts]).tolist() != rows.tolist():
            raise UserError(
                f"{Path(paths[0]).parent}: the parts are not those of these images; delete it and run again"
            )
    return {view: torch.cat([part[view][1] for part in parts]) for view in parts[0]}
