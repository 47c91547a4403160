"""A job of millions of images on many GPUs, simulated: python bench/scale.py [--forward 2500 --train 800 ...] [--svg FILE]

Lays our jobs (manifest, pixels, activations, head, all layers, predictions; in parts where they come in parts) on G GPUs
that share one file system, and tells hours, the terabytes it holds and reads, jobs, and what the time is lost to. Rates
are given by the reader, or with `--results FOLDER` taken from what this project's jobs took there (benchmark files), which
makes the figures those of that machine. Each job costs OVERHEAD besides: the queue's latency and two starts of Snakemake.

Jobs run first come, first served on the devices; those that run share the file system's bandwidth evenly, and a job reads
while it computes, so it takes the longer of the two.
"""

import argparse
import json
import math
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

SIZE, SHORT_SIDE = 224, 256
PIXELS_MB = SHORT_SIDE * SHORT_SIDE * 4 / 3 * 3 / 1e6  # of an image of 4:3
RAW_MB = 0.11  # ImageNet's mean JPEG
FEATURES, MODEL_MB = 2048, 94  # resnet50
VIEWS, TTA, HEAD_EPOCHS, EPOCHS = 3, 4, 4, 3  # augmented views of the head stage, of the prediction; epochs
TEST = 0.2  # images to predict for each to learn from


@dataclass
class Rates:
    """Of one device and its share of the processor's cores; gb_s of the file system that all share."""

    forward: float  # images/s through the network, without gradients
    train: float  # images/s, all layers
    decode: float  # images/s decoded and resized
    look: float  # images/s of the manifest (decoded once, hashed), on one node
    gb_s: float
    overhead: float  # seconds of a job before its work begins
    efficiency: float  # of each doubling of the GPUs that train one stage


@dataclass
class Work:
    """A job: seconds of computing, gigabytes read or written; ``devices`` it holds."""

    kind: str
    seconds: float
    gb: float
    devices: int = 1
    done: float = 0.0


@dataclass
class Told:
    hours: float
    jobs: int
    of: dict[str, float] = field(default_factory=dict)  # hours by kind, by the clock
    waiting: float = 0.0  # share of the devices' hours that the file system made them wait
    starting: float = 0.0  # share lost to submission and start
    idle: float = 0.0  # share in which a device had nothing to do


def run(works: list[Work], devices: int, rates: Rates) -> tuple[float, float, float]:
    """Seconds for jobs that may all run at once; device-seconds spent starting, and waiting for files."""
    # (end of the start, work): a running job has progress in computing and in reading, each at its own pace.
    waiting = works[::-1]
    running: list[list] = []  # [seconds until started, seconds of computing left, gb left, work]
    clock = starting = starved = 0.0
    free = devices
    while waiting or running:
        while waiting and waiting[-1].devices <= free:
            work = waiting.pop()
            free -= work.devices
            running.append([rates.overhead, work.seconds, work.gb, work])
        readers = sum(1 for start, _, gb, _ in running if start <= 0 and gb > 0)
        pace = rates.gb_s / max(1, readers)
        step = min(
            (
                start
                if start > 0
                else max(compute, 0)
                if gb <= 0
                else gb / pace
                if compute <= 0
                else min(compute, gb / pace)
            )
            for start, compute, gb, _ in running
        )
        step = max(step, 1e-9)
        clock += step
        still = []
        for start, compute, gb, work in running:
            if start > 0:
                starting += step * work.devices
                start = 0.0 if start - step < 1e-9 else start - step
            else:
                if compute <= 0 < gb:
                    starved += step * work.devices
                compute, gb = compute - step, gb - (step * pace if gb > 0 else 0)
            if start <= 0 and compute <= 1e-9 and gb <= 1e-9:
                free += work.devices
            else:
                still.append([start, compute, gb, work])
        running = still
    return clock, starting, starved


def parts_of(kind: str, images: float, each_s: float, each_mb: float, parts: int) -> list[Work]:
    return [Work(kind, images * each_s / parts, images * each_mb / 1000 / parts) for _ in range(parts)]


def simulate(images: float, devices: int, rates: Rates, parts: int, per_stage: int) -> Told:
    """A run with so many parts, each stage trained by ``per_stage`` devices together."""
    vector_mb = 2 * FEATURES * 4 / 1e6
    labelled, test = images, images * TEST
    speed = per_stage * rates.efficiency ** math.log2(per_stage)
    together = min(per_stage, devices)
    phases = [
        [Work("manifest", (labelled + test) / rates.look, (labelled + test) * RAW_MB / 1000)],
        parts_of("pixels", labelled + test, 1 / rates.decode, RAW_MB + PIXELS_MB, parts),
        [Work("pixels joined", 0, 2 * (labelled + test) * PIXELS_MB / 1000)] if parts > 1 else [],
        parts_of("activations", labelled * (1 + VIEWS), 1 / rates.forward, PIXELS_MB + vector_mb, parts),
        [Work("activations joined", 0, 2 * labelled * (1 + VIEWS) * vector_mb / 1000)] if parts > 1 else [],
        [Work("head", labelled * HEAD_EPOCHS / (20 * rates.forward), labelled * (1 + VIEWS) * vector_mb / 1000)],
        [Work("all layers", labelled * EPOCHS / (rates.train * speed), labelled * EPOCHS * PIXELS_MB / 1000, together)],
        parts_of("predictions", (test + 0.2 * labelled) * (1 + TTA), 1 / rates.forward, PIXELS_MB, parts),
    ]
    told, starting, starved, busy = Told(0, 0), 0.0, 0.0, 0.0
    for phase in phases:
        if phase:
            clock, start, starve = run(phase, devices, rates)
            told.of[phase[0].kind] = clock / 3600
            told.jobs += len(phase)
            told.hours += clock / 3600
            starting, starved = starting + start, starved + starve
            busy += sum(work.seconds * work.devices for work in phase)
    whole = told.hours * 3600 * devices
    told.starting, told.waiting = starting / whole, starved / whole
    told.idle = max(0.0, 1 - (busy + starting + starved) / whole)
    return told


def disk_tb(images: float) -> dict[str, float]:
    """Terabytes: images as they come, packed pixels (twice while parts are joined), activations of all views."""
    whole = images * (1 + TEST)
    pixels = whole * PIXELS_MB / 1e6
    return {
        "raw": whole * RAW_MB / 1e6,
        "pixels": pixels,
        "activations": images * (1 + VIEWS) * 2 * FEATURES * 4 / 1e12,
    }


def measured(results: Path) -> dict[str, float]:
    """Images/s of this machine's device and disk at SIZE px, from the benchmark files below a folder of results."""
    found: dict[str, list[float]] = {}
    start = 3.0
    for path in results.rglob("*.jsonl"):
        try:
            told = json.loads(path.read_text().splitlines()[-1])
            settings, seconds = told["params"]["settings"], max(0.1, told["s"] - start)
            data = next(p for p in told["input_size_mb"] if re.search(r"data-\w+/manifest\.json$", p))
            counts = json.loads(Path(data).read_text())["counts"]
            labelled = counts["train"] + counts["valid"]
            if told["rule_name"] == "pixels":
                found.setdefault("decode", []).append((labelled + counts["test"]) / seconds)
            elif told["rule_name"] == "activations":
                views = settings["last"] - settings["first"] + 1
                found.setdefault("forward", []).append(labelled * views * (settings["size"] / SIZE) ** 2 / seconds)
            elif told["rule_name"] == "train" and settings["stage"]["train"] == "all":
                stage = settings["stage"]
                epochs = sum(stage["cycle_len"] * stage["cycle_mult"] ** c for c in range(stage["cycles"]))
                found.setdefault("train", []).append(labelled * epochs * (stage["size"] / SIZE) ** 2 / seconds)
        except (ValueError, LookupError, StopIteration, TypeError, OSError):
            continue
    return {name: median(values) for name, values in found.items()}


def draw(rows: list[dict], path: Path) -> None:
    """Hours by devices, a line for each number of images; dashed: the hours of one device divided by their number."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for colour, images in zip(("tab:blue", "tab:orange"), sorted({row["images"] for row in rows}), strict=False):
        of = [row for row in rows if row["images"] == images]
        gpus, hours = [row["gpus"] for row in of], [row["hours"] for row in of]
        axes.loglog(gpus, hours, "o-", color=colour, label=f"{images / 1e6:.0f} million images")
        axes.loglog(gpus, [hours[0] / g for g in gpus], "--", color=colour, alpha=0.5)
    axes.set_xlabel("GPUs")
    axes.set_ylabel("hours")
    axes.set_xticks(sorted({row["gpus"] for row in rows}), sorted({row["gpus"] for row in rows}))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def main(words: list[str]) -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--forward", type=float, default=2500, help="images/s of a GPU, without gradients")
    asked.add_argument("--train", type=float, default=800, help="images/s of a GPU, all layers")
    asked.add_argument("--decode", type=float, default=800, help="images/s decoded by a device's share of the cores")
    asked.add_argument("--look", type=float, default=1500, help="images/s of the manifest, one node")
    asked.add_argument("--gb-s", type=float, default=5, help="of the file system that all nodes share")
    asked.add_argument("--overhead", type=float, default=20, help="seconds of a job before its work begins")
    asked.add_argument("--efficiency", type=float, default=0.95, help="of a doubling of the GPUs that train together")
    asked.add_argument(
        "--files-a-part", type=float, default=50_000, help="what `shards: auto` aims at, 1000 parts at most"
    )
    asked.add_argument("--results", type=Path, help="take forward, train and decode from the benchmark files here")
    asked.add_argument("--svg", type=Path)
    given = asked.parse_args(words)
    found = measured(given.results) if given.results else {}
    names = ("forward", "train", "decode", "look", "gb_s", "overhead", "efficiency")
    rates = Rates(**{name: found.get(name, getattr(given, name)) for name in names})
    print(rates)
    rows = []
    for images in (1e6, 1e8):
        disk = disk_tb(images)
        print(f"\n{images:,.0f} images: " + ", ".join(f"{kind} {size:.3g} TB" for kind, size in disk.items()))
        print("GPUs  parts  GPUs a stage  jobs    hours  starting  waiting for files  idle   longest")
        for devices in (1, 8, 64):
            parts = max(1, min(1000, round(images / given.files_a_part)))
            told = simulate(images, devices, rates, parts, min(devices, 8))
            longest = sorted(told.of.items(), key=lambda item: -item[1])[:3]
            print(
                f"{devices:4}  {parts:5}  {min(devices, 8):12}  {told.jobs:4}  {told.hours:7.1f}  {told.starting:8.1%}"
                f"  {told.waiting:17.1%}  {told.idle:5.1%}  " + ", ".join(f"{k} {h:.1f} h" for k, h in longest)
            )
            rows.append({"images": images, "gpus": devices, "hours": told.hours})
    if given.svg:
        draw(rows, given.svg)


if __name__ == "__main__":
    main(sys.argv[1:])
