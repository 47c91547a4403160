"""How a row is measured: things to compare take turns, and every repetition gives a ratio of its own."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "torchvision", "numpy", "pandas", "pillow", "snakemake", "fastai")
CHILD = r'''
import json, sys, time
sys.path[:0] = {paths}
from eightfold.core.runtime import keep_freed_memory
keep_freed_memory()
{setup}
def megabytes(name):
    """VmRSS, now, or VmHWM, the peak: the one that getrusage tells is at least that of the process that started this one."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))
before, started = megabytes("VmRSS"), time.perf_counter()
{work}
seconds = time.perf_counter() - started
peak = megabytes("VmHWM")
print(json.dumps({{"seconds": seconds, "added_mb": max(1.0, peak - before), "peak_mb": peak}}))
'''


class Skipped(Exception):
    """Why a row cannot be measured here."""


@dataclass
class Found:
    """ratios: one per repetition. seconds: medians by name, of what was compared. note: what else there is to say."""

    ratios: Sequence[float]
    seconds: dict[str, float]
    note: str = ""

    @classmethod
    def of(cls, seconds: dict[str, list[float]], above: str, below: str, note: str = "") -> "Found":
        """The seconds of ``above`` over those of ``below``, repetition by repetition."""
        ratios = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
        return cls(ratios, {name: statistics.median(values) for name, values in seconds.items()}, note)

    def told(self) -> dict:
        return {
            "ratio": round(statistics.median(self.ratios), 4),
            "low": round(min(self.ratios), 4),
            "high": round(max(self.ratios), 4),
            "repetitions": len(self.ratios),
            "seconds": {name: round(value, 5) for name, value in self.seconds.items()},
            "note": self.note,
        }


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(works: dict[str, Callable[[], object]], repetitions: int, warm: bool = True) -> dict[str, list[float]]:
    """Seconds of each of ``works``, which take turns, first one first and then the other; a first call does not count.

    A work that returns a number tells its own seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repetition in range(-int(warm), repetitions):
        for name in list(works)[:: -1 if repetition % 2 else 1]:
            started = time.perf_counter()
            told = works[name]()
            took = told if isinstance(told, float) else time.perf_counter() - started
            if repetition >= 0:
                seconds[name].append(took)
    return seconds


def faster(
    ours: Callable[[], object], peer: Callable[[], object], repetitions: int = 5, warm: bool = True, note: str = ""
) -> Found:
    """How many times as fast ``ours`` is: the peer's seconds over ours."""
    return Found.of(in_turns({"ours": ours, "peer": peer}, repetitions, warm), "peer", "ours", note)


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent p of values ~ sizes ** p: 1 is linear, 0 is flat."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def child(work: str, setup: str = "", timeout: float = 1800) -> dict:
    """Run Python code in a process of its own: {"seconds", "added_mb", "peak_mb"}; ``setup`` is not timed."""
    if not os.path.exists("/proc/self/status"):
        raise Skipped("peak memory is read from /proc, which this system has not")
    code = CHILD.format(paths=[str(ROOT / "scripts"), str(ROOT / "bench")], setup=setup, work=work)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def command(*words: str, folder: Path, **environment: str) -> float:
    """Seconds of a command that must end well."""
    started = time.perf_counter()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {(done.stdout + done.stderr)[-2000:]}")
    return time.perf_counter() - started


def machine(threads: int) -> dict:
    """What the figures were measured on."""
    import torch

    model = platform.processor() or platform.machine()
    flags = ""
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
        flags = next((line for line in lines if line.startswith("flags")), "")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": threads,
        "bfloat16": any(name in flags for name in ("avx512_bf16", "amx_bf16")),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def name_of(found: dict) -> str:
    """The machine's name in its results file: processor, cores, GPU, in letters that suit a file."""
    words = f"{found['gpu'] or found['processor']} {found['cores']} cores"
    return "_".join("".join(c if c.isalnum() or c == "." else " " for c in words).lower().split())
