"""A job of 40 images that trains in seconds: what the tests run on the cluster and beside it."""

import shutil
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]


def write_images(root: Path, labelled: int = 40, test: int = 10) -> None:
    """Bright and dark noise in two classes, and some of either to predict."""
    random = np.random.default_rng(0)
    for i in range(labelled + test):
        kind = ("bright", "dark")[i % 2]
        folder = root / "train" / kind if i < labelled else root / "test"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 156, (40, 48, 3)) + (100 if kind == "bright" else 0)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:03d}.png")


def write_config(path: Path, root: Path, epochs: int = 2, gpus: int = 1, **more) -> Path:
    """A head stage and a stage of all layers, at 32 px on the CPU, with given rates."""
    config = {
        "run": "tiny",
        "data": {"source": "folders", "root": str(root)},
        "split": {"folds": 4},
        "model": {"arch": "shufflenet_v2_x0_5", "weights": "none"},
        "augmentation": {"preset": "basic"},
        "batch_size": 16,
        "recipe": [
            {"name": "head", "size": 32, "train": "head", "augment": False, "lr": 0.01},
            {"name": "all", "size": 32, "train": "all", "cycles": 1, "cycle_len": epochs, "lr": 0.01, "gpus": gpus},
        ],
        "tta": {"views": 1},
        "device": {"kind": "cpu", "precision": "float32"},
        **more,
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def workplace(folder: Path) -> Path:
    """A copy of the workflow, which does not change when somebody edits the original in the minutes of a test."""
    folder.mkdir(parents=True)
    for name in ("rules", "scripts", "schemas", "envs", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder
