"""What calibration and the ensemble are worth, for a run whose last stage is a head on the starting network.

    snakemake results/ants_bees_folds/fold{0,1,2,3,4}/head/stage.json --cores 1 --configfile examples/ants_bees_folds.yaml
    python bench/fold_ensemble.py examples/ants_bees_folds.yaml

Out-of-fold log loss of the labelled pictures with and without the calibration, cross-fitted as in `evaluate`, of one network
and of all; then log loss and accuracy on the test pictures, whose labels (the names of their folders) nothing before this
script has read: of every member (fold x snapshot x view) alone and of their mean. The trunk sees each picture and view once
for all folds. The differences have standard errors over pictures.
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
from eightfold.sources import Views


def line(name: str, p: np.ndarray, truth: np.ndarray) -> str:
    return f"| {name} | {metrics.log_loss(p, truth):.4f} | {metrics.accuracy(p, truth):.4f} |"


def loss_of_each(p: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Log loss of every picture (n,), of probabilities (n, classes)."""
    return -np.log(np.maximum(p[np.arange(len(truth)), truth], tuning.TINY))


def apart(p: np.ndarray, other: np.ndarray, truth: np.ndarray) -> str:
    """How much less log loss ``p`` has than ``other``: mean and standard error over the pictures."""
    found = loss_of_each(p, truth) - loss_of_each(other, truth)
    return f"{found.mean():+.4f} ± {found.std(ddof=1) / len(found) ** 0.5:.4f}"


def answers(plan: Plan, table, test: np.ndarray, here) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (snapshots, views, rows, classes) of the rows held out, those of the test rows of each fold
    (folds, snapshots, views, test rows, classes), and the fold that holds out each row, -1 for none."""
    config, stage, size = plan.config, plan.last_stage, plan.stages[plan.last_stage]["size"]
    weights, classes = (
        read_json(f"{plan.weights_folder}/weights.json"),
        manifest.read_manifest(plan.data_folder)[1]["classes"],
    )
    trunk = nets.trunk_outline(config["model"]["arch"])
    nets.load_part(trunk, f"{plan.weights_folder}/trunk.safetensors", "trunk")
    trunk.to(here.device, memory_format=torch.channels_last).eval()
    pixels, what = Pixels(plan.pixels_folder(size)), (config["augmentation"], config["seed"])
    source, snapshots = Views(pixels, size, *what, weights["mean"], weights["std"], here), plan.stages[stage]["cycles"]
    # By pixels, not by the activations of the stage: one that is not augmented has those of the plain view alone.
    views = range(1 + config["tta"]["views"])
    seen = [inference.outputs(trunk, source, np.arange(len(table)), view, here).to(here.device) for view in views]
    of_folds, parts = folds.read_folds(f"{plan.run}/folds.csv"), np.full(len(table), -1)
    oof = np.zeros((snapshots, len(views), len(table), len(classes)))
    of_test = np.empty((len(plan.held_out), snapshots, len(views), len(test), len(classes)))
    head = nets.head(trunk.features, len(classes), 0).to(here.device).eval()
    for number, fold in enumerate(plan.held_out):
        _, held = folds.train_valid_rows(of_folds, fold)
        parts[held] = number
        for cycle in range(snapshots):
            path = f"{plan.run}/fold{fold}/{stage}/snapshots.safetensors"
            nets.load_part(head, path, f"snapshot{cycle + 1}.head")
            with torch.inference_mode():
                for view in views:
                    p = metrics.softmax(head(seen[view]).cpu().numpy())
                    oof[cycle, view, held], of_test[number, cycle, view] = p[held], p[test]
    return oof, of_test, parts


def main(path: str) -> None:
    logging.getLogger("eightfold").setLevel(logging.WARNING)
    plan = Plan(resolve(check_yaml_file(path), path))
    config, (table, info) = plan.config, manifest.read_manifest(plan.data_folder)
    test = np.flatnonzero(table["split"] == "test")
    truth = np.array([info["classes"].index(Path(table["path"].iloc[row]).parent.name) for row in test])
    with device(config["device"]["kind"], config["device"]["precision"]) as here:
        oof, of_test, parts = answers(plan, table, test, here)
    rows, judge = np.flatnonzero(parts >= 0), metrics.Judge("log_loss", "single", info["classes"])
    oof, parts, labels = oof[:, :, rows], parts[rows], manifest.targets(table, info)[rows]
    print(f"{path}: {len(rows)} labelled pictures, {len(test)} test pictures, torch {torch.__version__}\n")

    def blended(p: np.ndarray) -> np.ndarray:
        """Snapshots and views (snapshots, views, n, classes) averaged as `evaluate` averages them."""
        members = ensembles.members_of(*p.shape[:2], [])
        equal = ensembles.equal_weights(*p.shape[:2], 0, config["tta"]["weights"])
        kinds = (config["tta"]["average"], config["ensemble"]["average"], False)
        return ensembles.blend(p.reshape(-1, *p.shape[2:]), members, equal, *kinds)

    print("| what is calibrated | before | after | temperature | difference | used |\n|---|---|---|---|---|---|")
    last = {"last snapshot, plain view": oof[-1:, :1], f"last snapshot, {oof.shape[1]} views": oof[-1:]}
    for name, some in (last | {f"{oof.shape[0]} snapshots x {oof.shape[1]} views": oof}).items():
        p = blended(some)
        step = tuning.tune(p, labels, parts, judge, config["tuning"] | {"temperature": True}).steps[0]
        cooled = tuning.cross_fitted(
            tuning.fit_temperature, lambda t, p, _: tuning.with_temperature(p, t, False), parts, p, labels
        )
        cells = f"{step['before']:.4f} | {step['after']:.4f} | {step['value']:.3g} | {apart(cooled, p, labels)}"
        print(f"| {name} | {cells} | {'yes' if step['used'] else 'no'} |")
    found = tuning.tune(blended(oof), labels, parts, judge, config["tuning"])

    members, alone = (
        ensembles.members_of(*oof.shape[:2], []),
        [metrics.log_loss(p, labels) for p in oof.reshape(-1, *oof.shape[2:])],
    )
    best = int(np.argmin(alone))
    cycle, view = divmod(best, oof.shape[1])
    print("\n| out of fold | log loss | accuracy |\n|---|---|---|")
    print(line(f"best single member ({members[best].name})", oof[cycle, view], labels))
    print(line("snapshots and views, averaged", blended(oof), labels))
    print(line("and tuned", found.probabilities, labels))

    each = of_test.reshape(-1, *of_test.shape[3:])
    mean = tuning.with_temperature(np.mean([blended(p) for p in of_test], 0), found.values["temperature"], False)
    losses = np.array([metrics.log_loss(p, truth) for p in each])
    accuracies = np.array([metrics.accuracy(p, truth) for p in each])
    chosen, luckiest = np.zeros(of_test.shape[:3], bool), each[losses.argmin()]
    chosen[:, cycle, view] = True
    chosen = chosen.ravel()
    print("\n| test | log loss | accuracy |\n|---|---|---|")
    print(f"| mean of all {len(each)} single members | {losses.mean():.4f} | {accuracies.mean():.4f} |")
    print(
        f"| the member that out-of-fold loss chooses ({members[best].name}), mean of the folds' "
        f"| {losses[chosen].mean():.4f} | {accuracies[chosen].mean():.4f} |"
    )
    lucky = np.unravel_index(losses.argmin(), of_test.shape[:3])
    name = f"fold {plan.held_out[lucky[0]]}, snapshot {lucky[1] + 1}, view {lucky[2]}"
    print(line(f"the best of them, known afterwards ({name})", luckiest, truth))
    print(line(f"all {len(each)}, averaged and tuned", mean, truth))
    over_folds = np.mean([loss_of_each(p, truth) for p in each[chosen]], 0)
    gain = loss_of_each(mean, truth) - over_folds
    print(
        f"\nlog loss of the ensemble minus that of the chosen member, mean of the folds': {gain.mean():+.4f} ± {gain.std(ddof=1) / len(gain) ** 0.5:.4f}"
    )
    print(f"log loss of the ensemble minus that of the best, known afterwards: {apart(mean, luckiest, truth)}")
    print("(standard errors over pictures)")


if __name__ == "__main__":
    main(sys.argv[1])
