"""The whole recipe against fastai's: same pictures, weights, epochs, sizes and batch size, start-up of both included."""

import json
import os
import statistics
from pathlib import Path

import workflow
from measure import ROOT, Found, Skipped, timed
from peer import Peer
from rows import Bench, row

# The data set and weights, and what to run: edit here.
DATA = Path(os.environ.get("EIGHTFOLD_BENCH_DATA", ROOT.parent / "shared" / "data" / "ants_bees"))
WEIGHTS = Path(os.environ.get("EIGHTFOLD_BENCH_WEIGHTS", ROOT.parent / "shared" / "weights" / "mobilenet_v2.pth"))
SEEDS = (0,)  # of the accuracy; 0, 1, 2 for a standard error
BATCH, VIEWS = 64, 4
SPEED = "resnet34"  # from random weights: the default recipe's network, for seconds alone
# Stages: name, size, what learns, epochs as cycles x multiplier. The finder runs before the first stage of each kind.
SPEED_STAGES = (("head_plain", 224, "head", 1, 1), ("head", 224, "head", 3, 1), ("all", 224, "all", 3, 2))
SPEED_STAGES += (("head_299", 299, "head", 3, 1), ("all_299", 299, "all", 3, 2))
# With ImageNet's weights few epochs are enough, and more over-fit (examples/ants_bees.yaml).
ACCURACY_STAGES = (("head_plain", 224, "head", 1, 1), ("head", 224, "head", 3, 1), ("all", 224, "all", 2, 2))
ACCURACY_STAGES += (("head_299", 299, "head", 3, 1), ("all_299", 299, "all", 2, 2))
FROZEN_STAGES = SPEED_STAGES[:2]
FASTAI_RATE = 2e-3  # fastai's default for a head; both sides run their finder, fastai's user reads the rate off it


def epochs(cycles: int, multiplier: int) -> int:
    return sum(multiplier**cycle for cycle in range(cycles))


def needed() -> None:
    if not DATA.is_dir():
        raise Skipped(f"{DATA} is not there; EIGHTFOLD_BENCH_DATA names a folder with train/ and valid/")


def ours(
    bench: Bench, stages: tuple, arch: str, weights: str, seed: int, target: str = "evaluate"
) -> tuple[float, Path]:
    """Seconds of our run from nothing, and its folder."""
    recipe = [
        {
            "name": name,
            "size": size,
            "train": train,
            "cycles": cycles,
            "cycle_mult": multiplier,
            "augment": name != "head_plain",
        }
        | ({} if name in ("head_plain", "head", "all") else {"lr": name.partition("_")[0]})
        | ({"lr": 0.01} if name == "all" and weights != "none" else {})
        for name, size, train, cycles, multiplier in stages
    ]
    config = {
        "run": "bench",
        "seed": seed,
        "data": {"source": "folders", "root": str(DATA), "valid": "valid"},
        "model": {"arch": arch, "weights": weights},
        "batch_size": BATCH,
        "recipe": recipe,
        "tta": {"views": VIEWS},
    }
    number = len(list(bench.folder.glob("recipe*")))
    folder = workflow.checkout(bench.folder / f"recipe{number}", config)
    return workflow.snakemake(folder, target, cores=bench.threads), folder


def theirs(bench: Bench, stages: tuple, arch: str, weights: str | None, seed: int, tuned: bool) -> tuple[float, dict]:
    """Seconds of fastai's process from its start, and what it reached."""
    asked = [
        {"name": name, "size": size, "train": train, "epochs": epochs(cycles, multiplier)}
        | {"find": name in ("head_plain", "head", "all") and not (name == "all" and weights is not None)}
        | {"lr": FASTAI_RATE if train == "head" else FASTAI_RATE / 2}
        for name, size, train, cycles, multiplier in stages
    ]
    told = {}

    def run() -> None:
        options = {"tuned": tuned, "seed": seed, "bfloat16": _bfloat16()}
        with Peer(bench.threads, DATA, arch, weights, stages[0][1], BATCH, **options) as peer:
            told.update(peer.tell(do="recipe", stages=asked))

    return timed(run), told


def _bfloat16() -> bool:
    import torch

    from eightfold.devices import _computes_bfloat16

    return _computes_bfloat16(torch.device("cpu"))


def compared(bench: Bench, tuned: bool) -> Found:
    needed()
    if "recipe" not in bench.__dict__:
        bench.__dict__["recipe"] = ours(bench, SPEED_STAGES, SPEED, "none", 0)
    seconds, folder = bench.__dict__["recipe"]
    peer, told = theirs(bench, SPEED_STAGES, SPEED, None, 0, tuned)
    stages = ", ".join(f"{name} {value:.0f}" for name, value in told["stages"].items())
    jobs = sum(workflow.job_seconds(folder))
    return Found(
        [peer / seconds], {"ours": seconds, "peer": peer}, f"fastai by stage: {stages} s; our jobs {jobs:.0f} s"
    )


@row(
    "recipe",
    "fastai's seconds over ours: the default recipe at 224 then 299 px, resnet34, its defaults",
    at_least=3,
    minutes=85,
)
def recipe_vs_fastai(bench: Bench) -> Found:
    return compared(bench, tuned=False)


@row(
    "recipe",
    "the same, fastai with channels_last, and half precision where the machine has it",
    at_least=1.5,
    minutes=55,
)
def recipe_vs_fastai_tuned(bench: Bench) -> Found:
    return compared(bench, tuned=True)


@row(
    "recipe",
    "fastai's seconds over ours: the frozen stages at 224 px with their finders, up to the trained head",
    at_least=5,
    minutes=12,
)
def frozen_vs_fastai(bench: Bench) -> Found:
    needed()
    seconds, _ = ours(bench, FROZEN_STAGES, SPEED, "none", 0, "results/bench/fold0/head/stage.json")
    peer, told = theirs(bench, FROZEN_STAGES, SPEED, None, 0, tuned=False)
    peer -= told["stages"]["tta"]
    return Found([peer / seconds], {"ours": seconds, "peer": peer}, "Snakemake's and Python's start-up included")


@row(
    "recipe",
    "fastai's log loss over ours, both with test-time augmentation, MobileNetV2 with ImageNet's weights",
    minutes=30,
)
def recipe_log_loss(bench: Bench) -> Found:
    needed()
    if not WEIGHTS.is_file():
        raise Skipped(f"{WEIGHTS} is not there; EIGHTFOLD_BENCH_WEIGHTS names torchvision's MobileNetV2 file")
    reached, seconds = {"ours": [], "fastai": []}, {"ours": [], "fastai": []}
    for seed in SEEDS:
        took, folder = ours(bench, ACCURACY_STAGES, "mobilenet_v2", str(WEIGHTS), seed)
        reached["ours"].append(json.loads((folder / "results/bench/metrics.json").read_text())["untuned"])
        seconds["ours"].append(took)
        took, told = theirs(bench, ACCURACY_STAGES, "mobilenet_v2", str(WEIGHTS), seed, tuned=False)
        reached["fastai"].append(told)
        seconds["fastai"].append(took)
    figures = "; ".join(
        f"{side} accuracy {statistics.mean(one['accuracy'] for one in found):.4f}, "
        f"log loss {statistics.mean(one['log_loss'] for one in found):.4f}"
        for side, found in reached.items()
    )
    ratios = [b["log_loss"] / a["log_loss"] for a, b in zip(reached["ours"], reached["fastai"], strict=True)]
    return Found(
        ratios, {side: statistics.median(values) for side, values in seconds.items()}, f"{figures}; seeds {SEEDS}"
    )
