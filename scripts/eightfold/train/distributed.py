"""Several processes train one stage: each takes its part of every mini-batch, and after each step all have the same network.

torch's own launcher starts them: the rule's script becomes the launcher, which runs that very script once for each
device. Gradients are added up over the processes (nccl between GPUs, gloo between CPUs), with each image weighing what it
weighs in the whole batch. What a network computes of a batch rather than of an image is computed of the whole batch too
(`whole_batch`). So n processes train as one does, up to the order in which floating-point numbers are added.
"""

import contextlib
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

WAIT = timedelta(minutes=30)  # for the slowest process: it may have to read the pixels of a network file system first


class Ranks:
    """This process among those that train together: number ``rank`` of ``count``. Alone, nothing here does anything."""

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes the files."""
        return self.rank == 0

    def part(self, size: int) -> slice:
        """Which of ``size`` images are this process's; none, where there are fewer than processes."""
        return slice(size * self.rank // self.count, size * (self.rank + 1) // self.count)

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
