"""Several processes train one stage: each takes its part of every mini-batch, and after each step all have the same network.

torch's own launcher starts them: the rule's script becomes the launcher, which runs that very script once for each
device. Gradients are added up over the processes (nccl between GPUs, gloo between CPUs), with each picture weighing what
it weighs in the whole batch. What a network computes of a batch rather than of a picture is computed of the whole batch
too: BatchNorm's statistics are added up, and dropout draws the numbers of all pictures and keeps those of its own. So n
processes train as one does, up to the order in which floating-point numbers are added.
"""

import contextlib
import functools
import os
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from eightfold.core import shards
from eightfold.core.devices import Device, devices_for_ranks
from eightfold.core.files import UserError
from eightfold.core.runtime import is_rank, log, rank
from eightfold.net import nets

WAIT = timedelta(minutes=30)  # for the slowest process: it may have to read the pixels of a network file system first


class Ranks:
    """This process among those that train together: number ``rank`` of ``count``. Alone, nothing here does anything."""

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count
        self.batch: int | None = None  # pictures in the whole mini-batch that a step is at work on

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes the files."""
        return self.rank == 0

    def part(self, size: int) -> slice:
        """Which of ``size`` pictures are this process's; none, where there are fewer than processes."""
        return slice(size * self.rank // self.count, size * (self.rank + 1) // self.count)

    @contextlib.contextmanager
    def step_on(self, batch: int) -> Iterator[None]:
        """Within the block BatchNorm and dropout see ``batch`` pictures, of which this process computes its part."""
        self.batch = batch
        try:
            yield
        finally:
            self.batch = None

    def add_up(self, loss: float, parameters: list[nn.Parameter]) -> float:
        """The sum over processes of a part's loss, and in place of their gradients."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.count == 1 or not gradients:
            return loss
        flat = torch.cat([g.flatten() for g in gradients] + [gradients[0].new_tensor([loss])])
        dist.all_reduce(flat)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()
        return flat[-1].item()

    def any(self, asked: bool, device: Device) -> bool:
        """Whether it is so in one of the processes: all stop at the same step, though their signals come apart."""
        if self.count == 1:
            return asked
        flag = torch.tensor(float(asked), device=device.device)
        dist.all_reduce(flag)
        return flag.item() > 0

    def together(self, function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
        """``function`` of rows, each process doing a part; cut at multiples of a batch, so the bytes are those of one."""
        if self.count == 1:
            return function(rows)
        first, last = shards.borders(len(rows), self.rank + 1, self.count)
        parts: list[np.ndarray] = [None] * self.count
        dist.all_gather_object(parts, function(rows[first:last]))
        return np.concatenate([part for part in parts if len(part)])


def launch(count: int, nodes: int, threads: int, kind: str) -> None:
    """Become torch's launcher of ``count`` processes that run this script; return at once in those, and where it is one.

    nodes: of a SLURM job that this is the first node of, each with its share of the processes. threads: of all processes
    on a node together. Raises UserError where there are fewer devices than processes.
    """
    if count == 1 or is_rank():
        return
    if count % nodes:
        raise UserError(f"gpus: {count} processes do not divide among {nodes} nodes")
    here = count // nodes
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads // here))
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(here)]
    if nodes == 1:
        devices_for_ranks(kind, here)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
        words += ["--standalone", "--local-addr", "127.0.0.1"]
    else:
        # The devices of a job of several nodes are SLURM's to give out. All nodes meet at a port of this one.
        job, port = os.environ["SLURM_JOB_ID"], 20000 + int(os.environ["SLURM_JOB_ID"]) % 20000
        each = ["--overlap", "--kill-on-bad-exit=1", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
        words = ["srun", *each, f"--cpus-per-task={threads}", *words, "--nnodes", str(nodes), "--rdzv-id", job]
        words += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{_own_name()}:{port}"]
    log.info("%d processes on %d node%s: %s", count, nodes, "s" * (nodes > 1), " ".join(words[: words.index("-m") + 2]))
    os.execvp(words[0], [*words, sys.argv[0]])


def _own_name() -> str:
    """The name by which other nodes reach this one; where nobody resolves it there are no others but on this machine."""
    try:
        socket.getaddrinfo(socket.gethostname(), None)
        return socket.gethostname()
    except OSError:
        return "127.0.0.1"


@contextlib.contextmanager
def joined(device: Device) -> Iterator[Ranks]:
    """The processes that `launch` started, once all are there; one alone otherwise."""
    if not is_rank():
        yield Ranks()
        return
    dist.init_process_group("nccl" if device.device.type == "cuda" else "gloo", timeout=WAIT)
    try:
        ranks = Ranks(rank(), dist.get_world_size())
        log.info("%d processes, by %s", ranks.count, dist.get_backend())
        yield ranks
    finally:
        dist.destroy_process_group()


def of_whole_batch(net: nn.Module, ranks: Ranks) -> None:
    """Make the layers that mix or draw over a batch do so over the whole batch of all processes, in place.

    Inside of `Ranks.step_on`, that is: elsewhere (validation, statistics measured anew) they are what they were.
    torch's SyncBatchNorm would do for GPUs; it refuses CPUs, and dropout would still differ. Raises UserError for a network
    with other layers of these kinds (timm has some): they would quietly see a part of the batch alone.
    """
    if ranks.count == 1:
        return
    for module in net.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            module.forward = functools.partial(_batchnorm, module, ranks)
        elif isinstance(module, nn.Dropout):
            module.forward = functools.partial(_dropout, module, ranks)
        elif type(module).__name__ == "StochasticDepth":  # torchvision's; to import it costs a second
            module.forward = functools.partial(_stochastic_depth, module, ranks)
        elif isinstance(module, nets.BATCH_NORMS) or "Drop" in type(module).__name__:
            raise UserError(
                f"gpus: {ranks.count}: {type(module).__name__} of this network cannot be divided; set gpus: 1"
            )


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


def _batchnorm(layer: nn.BatchNorm1d | nn.BatchNorm2d, ranks: Ranks, x: torch.Tensor) -> torch.Tensor:
    """BatchNorm of this process's rows (n, c, ...) by the mean and variance of the rows of all."""
    if ranks.batch is None or not layer.training:
        return type(layer).forward(layer, x)
    with torch.autocast(x.device.type, enabled=False):
        kind, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))  # sums of half precision would lose it
        dims, shape = [0, *range(2, x.dim())], [1, -1] + [1] * (x.dim() - 2)
        count = ranks.batch * x.shape[2:].numel()
        mean = _Sum.apply(x.sum(dims)) / count  # (c,)
        x = x - mean.view(shape)
        variance = _Sum.apply(x.square().sum(dims)) / count  # (c,)
        if layer.track_running_stats:
            with torch.no_grad():
                layer.num_batches_tracked += 1
                layer.running_mean.lerp_(mean, layer.momentum)
                layer.running_var.lerp_(variance * (count / (count - 1)), layer.momentum)
        x = x * (variance + layer.eps).rsqrt().view(shape)
        if layer.affine:
            x = x * layer.weight.view(shape) + layer.bias.view(shape)
        return x.to(kind)


def _kept(ranks: Ranks, x: torch.Tensor, shape: tuple[int, ...], probability: float) -> torch.Tensor:
    """Noise of ``shape`` a row, 0 or 1 / probability, for the rows of this process: drawn for those of the whole batch."""
    noise = torch.empty((ranks.batch, *shape), dtype=x.dtype, device=x.device).bernoulli_(probability)
    return noise[ranks.part(ranks.batch)].div_(probability)


def _dropout(layer: nn.Dropout, ranks: Ranks, x: torch.Tensor) -> torch.Tensor:
    if ranks.batch is None or not layer.training or not 0 < layer.p < 1:
        return type(layer).forward(layer, x)
    return x * _kept(ranks, x, tuple(x.shape[1:]), 1 - layer.p)


def _stochastic_depth(layer: nn.Module, ranks: Ranks, x: torch.Tensor) -> torch.Tensor:
    if ranks.batch is None or not layer.training or not 0 < layer.p < 1 or layer.mode != "row":
        return type(layer).forward(layer, x)
    return x * _kept(ranks, x, (1,) * (x.dim() - 1), 1 - layer.p)
