"""What a network computes of a batch rather than of an image, where several processes have a part of the batch each.

BatchNorm's statistics are added up over the processes, and dropout draws the numbers of all images and keeps those of its
own. The layers stay as they are: while a step computes, a mode of torch (`torch.overrides.TorchFunctionMode`) answers the
functions that they call. torch's SyncBatchNorm would do for GPUs; it refuses CPUs, and dropout would still differ.
"""

import contextlib

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from eightfold.core.files import UserError
from eightfold.net import nets
from eightfold.train.distributed import Ranks


def refuse_layers_of_a_part(net: nn.Module, ranks: Ranks) -> None:
    """Raise UserError for a network with layers that would quietly see a part of the batch alone: timm has some."""
    if ranks.count == 1:
        return
    for module in net.modules():
        kind = type(module).__name__
        drops_rows = kind == "StochasticDepth" and module.mode == "row"  # torchvision's; importing it costs a second
        divided = type(module) in (nn.BatchNorm1d, nn.BatchNorm2d) or isinstance(module, nn.Dropout) or drops_rows
        mixes = isinstance(module, nets.BATCH_NORMS) or "Drop" in kind or kind == "StochasticDepth"
        if mixes and not divided:
            raise UserError(f"gpus: {ranks.count}: {kind} of this network cannot be divided; set gpus: 1")


def whole_batch(ranks: Ranks, batch: int) -> contextlib.AbstractContextManager:
    """Within the block BatchNorm and dropout in training mode see ``batch`` images, of which this process has its part."""
    return _WholeBatch(ranks, batch) if ranks.count > 1 else contextlib.nullcontext()


class _WholeBatch(TorchFunctionMode):
    """Answers the functions that `nn.BatchNorm1d`, `nn.BatchNorm2d`, `nn.Dropout` and torchvision's StochasticDepth call."""

    def __init__(self, ranks: Ranks, batch: int):
        super().__init__()
        self.batch, self.part = batch, ranks.part(batch)
        self.answers = {
            F.batch_norm: self._batch_norm,
            F.dropout: self._dropout,
            torch.Tensor.bernoulli_: self._bernoulli_,
        }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.answers.get(func, func)(*args, **(kwargs or {}))

    def _batch_norm(
        self, x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
    ) -> torch.Tensor:
        """`F.batch_norm` of this process's rows (n, c, ...) by the mean and variance of the rows of all."""
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        with torch.autocast(x.device.type, enabled=False):
            kind, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))  # sums of half precision would lose it
            dims, shape = [0, *range(2, x.dim())], [1, -1] + [1] * (x.dim() - 2)
            count = self.batch * x.shape[2:].numel()
            mean = _Sum.apply(x.sum(dims)) / count  # (c,)
            x = x - mean.view(shape)
            variance = _Sum.apply(x.square().sum(dims)) / count  # (c,)
            if running_mean is not None:
                with torch.no_grad():
                    running_mean.lerp_(mean, momentum)
                    running_var.lerp_(variance * (count / (count - 1)), momentum)
            x = x * (variance + eps).rsqrt().view(shape)
            if weight is not None:
                x = x * weight.view(shape) + bias.view(shape)
            return x.to(kind)

    def _dropout(self, x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        if not training or not 0 < p < 1:
            return F.dropout(x, p, training, inplace)
        return x * self._bernoulli_(torch.empty_like(x, memory_format=torch.contiguous_format), 1 - p).div_(1 - p)

    def _bernoulli_(self, noise: torch.Tensor, p: float) -> torch.Tensor:
        """Fill noise (n, ...) of this process's rows with 0 and 1, the latter with probability ``p``: drawn for all rows."""
        drawn = torch.empty((self.batch, *noise.shape[1:]), dtype=noise.dtype, device=noise.device).bernoulli_(p)
        return noise.copy_(drawn[self.part])


class _Sum(torch.autograd.Function):
    """The sum over processes. Each process's loss depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, x):
        x = x.contiguous().clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient
