r"""What is done to the answers of finished runs, measured: a temperature on the mean of the folds, the choice among networks.

    for seed in 0 1 2 3 4 5 6 7; do
      snakemake results/folds_seed$seed/metrics.json --cores all --configfile examples/ants_bees_folds.yaml \
        --config seed=$seed run=folds_seed$seed
    done
    python bench/experiments/answers.py temperature examples/ants_bees_folds.yaml folds_seed{0..7}
    python bench/experiments/answers.py choice examples/ants_bees.yaml ants_bees_seed{0..2}

`temperature`: log loss of the test images, whose labels (the names of their folders) no run has read, by the mean of the folds
with and without the temperature that out-of-fold predictions of single folds ask for; difference over seeds, ± its standard error.
`choice`: log loss of the held-out images, each answered by weights that were chosen without it, in six random divisions into five
parts; difference to the last stage's mean of views, over images (an image's mean over the seeds), ± its standard error.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from eightfold.config.plan import Plan
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.inputs import dataset
from eightfold.net import scoring
from eightfold.predict import ensembles, evaluation, tuning
from eightfold.predict.metrics import Judge

DIVISIONS = 6


def opened(config: dict, run: str) -> tuple[Plan, list[ensembles.Member], np.ndarray, object]:
    """A finished run: its plan, its members, the targets of all rows and the manifest."""
    plan = Plan(config | {"run": run})
    table, info = dataset.read_manifest(plan.data_folder)
    networks = [(stage["stage"], name) for stage in plan.candidates for name in stage["networks"]]
    members = ensembles.members_of(networks, 1 + config["tta"]["views"], [])
    return plan, members, dataset.targets(table, info), (table, info["classes"])


def answers(plan: Plan, members: list, split: str) -> list[evaluation.Answers]:
    paths = [f"{plan.run}/fold{fold}/predictions/{split}.safetensors" for fold in plan.held_out]
    return [evaluation.read_answers(path, members, plan.config["tta"], multi_label=False) for path in paths]


def with_error(values: np.ndarray) -> str:
    return f"{np.mean(values):+.4f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.4f}"


def temperature(config: dict, runs: list[str]) -> None:
    print("| what answers | out of fold | at its temperature | folds' mean | at that temperature | difference |")
    print("|---|---|---|---|---|---|")
    figures: dict[str, list[tuple]] = {}
    for run in runs:
        plan, members, targets, (table, classes) = opened(config, run)
        rows, fold, stack = evaluation.out_of_fold(answers(plan, members, "valid"))
        test = answers(plan, members, "test")
        truth = np.array([classes.index(Path(table["path"].iloc[row]).parent.name) for row in test[0].rows])
        last = max(i for i, member in enumerate(members) if member.views == 1)
        chosen = {"last network, plain view": [last], "last network, all views": [last + 1]}
        chosen["all networks, all views"] = [i for i, member in enumerate(members) if member.views > 1]
        for name, picked in chosen.items():
            single, mean = stack[picked].mean(0), np.mean([fold.stack[picked].mean(0) for fold in test], 0)
            found = tuning.fit_temperature(single, targets[rows])
            cooled = tuning.cross_fitted(
                tuning.fit_temperature,
                lambda t, p, _: tuning.with_temperature(p, t, False),
                fold,
                single,
                targets[rows],
            )
            losses = [scoring.log_loss(p, targets[rows]) for p in (single, cooled)]
            losses += [scoring.log_loss(p, truth) for p in (mean, tuning.with_temperature(mean, found, False))]
            figures.setdefault(name, []).append(tuple(losses))
    for name, of_runs in figures.items():
        table = np.array(of_runs)
        cells = " | ".join(f"{value:.3f}" for value in table.mean(0))
        print(f"| {name} | {cells} | {with_error(table[:, 3] - table[:, 2])} |")


def choice(config: dict, runs: list[str]) -> None:
    judge = Judge("log_loss", "single", ["", ""])

    def greedy(stack, truth):
        return ensembles.greedy(stack, lambda p: scoring.log_loss(p, truth), "arithmetic", multi_label=False)

    def best(stack, truth):
        return np.eye(len(stack))[np.argmin([scoring.log_loss(p, truth) for p in stack])]

    losses: dict[str, list[np.ndarray]] = {}
    for run in runs:
        plan, members, targets, _ = opened(config, run)
        rows, _, stack = evaluation.out_of_fold(answers(plan, members, "valid"))
        truth, equal = targets[rows], ensembles.Blend(members, ensembles.equal_weights(members), "arithmetic", False)
        methods = {
            "the one best member": best,
            "one greedy selection": greedy,
            "greedy, mean of samples (used)": lambda s, t, e=equal: evaluation.greedy_blend(s, t, e, judge).weights,
        }
        last = max(i for i, member in enumerate(members) if member.stage == plan.last_stage)
        found = {"last stage": scoring.losses(stack[last], truth), "all alike": scoring.losses(equal(stack), truth)}
        for name, fit in methods.items():
            divided = []
            for division in range(DIVISIONS):
                parts = np.random.default_rng(division).permutation(len(truth)) % 5
                said = tuning.cross_fitted(
                    lambda by_row, y, fit=fit: fit(by_row.swapaxes(0, 1), y),
                    lambda weights, by_row, _: np.tensordot(weights, by_row.swapaxes(0, 1), 1),
                    parts,
                    stack.swapaxes(0, 1),
                    truth,
                )
                divided.append(scoring.losses(said, truth))
            found[name] = np.mean(divided, 0)
        hindsight = min(stack, key=lambda p: scoring.log_loss(p, truth))
        found["the best member, known afterwards"] = scoring.losses(hindsight, truth)
        for name, values in found.items():
            losses.setdefault(name, []).append(values)
    print("| what answers | log loss, by seed | mean | against the last stage |\n|---|---|---|---|")
    for name, values in losses.items():
        seeds = " / ".join(f"{v.mean():.3f}" for v in values)
        change = np.mean(values, 0) - np.mean(losses["last stage"], 0)
        print(f"| {name} | {seeds} | {np.mean(values):.3f} | {with_error(change) if change.any() else ''} |")


def main(what: str, path: str, runs: list[str]) -> None:
    {"temperature": temperature, "choice": choice}[what](resolve(check_yaml_file(path), path), runs)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
