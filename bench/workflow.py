"""Runs of the whole workflow in folders of their own, for the rows that measure it."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from measure import ROOT, command

PARTS = ("Snakefile", "rules", "scripts", "schemas", "envs", "profiles")


def checkout(folder: Path, config: dict) -> Path:
    """A copy of the workflow with a config."""
    folder.mkdir(parents=True)
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    configure(folder, config)
    return folder


def configure(folder: Path, config: dict) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def snakemake(folder: Path, *words: str, cores: int = 1) -> float:
    """Seconds of a Snakemake run in ``folder``."""
    return command(sys.executable, "-m", "snakemake", "--cores", str(cores), *words, folder=folder)


def job_seconds(folder: Path, name: str = "*") -> list[float]:
    """Seconds of each job of the run whose file of figures is called so, as Snakemake measured them."""
    files = folder.glob(f"results/**/{name}.jsonl")
    told = [json.loads(path.read_text().splitlines()[0]) for path in files]
    return [float(row["s"]) for row in told if "s" in row]


@dataclass
class Finished:
    folder: Path
    seconds: float
    jobs: list[float]


def tiny_config(images: Path, **more) -> dict:
    """A run of two stages on small images."""
    return {
        "run": "bench",
        "data": {"source": "folders", "root": str(images)},
        "model": {"arch": "shufflenet_v2_x0_5", "weights": "none"},
        "batch_size": 8,
        "lr_find": {"steps": 20},
        "recipe": [
            {"name": "head", "size": 32, "train": "head", "lr": 0.01},
            {"name": "all", "size": 32, "train": "all", "lr": 0.01},
        ],
        "tta": {"views": 1},
        **more,
    }


def tiny_run(folder: Path) -> Finished:
    """A finished `evaluate`, on one core."""
    from generated_images import write_many

    write_many(folder / "images", 40, 2)
    made = checkout(folder / "checkout", tiny_config(folder / "images"))
    seconds = snakemake(made, "evaluate")
    return Finished(made, seconds, job_seconds(made))
