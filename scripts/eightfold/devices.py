"""Which device works, in which number format; one job a device."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from eightfold.files import UserError
from eightfold.runtime import log


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


def _computes_bfloat16(device: torch.device) -> bool:
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


@contextlib.contextmanager
def _free_cuda() -> Iterator[torch.device]:
    """A CUDA device that no other job of ours holds, by a file lock: it holds across Snakemakes and lost profiles."""
    waited = False
    while True:
        for index in range(torch.cuda.device_count()):
            name = str(torch.cuda.get_device_properties(index).uuid)
            with open(_lock_folder() / f"cuda-{name}.lock", "w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                torch.cuda.set_device(index)
                yield torch.device("cuda", index)
                return
        if not waited:
            log.info("every GPU is busy with another job; waiting for one")
            waited = True
        time.sleep(1)


@contextlib.contextmanager
def device(kind: str = "auto", precision: str = "auto") -> Iterator[Device]:
    """Hold a device for a job: CUDA if there, else MPS, else the CPU, unless ``kind`` says which.

    Raises UserError when the kind asked for is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if kind == "auto":
        kind = next(name for name, found in there.items() if found)
    if not there[kind]:
        raise UserError(
            f"device.kind: no {kind} device here; there is {', '.join(n for n, found in there.items() if found)}"
        )
    # Deterministic where torch can be; the rest (some CUDA backward passes) warns in the log instead of failing.
    torch.use_deterministic_algorithms(True, warn_only=kind != "cpu")
    torch.backends.cudnn.benchmark = False
    holder = _free_cuda() if kind == "cuda" else contextlib.nullcontext(torch.device(kind))
    with holder as found:
        native = _computes_bfloat16(found) if precision == "auto" else precision == "bfloat16"
        yield Device(found, torch.bfloat16 if native else torch.float32)
