"""What calibration and the ensemble are worth, for a run whose last stage is a head on the starting network.

    snakemake results/ants_bees_folds/fold{0,1,2,3,4}/head/stage.json --cores 1 --configfile examples/ants_bees_folds.yaml
    python bench/fold_ensemble.py examples/ants_bees_folds.yaml

Out-of-fold log loss of the labelled pictures with and without the calibration, cross-fitted as in `evaluate`; then log loss
and accuracy on the test pictures, whose labels (the names of their folders) nothing before this script has read: of every
member (fold x snapshot x view) alone and of their mean. The trunk sees each picture and view once for all folds.
"""

import logging
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from eightfold import ensembles, folds, inference, manifest, metrics, nets, tuning
from eightfold.config import check_yaml_file, resolve
from eightfold.devices import device
from eightfold.files import read_json
from eightfold.pixels import Pixels
from eightfold.plan import Plan
from eightfold.sources import Activations, Views


def told(name: str, p: np.ndarray, truth: np.ndarray) -> str:
    return f"| {name} | {metrics.log_loss(p, truth):.4f} | {metrics.accuracy(p, truth):.4f} |"


def main(path: str) -> None:
    logging.getLogger("eightfold").setLevel(logging.WARNING)
    plan = Plan(resolve(check_yaml_file(path), path))
    config, stage, size = plan.config, plan.last_stage, plan.stages[plan.last_stage]["size"]
    table, info = manifest.read_manifest(plan.data_folder)
    weights, targets, views = read_json(f"{plan.weights_folder}/weights.json"), manifest.targets(table, info), 1
    views += config["tta"]["views"]
    test = np.flatnonzero(table["split"] == "test")
    truth = np.array([info["classes"].index(Path(table["path"].iloc[row]).parent.name) for row in test])
    of_folds, classes = folds.read_folds(f"{plan.run}/folds.csv"), len(info["classes"])
    with device(config["device"]["kind"], config["device"]["precision"]) as here:
        cached = Activations([f"{name}.safetensors" for name in plan.activations(stage, "")], here)
        trunk = nets.trunk_outline(config["model"]["arch"])
        nets.load_part(trunk, f"{plan.weights_folder}/trunk.safetensors", "trunk")
        trunk.to(here.device, memory_format=torch.channels_last).eval()
        pixels, what = Pixels(plan.pixels_folder(size)), (config["augmentation"], config["seed"])
        source = Views(pixels, size, *what, weights["mean"], weights["std"], here)
        of_test = [inference.outputs(trunk, source, test, view, here) for view in range(views)]
        oof = np.empty((plan.stages[stage]["cycles"], views, len(table), classes))
        each, parts = [], np.full(len(table), -1)
        for number, fold in enumerate(plan.held_out):
            _, held = folds.train_valid_rows(of_folds, fold)
            parts[held] = number
            for cycle in range(oof.shape[0]):
                head = nets.head(trunk.features, classes, 0)
                nets.load_part(
                    head, f"{plan.run}/fold{fold}/{stage}/snapshots.safetensors", f"snapshot{cycle + 1}.head"
                )
                head.to(here.device).eval()
                with torch.inference_mode():
                    for view in range(views):
                        oof[cycle, view, held] = metrics.softmax(head(cached(held, view)).cpu().numpy())
                        p = metrics.softmax(head(of_test[view].to(here.device)).cpu().numpy())
                        each.append((f"fold {fold}, snapshot {cycle + 1}, view {view}", (cycle, view), p))
    rows = np.flatnonzero(parts >= 0)
    members, stack = ensembles.members_of(*oof.shape[:2], []), oof[:, :, rows].reshape(-1, len(rows), classes)
    equal = ensembles.equal_weights(*oof.shape[:2], 0, config["tta"]["weights"])
    kinds = (config["tta"]["average"], config["ensemble"]["average"], False)
    probabilities = ensembles.blend(stack, members, equal, *kinds)
    judge = metrics.Judge("log_loss", "single", info["classes"])
    found = tuning.tune(probabilities, targets[rows], parts[rows], judge, config["tuning"])
    print(f"{path}: {len(rows)} labelled pictures, {len(test)} test pictures, torch {torch.__version__}\n")
    for step in found.steps:
        print(
            "{what} {value:.4g}: out-of-fold log loss {before:.4f}, cross-fitted {after:.4f}, used: {used}".format(
                **step
            )
        )
    print("\n| out of fold | log loss | accuracy |\n|---|---|---|")
    alone = [metrics.log_loss(p, targets[rows]) for p in stack]
    best = int(np.argmin(alone))
    print(told(f"best single member ({members[best].name})", stack[best], targets[rows]))
    print(told("snapshots and views, averaged", probabilities, targets[rows]))
    print(told("and calibrated", found.probabilities, targets[rows]))
    losses = np.array([metrics.log_loss(p, truth) for _, _, p in each])
    mean = np.mean([p for *_, p in each], 0)
    calibrated = tuning.with_temperature(mean, found.values["temperature"], False)
    lucky = int(losses.argmin())
    print("\n| test | log loss | accuracy |\n|---|---|---|")
    print(told(f"best single member, seen afterwards ({each[lucky][0]})", each[lucky][2], truth))
    cycle, view = divmod(best, views)
    chosen = [p for _, key, p in each if key == (cycle, view)]
    print(
        f"| mean of the single members that out-of-fold loss would choose | {np.mean([metrics.log_loss(p, truth) for p in chosen]):.4f} | {np.mean([metrics.accuracy(p, truth) for p in chosen]):.4f} |"
    )
    print(
        f"| mean of all {len(each)} single members | {losses.mean():.4f} | {np.mean([metrics.accuracy(p, truth) for *_, p in each]):.4f} |"
    )
    print(told("all members, averaged", mean, truth))
    print(told("and calibrated", calibrated, truth))
    gain = -np.log(calibrated[np.arange(len(truth)), truth]) + np.log(each[lucky][2][np.arange(len(truth)), truth])
    print(
        f"\nloss of the calibrated ensemble minus that of the best member: {gain.mean():+.4f} ± {gain.std(ddof=1) / len(gain) ** 0.5:.4f} (standard error over pictures)"
    )


if __name__ == "__main__":
    main(sys.argv[1])
