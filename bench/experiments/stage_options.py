"""What each option of a stage does, measured against the same stage without it.

    make evaluate CONFIG=examples/ants_bees_folds.yaml                           # or any config; its files are read
    python bench/experiments/stage_options.py examples/ants_bees_folds.yaml head --seeds 3

Trains the stage anew for each option, seed and fold, by the pipeline's own code, and scores the held-out images of all
folds together. An option is compared with `off` of the same seed: mean difference over the seeds and the half width of its
95 % interval (Student's t). Less than that is noise. Nothing of the run is changed; the table goes to the console.
"""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from scipy.stats import t as student

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from eightfold.config import schedules
from eightfold.config.plan import Plan
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core.devices import device
from eightfold.core.randomness import generator
from eightfold.net import scoring
from eightfold.net.nets import rate_groups
from eightfold.predict import metrics
from eightfold.train import stages, training
from eightfold.train.answers import compute_logits
from eightfold.train.setting import How

# Changes of the stage. `lr` multiplies the rate; `uneven`: the training images of every second class are thinned to a
# fifth, so that there is an imbalance to fix.
OFF, UNEVEN = "off", "off, uneven classes"
OPTIONS = {
    OFF: {},
    "label_smoothing: 0.1": {"label_smoothing": 0.1},
    "mixup: 0.2": {"mixup": 0.2},
    "cutmix: 1": {"cutmix": 1.0},
    "schedule: one_cycle": {"schedule": "one_cycle"},
    "optimizer: adamw": {"optimizer": "adamw", "weight_decay": 0.01, "lr": 0.1},
    "averaging: ema": {"averaging": "ema", "ema_decay": 0.9},
    "averaging: swa": {"averaging": "swa"},
    "snapshots, averaged": {"snapshots": True},
    UNEVEN: {"uneven": True},
    "class_weights: balanced": {"uneven": True, "class_weights": "balanced"},
    "sampler: balanced": {"uneven": True, "sampler": "balanced"},
}


def inputs(plan: Plan, stage: str, fold: str) -> SimpleNamespace:
    """The files that the rule `train` would give to a stage."""

    def made(name: str) -> tuple[str, str]:
        return f"{plan.run}/fold{fold}/{name}/checkpoint.safetensors", f"{plan.run}/fold{fold}/{name}/stage.json"

    weights, before, tuned = plan.weights_folder, plan.previous(stage), plan.trunk_stage(stage)
    given = {"manifest": f"{plan.data_folder}/manifest.csv", "folds": f"{plan.run}/folds.csv"}
    given["weights_identity"] = f"{weights}/weights.json"
    given["head"], given["head_identity"] = made(before) if before else (None, None)
    if plan.stages[stage]["train"] == "head":
        paths = plan.activations(stage, fold)
        given["activations"] = [f"{path}.safetensors" for path in paths]
        given["activations_identities"] = [f"{path}.json" for path in paths]
    else:
        starting = f"{weights}/trunk.safetensors", f"{weights}/weights.json"
        given["trunk"], given["trunk_identity"] = made(tuned) if tuned else starting
        given["pixels"] = f"{plan.pixels_folder(plan.stages[stage]['size'])}/pixels.json"
    return SimpleNamespace(**given)


def changed(stage: dict, option: dict) -> dict:
    """The stage with an option on, and as many epochs as before."""
    stage = stage | {key: value for key, value in option.items() if key not in ("lr", "uneven")}
    if stage["schedule"] == "one_cycle":
        stage |= {"cycles": 1, "cycle_len": schedules.stage_epochs(stage), "cycle_mult": 1}
    return stage


def thinned(rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The rows, of every second class only each fifth."""
    place = np.zeros(len(rows), int)
    for c in np.unique(targets[rows]):
        place[targets[rows] == c] = np.arange((targets[rows] == c).sum())
    return rows[(targets[rows] % 2 == 0) | (place % 5 == 0)]


def some(rows: np.ndarray, images: int | None, seed: int) -> np.ndarray:
    """Some of the rows, others for each seed, equal for every option; None: all of them."""
    # The key of the draw keeps its old name: another one draws other images than those measured.
    return np.sort(generator(seed, "pictures").permutation(rows)[:images])


def predicted(plan: Plan, name: str, fold: str, option: dict, lr: float, seed: int, images: int | None, here) -> tuple:
    """(held-out rows, their probabilities, the targets of all rows) of the stage trained with an option."""
    stage = changed(plan.stages[name], option)
    settings = {"stage": stage, "arch": plan.config["model"]["arch"], "seed": seed, "holds_back": False}
    settings["augmentation"] = plan.config["augmentation"]
    setting = stages.open_setting(inputs(plan, name, fold), settings, fold, here)
    lrs = schedules.group_lrs(lr * option.get("lr", 1), stage, len(rate_groups(setting.net, stage)))
    train_rows = some(setting.train_rows, images, seed)
    train_rows = thinned(train_rows, setting.targets) if "uneven" in option else train_rows
    kept = []

    def probabilities() -> np.ndarray:
        logits = compute_logits(setting.net, setting.source, setting.valid_rows, 0, here)
        return scoring.probabilities_of(logits, setting.targets.ndim == 2)

    with tempfile.TemporaryDirectory() as folder:
        how = How(plan.config["batch_size"], seed, here, plan.config["model"]["bn_freeze"])
        alone = setting._replace(train_rows=train_rows, valid_rows=setting.valid_rows[:0])
        resume = Path(folder, "resume.safetensors")
        training.train(alone, stage, lrs, how, resume, "bench", lambda cycle: kept.append(probabilities()))
    return setting.valid_rows, np.mean(kept, 0) if option.get("snapshots") else probabilities(), setting.targets


def figures(plan: Plan, name: str, option: dict, lr: float, seed: int, images: int | None, here) -> dict:
    """Log loss, accuracy and, for one label an image, balanced accuracy of all folds' held-out images."""
    folds = [predicted(plan, name, fold, option, lr, seed, images, here) for fold in plan.held_out]
    rows, probabilities, targets = (
        np.concatenate([f[0] for f in folds]),
        np.concatenate([f[1] for f in folds]),
        folds[0][2],
    )
    found = {
        "log_loss": scoring.log_loss(probabilities, targets[rows]),
        "accuracy": scoring.accuracy(probabilities, targets[rows]),
    }
    if targets.ndim == 1:
        found["balanced_accuracy"] = metrics.balanced_accuracy(probabilities.argmax(1), targets[rows])
    return found


def difference(with_it: list[float], without: list[float]) -> tuple[float, float]:
    """(mean difference, half width of its 95 % interval) of paired figures."""
    apart = np.subtract(with_it, without)
    return float(apart.mean()), float(student.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart)))


def verdict(mean: float, half: float, less_is_better: bool) -> str:
    if abs(mean) <= half:
        return "within the noise"
    return "better" if (mean < 0) == less_is_better else "worse"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("stage")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, help="rate of the stage, where its config says auto")
    parser.add_argument(
        "--images", type=int, help="learn from that many of the training images, drawn anew by each seed"
    )
    given = parser.parse_args()
    logging.getLogger("eightfold").setLevel(logging.WARNING)
    plan = Plan(resolve(check_yaml_file(given.config), given.config))
    stage, own = plan.stages[given.stage], plan.lr(given.stage)[0]
    lr = given.lr or own
    if not isinstance(lr, float):
        parser.error("the stage's lr is not one number: give --lr")
    options = {
        name: option
        for name, option in OPTIONS.items()
        if stage["train"] == "all" or not {"mixup", "cutmix"} & set(option)
    }
    results: dict[str, list[dict]] = {name: [] for name in options}
    with device(plan.config["device"]["kind"], plan.config["device"]["precision"]) as here:
        for seed in range(given.seeds):
            for name, option in options.items():
                began = time.monotonic()
                results[name].append(figures(plan, given.stage, option, lr, seed, given.images, here))
                told = ", ".join(f"{key} {value:.4f}" for key, value in results[name][-1].items())
                print(f"seed {seed}, {name}: {told} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    keys = list(results[OFF][0])
    print(
        f"{given.config}, stage {given.stage}, lr {lr:g}, {given.seeds} seeds, {given.images or 'all'} images, torch {torch.__version__}\n"
    )
    print("| option |", " | ".join(keys), "| verdict on log_loss |\n|---|" + "---|" * (len(keys) + 1))
    for name, option in options.items():
        mean = {key: np.mean([row[key] for row in results[name]]) for key in keys}
        if name in (OFF, UNEVEN):
            print(f"| {name} |", " | ".join(f"{mean[key]:.4f}" for key in keys), "| |")
            continue
        base = results[UNEVEN if "uneven" in option else OFF]
        apart = {key: difference([r[key] for r in results[name]], [r[key] for r in base]) for key in keys}
        cells = [f"{mean[key]:.4f} ({apart[key][0]:+.4f} ± {apart[key][1]:.4f})" for key in keys]
        print(f"| {name} |", " | ".join(cells), f"| {verdict(*apart['log_loss'], True)} |")


if __name__ == "__main__":
    main()
