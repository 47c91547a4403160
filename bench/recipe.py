"""The whole recipe against fastai's: same images, weights, epochs, sizes and batch size, start-up of both included."""

import json
import os
import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import workflow
from measure import ROOT, Found, Skipped, timed
from peer import Peer
from rows import TUNED, Bench, row

# The data set and weights, and what to run: edit here.
DATA = Path(os.environ.get("EIGHTFOLD_BENCH_DATA", ROOT.parent / "shared" / "data" / "ants_bees"))
WEIGHTS = Path(os.environ.get("EIGHTFOLD_BENCH_WEIGHTS", ROOT.parent / "shared" / "weights" / "mobilenet_v2.pth"))
SEEDS = (0, 1, 2)  # of the scores; seconds are the first one's
BATCH, VIEWS = 64, 4
SCORES = ("accuracy", "log_loss")


class Recipe(NamedTuple):
    """stages: name, size (px), what learns, epochs as cycles x multiplier."""

    arch: str
    weights: str  # a file, or none
    stages: tuple


def recipe_of(arch: str, weights: str, cycles: int) -> Recipe:
    """The course's stages, which fastai has too: the default recipe without its linear one, with so many cycles of all layers."""
    small = (("head_plain", 224, "head", 1, 1), ("head", 224, "head", 3, 1), ("all", 224, "all", cycles, 2))
    large = (("head_299", 299, "head", 3, 1), ("all_299", 299, "all", cycles, 2))
    return Recipe(arch, weights, small + large)


# The course's recipe and its network, from random weights: seconds. The finder runs before head_plain, head and all.
DEFAULT = recipe_of("resnet34", "none", 3)
# With ImageNet's weights few epochs are enough, and more over-fit (examples/ants_bees.yaml): seconds, and what is reached.
# Both sides are given the rate of all layers, and find those of the heads.
FINE = recipe_of("mobilenet_v2", str(WEIGHTS), 2)
FASTAI_RATE = 2e-3  # fastai's default for a head; both sides run their finder, fastai's user reads the rate off it


def epochs(cycles: int, multiplier: int) -> int:
    return sum(multiplier**cycle for cycle in range(cycles))


def ours(bench: Bench, recipe: Recipe, seed: int, target: str = "results/bench/metrics.json") -> tuple[float, Path]:
    """Seconds of our run from nothing, and its folder."""
    stages = [
        {
            "name": name,
            "size": size,
            "train": train,
            "cycles": cycles,
            "cycle_mult": multiplier,
            "augment": name != "head_plain",
        }
        | ({} if name in ("head_plain", "head", "all") else {"lr": name.partition("_")[0]})
        | ({"lr": 0.01} if name == "all" and recipe.weights != "none" else {})
        for name, size, train, cycles, multiplier in recipe.stages
    ]
    config = {
        "run": "bench",
        "seed": seed,
        "data": {"source": "folders", "root": str(DATA), "valid": "valid"},
        "model": {"arch": recipe.arch, "weights": recipe.weights},
        "batch_size": BATCH,
        "recipe": stages,
        "tta": {"views": VIEWS},
    }
    number = len(list(bench.folder.glob("recipe*")))
    folder = workflow.checkout(bench.folder / f"recipe{number}", config)
    return workflow.snakemake(folder, target, cores=bench.threads), folder


def theirs(bench: Bench, recipe: Recipe, seed: int, tuned: bool, find: bool) -> tuple[float, dict]:
    """Seconds of fastai's process from its start, and what it reached; ``find``: with its finder, whose rate is not used."""
    weights = None if recipe.weights == "none" else recipe.weights
    asked = [
        {"name": name, "size": size, "train": train, "epochs": epochs(cycles, multiplier)}
        | {"find": find and name in ("head_plain", "head", "all") and not (name == "all" and weights is not None)}
        | {"lr": FASTAI_RATE if train == "head" else FASTAI_RATE / 2}
        for name, size, train, cycles, multiplier in recipe.stages
    ]
    told = {}

    def run() -> None:
        size = recipe.stages[0][1]
        with Peer(bench.threads, DATA, recipe.arch, weights, size, BATCH, seed=seed, tuned=tuned) as peer:
            told.update(peer.tell(do="recipe", stages=asked))

    return timed(run), told


@dataclass(eq=False)
class Runs:
    """A recipe by both sides; each run once, however many rows look at it."""

    bench: Bench
    recipe: Recipe

    @cache  # noqa: B019 - as long as the bench
    def ours(self, seed: int) -> tuple[float, Path]:
        return ours(self.bench, self.recipe, seed)

    @cache  # noqa: B019
    def theirs(self, seed: int, tuned: bool, find: bool) -> tuple[float, dict]:
        return theirs(self.bench, self.recipe, seed, tuned, find)

    def scores(self, seed: int) -> dict[str, float]:
        """What ours reached, with test-time augmentation."""
        return json.loads((self.ours(seed)[1] / "results/bench/metrics.json").read_text())["untuned"]

    def compared(self, tuned: bool) -> Found:
        """fastai's seconds over ours, how they come about, and what both reached."""
        seconds, folder = self.ours(SEEDS[0])
        took, told = self.theirs(SEEDS[0], tuned, True)
        own = sum(workflow.job_seconds(folder, "*.find_lr"))
        without = (took - told["finders"]) / (seconds - own)
        stages = ", ".join(f"{name} {value:.0f}" for name, value in told["stages"].items())
        reached = (
            f"{name.replace('_', ' ')} {self.scores(SEEDS[0])[name]:.4f}, fastai's {told[name]:.4f}" for name in SCORES
        )
        note = (
            f"fastai by stage: {stages} s; finders {told['finders']:.0f} s of fastai's, {own:.0f} of ours: "
            f"{without:.2f} without; {'; '.join(reached)}"
        )
        return Found.of({"ours": [seconds], "peer": [took]}, "peer", "ours", note)

    def no_worse(self, name: str) -> Found:
        """Two means over SEEDS, the one that should be larger first, with a standard error of their difference added to it.

        1 or more: ours is no worse within that error. fastai goes without its finder here, whose rate it would not use.
        """
        mine = [self.scores(seed)[name] for seed in SEEDS]
        peers = [self.theirs(seed, False, False)[1][name] for seed in SEEDS]
        error = ((statistics.variance(mine) + statistics.variance(peers)) / len(SEEDS)) ** 0.5
        larger, smaller = (peers, mine) if name == "log_loss" else (mine, peers)
        ratio = (statistics.mean(larger) + error) / statistics.mean(smaller)
        told = (
            f"{side} {statistics.mean(values):.4f} ({', '.join(f'{value:.4f}' for value in values)})"
            for side, values in (("ours", mine), ("fastai", peers))
        )
        return Found([ratio], {}, f"{'; '.join(told)}; standard error of the difference {error:.4f}")


def runs(bench: Bench, recipe: Recipe) -> Runs:
    if not DATA.is_dir():
        raise Skipped(f"{DATA} is not there; EIGHTFOLD_BENCH_DATA names a folder with train/ and valid/")
    if recipe.weights != "none" and not WEIGHTS.is_file():
        raise Skipped(f"{WEIGHTS} is not there; EIGHTFOLD_BENCH_WEIGHTS names torchvision's MobileNetV2 file")
    return bench.kept.setdefault(recipe, Runs(bench, recipe))


@row(
    "recipe",
    "fastai's seconds over ours: the recipe with few epochs at 224 then 299 px, MobileNetV2 with ImageNet's weights",
    at_least=3,
    minutes=46,
)
def recipe_mobilenet_vs_fastai(bench: Bench) -> Found:
    return runs(bench, FINE).compared(tuned=False)


@row("recipe", TUNED, at_least=1.5, minutes=40)
def recipe_mobilenet_vs_fastai_tuned(bench: Bench) -> Found:
    return runs(bench, FINE).compared(tuned=True)


@row(
    "recipe",
    "fastai's log loss and a standard error over ours: recipe_mobilenet_vs_fastai, three seeds",
    at_least=1,
    minutes=56,
)
def recipe_log_loss(bench: Bench) -> Found:
    return runs(bench, FINE).no_worse("log_loss")


@row("recipe", "our accuracy and a standard error over fastai's: the same runs", at_least=1, minutes=0)
def recipe_accuracy(bench: Bench) -> Found:
    return runs(bench, FINE).no_worse("accuracy")


@row(
    "recipe",
    "fastai's seconds over ours: the default recipe at 224 then 299 px, resnet34, its defaults",
    at_least=3,
    minutes=130,
)
def recipe_vs_fastai(bench: Bench) -> Found:
    return runs(bench, DEFAULT).compared(tuned=False)


@row("recipe", TUNED, at_least=1.5, minutes=90)
def recipe_vs_fastai_tuned(bench: Bench) -> Found:
    return runs(bench, DEFAULT).compared(tuned=True)


def frozen(bench: Bench, both: Runs) -> Found:
    """Ours from nothing to the trained head at 224 px, against that part of fastai's run, start-up included in both."""
    start = both.recipe._replace(stages=both.recipe.stages[:2])
    seconds = ours(bench, start, SEEDS[0], "results/bench/fold0/head/stage.json")[0]
    took, told = both.theirs(SEEDS[0], False, True)
    later = sum(told["stages"].values()) - told["stages"]["head_plain"] - told["stages"]["head"]
    return Found.of({"ours": [seconds], "peer": [took - later]}, "peer", "ours")


@row(
    "recipe",
    "fastai's seconds over ours: the default recipe's frozen stages at 224 px with their finders, resnet34",
    at_least=5,
    minutes=3,
)
def frozen_vs_fastai(bench: Bench) -> Found:
    return frozen(bench, runs(bench, DEFAULT))


@row("recipe", "the same of recipe_mobilenet_vs_fastai", at_least=5, minutes=3)
def frozen_mobilenet_vs_fastai(bench: Bench) -> Found:
    return frozen(bench, runs(bench, FINE))
