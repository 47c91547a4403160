"""A checkout of the workflow with tiny images of its own, for tests that run Snakemake for real.

It is a copy, so a test may edit the library, the data and the config as a user would, and see what Snakemake does.
"""

import copy
import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
PARTS = ["Snakefile", "rules", "scripts", "schemas", "profiles", "envs"]
CLASSES = ["bars", "rings"]
TIMEOUT = 900  # seconds; a run takes one minute on two idle cores
# One thread a job: jobs run side by side, and the bytes do not depend on how many cores there are.
FAT = ["manifest", "pixels", "activations", "activations_tuned", "find_lr", "train", "predict", "insight"]

# Heads make the steps of their epochs and no more, so that these can be counted.
# Four stages that are of every kind: a head on plain and on augmented activations, all layers, a head on a tuned trunk.
CONFIG = {
    "run": "tiny",
    "seed": 3,
    "data": {"source": "folders", "root": "pictures", "sample_submission": "sample.csv"},
    "split": {"folds": 4},
    "model": {"arch": "shufflenet_v2_x0_5", "weights": "none"},
    "augmentation": {"preset": "side_on"},
    "batch_size": 6,
    "lr_find": {"steps": 30},
    "recipe": [
        {"name": "plain", "size": 32, "train": "head", "min_steps": 0, "augment": False, "snapshots": True},
        {"name": "moving", "size": 32, "train": "head", "min_steps": 0, "cycles": 2, "lr": 0.02, "snapshots": True},
        {"name": "whole", "size": 32, "train": "all", "cycles": 2, "lr": 0.003, "snapshots": True},
        {
            "name": "again",
            "size": 32,
            "train": "head",
            "min_steps": 0,
            "augment": False,
            "lr": 0.005,
            "snapshots": True,
        },
    ],
    "tta": {"views": 1},
    "device": {"kind": "cpu", "precision": "float32"},
}


def changed(**sections) -> dict:
    """CONFIG with some keys replaced; a section that is a mapping is merged, not replaced."""
    config = copy.deepcopy(CONFIG)
    for name, value in sections.items():
        config[name] = {**config.get(name, {}), **value} if isinstance(value, dict) else value
    return config


def changed_stage(name: str, **keys) -> dict:
    """CONFIG with some keys of one stage replaced."""
    return changed(recipe=[{**stage, **keys} if stage["name"] == name else stage for stage in CONFIG["recipe"]])


def draw_image(kind: str, number: int) -> Image.Image:
    """A small image of bars or rings, in noise; equal arguments, equal bytes."""
    random = np.random.default_rng([CLASSES.index(kind), number])
    height, width = 40 + number % 3 * 8, 44 + number % 2 * 6
    y, x = np.mgrid[:height, :width]
    wave = x if kind == "bars" else np.hypot(x - width / 2, y - height / 2)
    shade = 128 + 90 * np.sin(wave / 2 + random.uniform(0, 6))
    noise = random.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(shade[..., None] + noise, 0, 255).astype(np.uint8))


def write_images(root: Path, each: int = 12, test: int = 5) -> None:
    """train/<class>/*.png, test/*.png and sample.csv below ``root``. ``test=0``: no test images, no sample."""
    for kind in CLASSES:
        (root / "train" / kind).mkdir(parents=True)
        for number in range(each):
            draw_image(kind, number).save(root / "train" / kind / f"{kind}_{number}.png")
    if test:
        (root / "test").mkdir()
        for number in range(test):
            draw_image(CLASSES[number % 2], 100 + number).save(root / "test" / f"t{number}.png")
        with open(root / "sample.csv", "w", newline="", encoding="utf-8") as file:
            rows = [[f"t{number}", 0.5, 0.5] for number in reversed(range(test))]
            csv.writer(file).writerows([["image", "rings", "bars"], *rows])


class Checkout:
    """A copy of the workflow in a folder of its own, with images and a config."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def new(cls, folder: Path, **images) -> "Checkout":
        for name in PARTS:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        write_images(folder / "pictures", **images)
        checkout = cls(folder)
        checkout.configure(CONFIG)
        return checkout

    def copy(self, folder: Path) -> "Checkout":
        """The same checkout elsewhere, with results, Snakemake's memory of them, and times of files as they are."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Checkout(folder)

    def configure(self, config: dict) -> None:
        self["config.yaml"].write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def __getitem__(self, path: str) -> Path:
        return self.folder / path

    def command(self, *words: str, cores: int = 2) -> list[str]:
        threads = [f"{rule}=1" for rule in FAT]
        return [sys.executable, "-m", "snakemake", "--cores", str(cores), *words, "--set-threads", *threads]

    @property
    def environment(self) -> dict[str, str]:
        """Without what the machine's owner set for Snakemake, and with its caches in the test's own folder."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SNAKEMAKE")}
        return {**kept, "XDG_CACHE_HOME": str(self.folder / ".cache"), "PYTHONUNBUFFERED": "1"}

    def start(self, *words: str, start_new_session: bool = False, **options) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        pipes |= {"start_new_session": start_new_session}
        return subprocess.Popen(
            self.command(*words, **options), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, **pipes
        )

    def run(self, *words: str, ok: bool = True, **options) -> str:
        """Run Snakemake to its end; all that it printed. Fails unless it ended well (or, ``ok=False``, badly)."""
        process = self.start(*words, **options)
        try:
            output = process.communicate(timeout=TIMEOUT)[0]
        finally:
            process.kill()
        assert (process.returncode == 0) == ok, output
        return output

    def planned(self, *words: str) -> dict[str, int]:
        """Jobs that a dry run plans: {rule: number}, without the targets, which do no work."""
        output = self.run(*words, "--dry-run")
        if "Nothing to be done" in output:
            return {}
        table = output.rpartition("Job stats:\n")[2].partition("\n\n")[0].splitlines()[2:]
        found = dict(re.fullmatch(r"(\w+) +(\d+)", line).groups() for line in table)
        total = int(found.pop("total"))
        assert total == sum(map(int, found.values())), output
        return {name: int(number) for name, number in found.items() if name not in ("submission", "evaluate")}

    def jobs(self, *words: str) -> set[str]:
        """Outputs that a dry run would make, e.g. results/tiny/metrics.json."""
        output = self.run(*words, "--dry-run")
        lines = re.findall(r"^    output: (.+)$", output, flags=re.MULTILINE)
        return {path for line in lines for path in line.split(", ")}

    def leftovers(self) -> list[Path]:
        """Temporary files that something left behind."""
        return [path for path in self["results"].rglob("*") if path.name.endswith(".tmp")]
