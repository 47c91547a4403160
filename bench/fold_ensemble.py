r"""What calibration and the ensemble are worth: figures of finished runs of one config, for several seeds.

    for seed in 0 1 2; do
      snakemake results/folds_seed$seed/metrics.json --cores all --configfile examples/ants_bees_folds.yaml \
        --config seed=$seed run=folds_seed$seed
    done
    python bench/fold_ensemble.py examples/ants_bees_folds.yaml folds_seed0 folds_seed1 folds_seed2

Reads the predictions that each run keeps (fold x snapshot x view), and prints two tables. Out-of-fold log loss with and
without the calibration, cross-fitted as in `evaluate`, of one network and of the ensemble. And log loss and accuracy on
the test pictures, whose labels (the names of their folders) no run has read: of the members alone and of their mean.
Differences are over pictures: a picture's mean over the seeds, then mean and standard error.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from eightfold import ensembles, manifest, metrics, tensors, tuning
from eightfold.config import check_yaml_file, resolve
from eightfold.plan import Plan


class Answers(NamedTuple):
    """What a run answered: oof (snapshots, views, n, classes), the fold that held out each of the n rows, their labels;
    test (folds, snapshots, views, m, classes) and the m true labels."""

    plan: Plan
    oof: np.ndarray
    parts: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    truth: np.ndarray

    def blended(self, p: np.ndarray) -> np.ndarray:
        """Snapshots and views (snapshots, views, n, classes) averaged as `evaluate` averages them."""
        config, members = self.plan.config, ensembles.members_of(*p.shape[:2], [])
        weights = ensembles.equal_weights(*p.shape[:2], 0, config["tta"]["weights"])
        kinds = (config["tta"]["average"], config["ensemble"]["average"], False)
        return ensembles.blend(p.reshape(-1, *p.shape[2:]), members, weights, *kinds)


def answers(config: dict, run: str) -> Answers:
    plan = Plan(config | {"run": run})
    table, info = manifest.read_manifest(plan.data_folder)

    def read(fold: str, split: str) -> tuple[np.ndarray, np.ndarray]:
        found = tensors.load(f"{plan.run}/fold{fold}/predictions/{split}.safetensors")
        return found["rows"].numpy(), metrics.softmax(found["logits"].numpy().astype(np.float64))

    held_out = [read(fold, "valid") for fold in plan.held_out]
    to_predict = [read(fold, "test") for fold in plan.held_out]
    rows = np.concatenate([found[0] for found in held_out])
    # By row, as `evaluate` has them: runs of other seeds hold out the rows in another order.
    order = np.argsort(rows)
    parts = np.repeat(np.arange(len(held_out)), [len(found[0]) for found in held_out])[order]
    oof = np.concatenate([found[1] for found in held_out], 2)[:, :, order]
    truth = [info["classes"].index(Path(table["path"].iloc[row]).parent.name) for row in to_predict[0][0]]
    labels = manifest.targets(table, info)[rows[order]]
    return Answers(plan, oof, parts, labels, np.stack([found[1] for found in to_predict]), np.array(truth))


def loss_of_each(p: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Log loss of every picture (n,), of probabilities (n, classes)."""
    return -np.log(np.maximum(p[np.arange(len(truth)), truth], tuning.TINY))


def told(differences: list[np.ndarray]) -> str:
    """Differences of log loss by seed and picture: mean and standard error over pictures."""
    found = np.mean(differences, 0)
    return f"{found.mean():+.4f} ± {found.std(ddof=1) / len(found) ** 0.5:.4f}"


def each(values: list[float], digits: int = 3) -> str:
    return " / ".join(f"{value:.{digits}f}" for value in values)


def calibration(runs: list[Answers]) -> None:
    """One network and the ensemble, before and after the cross-fitted temperature."""
    some = {
        "last snapshot, plain view": lambda run: run.oof[-1:, :1],
        "last snapshot, mean of {views} views": lambda run: run.oof[-1:],
        "mean of {snapshots} snapshots x {views} views": lambda run: run.oof,
    }
    print("| what is calibrated | before | after | temperature | difference |\n|---|---|---|---|---|")
    for name, part in some.items():
        before, after, temperatures, differences = [], [], [], []
        for run in runs:
            p = run.blended(part(run))
            cooled = tuning.cross_fitted(
                tuning.fit_temperature, lambda t, p, _: tuning.with_temperature(p, t, False), run.parts, p, run.labels
            )
            losses = loss_of_each(p, run.labels), loss_of_each(cooled, run.labels)
            before.append(losses[0].mean())
            after.append(losses[1].mean())
            temperatures.append(tuning.fit_temperature(p, run.labels))
            differences.append(losses[1] - losses[0])
        name = name.format(snapshots=runs[0].oof.shape[0], views=runs[0].oof.shape[1])
        print(f"| {name} | {each(before)} | {each(after)} | {each(temperatures, 2)} | {told(differences)} |")


def ensemble(runs: list[Answers]) -> None:
    """Members alone, those that out-of-fold loss or hindsight chooses, and all averaged, on the test pictures."""
    names = ["mean of the single members", "the member that out-of-fold loss chooses", "the best member, in hindsight"]
    names.append("all averaged, as submitted")
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    against: dict[str, list[np.ndarray]] = {name: [] for name in names[:-1]}
    for run in runs:
        chosen = _least(run.oof, run.labels)
        found = tuning.tune(
            run.blended(run.oof),
            run.labels,
            run.parts,
            metrics.Judge("log_loss", "single", ["", ""]),
            run.plan.config["tuning"],
        )
        mean = np.mean([run.blended(p) for p in run.test], 0)
        mean = tuning.with_temperature(mean, found.values["temperature"], False)
        single = run.test.reshape(-1, *run.test.shape[3:])
        of_folds = run.test[:, chosen[0], chosen[1]]
        lucky = single[min(range(len(single)), key=lambda i: loss_of_each(single[i], run.truth).mean())]
        for name, members in zip(names, [single, of_folds, lucky[None], mean[None]], strict=True):
            losses = np.mean([loss_of_each(p, run.truth) for p in members], 0)
            accuracy = np.mean([metrics.accuracy(p, run.truth) for p in members])
            figures[name].append((losses.mean(), accuracy))
            if name in against:
                against[name].append(loss_of_each(mean, run.truth) - losses)
    print("\n| on the test pictures | log loss | accuracy | ensemble minus it |\n|---|---|---|---|")
    for name in names:
        losses, accuracies = zip(*figures[name], strict=True)
        print(f"| {name} | {each(losses)} | {each(accuracies)} | {told(against[name]) if name in against else ''} |")


def _least(oof: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """(snapshot, view) of least out-of-fold log loss."""
    losses = [[metrics.log_loss(p, labels) for p in views] for views in oof]
    return np.unravel_index(np.argmin(losses), oof.shape[:2])


def main(path: str, runs: list[str]) -> None:
    config = resolve(check_yaml_file(path), path)
    read = [answers(config, run) for run in runs]
    folds, snapshots, views, pictures = read[0].test.shape[:4]
    print(
        f"{path}: {len(read[0].labels)} labelled pictures in {folds} folds, {snapshots} snapshots, {views} views; "
        f"{pictures} test pictures; runs {', '.join(runs)}\n"
    )
    calibration(read)
    ensemble(read)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
