"""How fast this machine computes a network, timed on a few made-up images in some seconds: for a forecast without earlier runs.

A CPU is timed on one thread, by its seconds of work: threads that wait for each other spin, so on a busy machine the seconds of
two are anything up to ten times what they take alone, while those of one stay within a few percent (a Xeon, 15 processes on
2 cores). They are divided by what so many threads gain. A GPU is timed by the clock. The result is kept, so that a network and
a size are timed once.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from eightfold.core.devices import Device, device
from eightfold.core.files import UserError, digest, read_json, write_json
from eightfold.core.runtime import keep_freed_memory
from eightfold.inputs import views
from eightfold.net import heads, inference, nets, trunks
from eightfold.net.starting_weights import IMAGENET_MEAN, IMAGENET_STD
from eightfold.train.stepping import Stepper
from eightfold.upkeep.work import Work

PIXELS = 400_000  # of the batch that a CPU is timed on, 8 images of 224 px; of small images, and on a GPU of any, it is a whole batch
REPEATS, MOST_REPEATS, ENOUGH = 2, 20, 1.0  # the fastest counts; more than 2 for up to so many seconds
GAIN = 0.9  # n threads do n ** GAIN times the work of one: 1.9 for 2, 12 for 16. Stated, not measured
RATE = 1e-6  # of learning, which what is timed does not depend on


def rate_of(work: Work, arch: str, settings: Mapping, threads: int, folder: Path) -> float:
    """Seconds that a megapixel of ``work``, forward (kind network) or in a step (training), takes; read from ``folder`` where
    they lie there. The amount of the work does not count.

    settings: the config's ``device``. threads: of a job of the device. Raises UserError for a network or a device that is not there.
    """
    what = {"kind": work.kind, "arch": arch, "size": work.size, "batch": work.batch, "device": dict(settings)}
    what |= {"threads": threads, "torch": torch.__version__, "processor": _processor()}
    path = folder / f"{digest(what)[:12]}.json"
    try:
        return float(read_json(path)["rate"])
    except (OSError, LookupError, TypeError, ValueError, UserError):
        rate = _time(work, arch, settings, threads)
        write_json(path, what | {"rate": rate})
        return rate


def _processor() -> str:
    """The model of the processor: results may lie where several machines find them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("model name")), "")


def _time(work: Work, arch: str, settings: Mapping, threads: int) -> float:
    keep_freed_memory()
    torch.set_num_threads(1)
    with device(**settings) as here:
        size, images = work.size, _images(work, here)
        rows, source = np.arange(images), _source(images, size, here)
        trunk = trunks.trunk_of(arch).to(here.device, memory_format=torch.channels_last)
        if work.kind == "network":
            seconds = _least(lambda: inference.outputs(trunk.eval(), source, rows, 1, here), here)
        else:
            net = nets.Net(trunk, heads.head(trunk.width, 2, 0)).to(here.device, memory_format=torch.channels_last)
            stepper, targets = Stepper(net, here, bn_freeze=False), torch.arange(images, device=here.device) % 2
            seconds = _least(lambda: stepper(source(rows, 1), targets, [RATE] * 3, 0), here)
    gain = threads**GAIN if here.device.type == "cpu" else 1
    return seconds / gain * 1e6 / (images * size**2)


def _images(work: Work, here: Device) -> int:
    most = max(2, round(PIXELS / work.size**2)) if here.device.type == "cpu" else work.batch
    return min(work.batch, most)


def _source(images: int, size: int, here: Device) -> Callable[[np.ndarray, int], torch.Tensor]:
    """Views of random pixels, in the proportions of a camera's, as `inputs.sources.Views` makes them of packed ones."""
    height, width = size * 8 // 7, size * 12 // 7
    draw = np.random.default_rng(0)
    flat = draw.integers(0, 256, (images * height * width, 4 if here.device.type != "cpu" else 3), np.uint8)
    heights, widths = np.full(images, height), np.full(images, width)
    offsets = np.arange(images) * height * width
    augmentation = {"preset": "side_on", "max_zoom": 1.1, "max_rotate": 10, "max_light": 0.05, "crop": "random"}

    def source(rows: np.ndarray, view: int) -> torch.Tensor:
        table = views.view_table(0, view, images)[rows]
        choice = views.choose(table, heights, widths, size, augmentation)
        tensors = (torch.from_numpy(array).to(here.device) for array in (flat, offsets, heights, widths))
        return views.render(*tensors, choice, size, IMAGENET_MEAN, IMAGENET_STD)

    return source


def _least(work: Callable[[], object], here: Device) -> float:
    """Seconds that ``work`` takes; the first time, which warms up, does not count."""
    work()
    clock, seconds = (time.process_time if here.device.type == "cpu" else time.perf_counter), []
    while len(seconds) < REPEATS or (len(seconds) < MOST_REPEATS and sum(seconds) < ENOUGH):
        _wait(here)
        began = clock()
        work()
        _wait(here)
        seconds.append(clock() - began)
    return min(seconds)


def _wait(here: Device) -> None:
    """Until the device has done what it was given."""
    if here.device.type == "cuda":
        torch.cuda.synchronize(here.device)
    elif here.device.type == "mps":
        torch.mps.synchronize()
