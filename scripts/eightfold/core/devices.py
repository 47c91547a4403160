"""Which device works, in which number format; one job a device."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import torch

from eightfold.core.files import UserError
from eightfold.core.runtime import is_rank, log


class Device(NamedTuple):
    """A torch device and the type of its fast arithmetic (float32 or bfloat16)."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> contextlib.AbstractContextManager:
        """bfloat16 arithmetic where that is the device's fast format, otherwise nothing."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @property
    def precision(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device has no room left. Only CUDA has a type for that."""
    wordings = ("can't allocate memory", "not enough memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in wordings)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively; emulated, it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        flags = Path("/proc/cpuinfo")
        return flags.exists() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16"))
    return False


def _lock_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"eightfold-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def take(names: Sequence[str], count: int) -> dict[int, IO] | None:
    """The first ``count`` of some devices that no other job of ours holds, as {place among ``names``: its open lock}.

    All of them or, where fewer are free, none: two jobs of several devices never wait for each other. The locks are
    files of this machine, so they hold across Snakemakes and lost profiles; a lock ends with the process that holds it.
    """
    with contextlib.ExitStack() as giving_back:
        taken = {}
        for place, name in enumerate(names):
            file = giving_back.enter_context(open(_lock_folder() / f"cuda-{name}.lock", "w"))
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken[place] = file
            if len(taken) == count:
                giving_back.pop_all()
                return taken
    return None


def _take_cuda(count: int) -> dict[int, IO]:
    """Hold ``count`` CUDA devices, however long that takes."""
    names = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    if count > len(names):
        raise UserError(f"gpus: {count} wanted, {len(names)} here; on a cluster, does the profile claim as many?")
    waited = False
    while (taken := take(names, count)) is None:
        if not waited:
            log.info("the GPUs are busy with other jobs; waiting for %d", count)
            waited = True
        time.sleep(1)
    return taken


@contextlib.contextmanager
def _one_cuda() -> Iterator[torch.device]:
    """A CUDA device of this job alone; for one of several processes that do a job together, its own of the job's."""
    taken = {int(os.environ["LOCAL_RANK"]): contextlib.nullcontext()} if is_rank() else _take_cuda(1)
    with contextlib.ExitStack() as stack:
        (index,) = taken
        stack.enter_context(taken[index])
        torch.cuda.set_device(index)
        yield torch.device("cuda", index)


def devices_for_ranks(kind: str, count: int) -> None:
    """Take a CUDA device for each of ``count`` processes and show them, through the environment, no other.

    The locks stay with this process even when it becomes another program. Without CUDA the processes share the CPU.
    """
    if _kind(kind) != "cuda":
        return
    shown = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    taken = _take_cuda(count)
    for file in taken.values():
        os.set_inheritable(os.dup(file.fileno()), True)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(shown[index] if shown else str(index) for index in taken)


def _kind(kind: str) -> str:
    """Which kind of device works. Raises UserError when the one asked for is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if kind == "auto":
        kind = next(name for name, found in there.items() if found)
    if not there[kind]:
        raise UserError(
            f"device.kind: no {kind} device here; there is {', '.join(n for n, found in there.items() if found)}"
        )
    return kind


def precision_of(kind: str = "auto", precision: str = "auto") -> str:
    """The number format that `device` would work in here, without taking a device."""
    if precision != "auto":
        return precision
    return "bfloat16" if computes_bfloat16(torch.device(_kind(kind))) else "float32"


@contextlib.contextmanager
def device(kind: str = "auto", precision: str = "auto") -> Iterator[Device]:
    """Hold a device for a job: CUDA if there, else MPS, else the CPU, unless ``kind`` says which.

    Raises UserError when the kind asked for is not there.
    """
    kind = _kind(kind)
    # Deterministic where torch can be; the rest (some CUDA backward passes) warns in the log instead of failing.
    # By this name, since use_deterministic_algorithms imports torch's compiler: as long as importing torch itself.
    torch.set_deterministic_debug_mode("error" if kind == "cpu" else "warn")
    # Deterministic mode would fill all new memory, a seventh of a forward pass's time, in case something reads what it has
    # not written. Nothing does (tests/train/test_training.py).
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    holder = _one_cuda() if kind == "cuda" else contextlib.nullcontext(torch.device(kind))
    with holder as found:
        native = computes_bfloat16(found) if precision == "auto" else precision == "bfloat16"
        yield Device(found, torch.bfloat16 if native else torch.float32)
