"""Forward passes without gradients, in batches that shrink where memory is short."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from eightfold import nets
from eightfold.devices import Device, out_of_memory
from eightfold.runtime import log
from eightfold.shards import BATCH


def outputs(
    module: nn.Module,
    source: Callable[[np.ndarray, int], torch.Tensor],
    rows: np.ndarray,
    view: int,
    device: Device,
    width: int = 0,
    told: Callable[[], object] = lambda: None,
) -> torch.Tensor:
    """A module's outputs for a view of some rows: float32 (rows, width) on the CPU. ``told`` is called after each batch.

    The module must be on the device and in eval mode; ``width`` need only be told where there may be no rows. Out of device memory, the batch is halved, and the log says so.
    """
    module = nets.folded(module)
    parts, start, size = [torch.empty(0, width)], 0, BATCH
    with torch.inference_mode(), device.autocast():
        while start < len(rows):
            try:
                inputs = source(rows[start : start + size], view)
                if inputs.dim() == 4:
                    inputs = inputs.contiguous(memory_format=torch.channels_last)
                parts.append(module(inputs).float().cpu())
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not out_of_memory(error):
                    raise
                size //= 2
                log.info("out of device memory: going on with batches of %d", size)
                continue
            start += size
            told()
    return torch.cat(parts[1:] or parts)
