"""Forward passes without gradients, in batches that shrink where memory is short."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from eightfold.core.devices import Device, out_of_memory
from eightfold.core.runtime import log
from eightfold.core.shards import BATCH
from eightfold.net import folding


def outputs(
    module: nn.Module,
    source: Callable[[np.ndarray, int], torch.Tensor],
    rows: np.ndarray,
    view: int,
    device: Device,
    width: int = 0,
    on_progress: Callable[[], object] = lambda: None,
) -> torch.Tensor:
    """A module's outputs for a view of some rows: float32 (rows, width) on the CPU; as `batches`, at once.

    ``width`` need only be given where there may be no rows.
    """
    found = list(batches(module, source, rows, view, device, on_progress))
    return torch.cat(found) if found else torch.empty(0, width)


def batches(
    module: nn.Module,
    source: Callable[[np.ndarray, int], torch.Tensor],
    rows: np.ndarray,
    view: int,
    device: Device,
    on_progress: Callable[[], object] = lambda: None,
) -> Iterator[torch.Tensor]:
    """Yield a module's outputs for a view of some rows, batch after batch: float32 (n, width) on the CPU.

    ``on_progress`` is called after each. The module must be on the device and in eval mode. Out of device memory, the batch
    is halved, and the log says so.
    """
    module = folding.folded(module)
    start, size = 0, BATCH
    while start < len(rows):
        try:
            # Left before each yield, so that these modes are nobody else's.
            with torch.inference_mode(), device.autocast():
                inputs = source(rows[start : start + size], view)
                if inputs.dim() == 4:
                    inputs = inputs.contiguous(memory_format=torch.channels_last)
                found = module(inputs).float().cpu()
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not out_of_memory(error):
                raise
            size //= 2
            log.info("out of device memory: going on with batches of %d", size)
            continue
        yield found
        start += size
        on_progress()
