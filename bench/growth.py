"""Time and memory as the job grows: exponents over 1x, 4x and 16x, and 100,000 images."""

import shutil

import workflow
from generated_images import write_many
from measure import Found, child, slope
from rows import Bench, row

SIZES = (500, 2000, 8000)
# The functions of the rules manifest, folds and pixels, without Snakemake.
DATA = """
from pathlib import Path
from eightfold.raw import folds, images, manifest
from eightfold.inputs import dataset, pixels
from eightfold.config.resolve import resolve
from eightfold.core.files import read_json, write_json, write_table
from eightfold.raw.stores import Store
folder = Path({folder!r})
config = resolve({{"run": "x", "data": {{"source": "folders", "root": str(folder / "images")}}}}, "bench")
"""
MANIFEST = "manifest.write_manifest(folder, manifest.build(config['data'], {threads}))"
FOLDS = """
table, info = dataset.read_manifest(folder)
write_table(folder / "folds.csv", folds.assign(table, info, config["split"], 0))
"""
PIXELS = """
table, info = dataset.read_manifest(folder)
store = Store(info["root"], info["reading"])
read = lambda path: pixels.resized(images.open_image(store.read(path), None, 32), 32)
pixels.pack(folder, pixels.in_order(read, table["path"], {threads}))
"""
STEPS = {"manifest": MANIFEST, "folds": FOLDS, "pixels": PIXELS}
HEAD = """
import numpy as np, torch
from eightfold.predict import metrics; from eightfold.net import heads; from eightfold.train import training
from eightfold.train.setting import How, Setting
from eightfold.core.devices import Device
here, rows = Device(torch.device("cpu"), torch.float32), np.arange(4096)
stage = {{"name": "x", "augment": False, "first_view": 1, "cycles": 1, "cycle_len": 1, "cycle_mult": 1, "lr_ratio": 10}}
values = torch.randn(4096, 1024)
"""
TRAIN = """
setting = Setting(heads.head(512, {classes}, 0), lambda rows, view: values[torch.from_numpy(rows)], rows % {classes},
                  rows[:3072], rows[3072:])
training.train(setting, stage, [0.01], How(64, 0, here), folder / "{classes}", "x")
"""
ACTIVATIONS = """
import numpy as np, torch
from pathlib import Path
from eightfold.inputs import activations; from eightfold.net import starting_weights
from eightfold.core.devices import Device
torch.set_num_threads({threads})
here, folder = Device(torch.device("cpu"), torch.float32), Path({folder!r})
trunk, _, _ = starting_weights.pretrained("shufflenet_v2_x0_5", "none", 0)
source = lambda rows, view: torch.zeros(len(rows), 3, 32, 32)
def make(number):
    rows = np.arange(number)
    activations.write(folder / "views.safetensors", rows, activations.compute(trunk, source, rows, [0, 1, 2], here), "x")
make(64)
"""


def data_steps(bench: Bench, number: int) -> dict[str, dict]:
    """Seconds and megabytes of manifest, folds and pixels of ``number`` images of 16 px."""
    folder = bench.folder / f"many_{number}"
    if not folder.exists():
        write_many(folder / "images", number)
    setup = DATA.format(folder=str(folder))
    return {name: child(work.format(threads=bench.threads), setup) for name, work in STEPS.items()}


def grown(bench: Bench, what: str) -> Found:
    """The exponent of seconds or of added memory over SIZES, of the three steps together."""
    if "growth" not in bench.kept:
        bench.kept["growth"] = {number: data_steps(bench, number) for number in SIZES}
    found = bench.kept["growth"]
    join = sum if what == "seconds" else max
    values = [join(step[what] for step in found[number].values()) for number in SIZES]
    told = {f"{name} of {number}": step[what] for number in SIZES for name, step in found[number].items()}
    unit = "s" if what == "seconds" else "MB above the start"
    return Found([slope(SIZES, values)], told, f"{', '.join(f'{v:.3g}' for v in values)} {unit} for {SIZES} images")


@row("growth", "exponent of seconds over images: manifest, folds, pixels of small files", at_most=1.1, minutes=0.7)
def growth_images_seconds(bench: Bench) -> Found:
    return grown(bench, "seconds")


@row("growth", "exponent of peak memory added over images, the largest of manifest, folds, pixels", minutes=0.1)
def growth_images_memory(bench: Bench) -> Found:
    return grown(bench, "added_mb")


@row("growth", "exponent of peak memory added over images: activations of three views, 8 kB each", minutes=0.6)
def growth_activations_memory(bench: Bench) -> Found:
    setup = ACTIVATIONS.format(threads=bench.threads, folder=str(bench.folder / "activations"))
    found = [child(f"make({number})", setup) for number in SIZES]
    values = [one["added_mb"] for one in found]
    told = {f"{number} images": one["seconds"] for number, one in zip(SIZES, found, strict=True)}
    files = ", ".join(f"{number * 3 * 8192 / 1e6:.0f}" for number in SIZES)
    note = f"{', '.join(f'{v:.3g}' for v in values)} MB above the start for {SIZES} images; their files: {files} MB"
    return Found([slope(SIZES, values)], told, note)


@row("growth", "exponent of the seconds of building the DAG over folds trained: 2, 8, 32", minutes=0.7)
def growth_folds_dag(bench: Bench) -> Found:
    write_many(bench.folder / "folds" / "images", 200, 2)
    counts, seconds = (2, 8, 32), []
    config = workflow.tiny_config(bench.folder / "folds" / "images")
    folder = workflow.checkout(bench.folder / "folds" / "checkout", config)
    for count in counts:
        config["split"] = {"folds": max(2, count), "use": list(range(count))}
        workflow.configure(folder, config)
        seconds.append(min(workflow.snakemake(folder, "evaluate", "-n") for _ in range(2)))
    return Found(
        [slope(counts, seconds)],
        {f"{c} folds": s for c, s in zip(counts, seconds, strict=True)},
        "Snakemake's start included",
    )


@row("growth", "exponent of the seconds of an epoch of a head over classes: 10, 40, 160", minutes=0.5)
def growth_classes_seconds(bench: Bench) -> Found:
    counts = (10, 40, 160)
    setup = (
        HEAD.format()
        + f"from pathlib import Path\nfolder = Path({str(bench.folder / 'resume')!r})\ntorch.set_num_threads({bench.threads})\n"
    )
    found = [child(TRAIN.format(classes=count), setup) for count in counts]
    told = {f"{count} classes": one["seconds"] for count, one in zip(counts, found, strict=True)}
    memory = ", ".join(f"{one['added_mb']:.0f}" for one in found)
    return Found([slope(counts, list(told.values()))], told, f"4,096 images; memory added {memory} MB")


@row("growth", "seconds an image of 100,000 over those of 6,250: manifest, folds, pixels", at_most=1.25, minutes=5)
def hundred_thousand(bench: Bench) -> Found:
    few, many = (data_steps(bench, number) for number in (6250, 100_000))
    ratio = sum(s["seconds"] for s in many.values()) / 100_000 / (sum(s["seconds"] for s in few.values()) / 6250)
    told = {
        f"{name} of {n}": step["seconds"] for n, found in ((6250, few), (100_000, many)) for name, step in found.items()
    }
    memory = "; ".join(f"{name} {few[name]['peak_mb']:.0f} -> {many[name]['peak_mb']:.0f}" for name in STEPS)
    return Found([ratio], told, f"peak MB: {memory}")


@row("growth", "seconds of building the DAG for 100,000 images over those for 500", at_most=1.3, minutes=0.7)
def dag_of_hundred_thousand(bench: Bench) -> Found:
    """The config lists the data root's names and sizes, which is all that grows."""
    seconds = {}
    for number in (500, 100_000):
        images = bench.folder / f"many_{number}" / "images"
        if not images.exists():
            write_many(images, number)
        folder = workflow.checkout(bench.folder / f"dag_{number}", workflow.tiny_config(images, shards=1))
        seconds[f"{number} images"] = min(workflow.snakemake(folder, "evaluate", "-n") for _ in range(3))
        shutil.rmtree(folder)
    few, many = seconds.values()
    return Found([many / few], seconds, "best of 3 dry runs each; the rest is listing names and sizes")
