"""The learning-rate finder: a sweep of one mini-batch a step (Smith 2015) with three rules that read its curve, and, for
heads on cached activations, trials: the stage itself trained at a few rates and judged on train images held back."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch

from eightfold.config import schedules
from eightfold.config.schedules import INNER_FOLDS, MOST_TRIAL_STEPS
from eightfold.core.devices import Device
from eightfold.core.randomness import generator, seed_for
from eightfold.core.runtime import counted, progress
from eightfold.inputs import stratify
from eightfold.net import heads, nets, scoring
from eightfold.train import regularise
from eightfold.train.answers import compute_logits
from eightfold.train.batches import draw_batches
from eightfold.train.setting import How, Setting
from eightfold.train.stepping import Stepper

TRIED = {"sgd": [0.001, 0.003, 0.01, 0.03, 0.1], "adamw": [0.0001, 0.0003, 0.001, 0.003, 0.01]}
# Taken, and said, where the curve suggests none: a third of the lesson's usual rates (docs/experiments.md), since a network whose
# loss no rate lowers clearly has learned already.
CAUTIOUS_LR = {"sgd": 0.003, "adamw": 0.0003}
CLEARLY = 3.0  # standard errors by which a rate has to be behind the best to be tried on no further split
MOST_TRIAL_IMAGES = 10_000  # the trials look at no more images than this
_CLIP = (
    2.0  # a loss counts as at most so many times the loss at the start: an explosion says no more than that it is one
)
_INFINITE = 1e6  # nats, of a network that has no finite answer
_SAFE = 30  # where the curve suggests nothing, the rate is this many times below the one at which the loss rises
_BETA = 0.98  # of the debiased average that decides when to stop, as in fastai 0.7
_EXPLODED = 4.0  # stop above this many times the best smoothed loss ...
_SETTLED = 10  # ... where the best counts from this step on
_SKIP_FIRST, _SKIP_LAST = 10, 5  # points that neither the plot nor the rules look at, as in 0.7


def find_rate(setting: Setting, stage: dict, how: How, finder: dict, units: np.ndarray | None) -> dict:
    """The rate that a stage is to learn at, ``lr``, and how it was found: `suggest`'s answer, where trials replace it `choose`'s.

    finder: steps (a number or auto) and the rates start and end of the sweep, and the rule that reads it. units: as in
    `inner_splits`; None where no rates are tried. A stage too short for a sweep has the cautious rate.
    """
    batches, optimizer = schedules.batches_of(len(setting.train_rows), how.batch_size), stage["optimizer"]
    steps = schedules.finder_steps(finder["steps"], batches, stage)
    swept = sweep(setting, stage, how, steps, finder["start"], finder["end"]) if steps else ([], [])
    found = suggest(*swept, finder["rule"], optimizer)
    if not steps:
        found["message"] = (
            f"the stage makes {batches * schedules.stage_epochs(stage)} steps, too few for a sweep that costs no more than "
            f"the stage; the cautious rate of {optimizer} is taken: {found['lr']:.3g}"
        )
    splits = [] if units is None else inner_splits(setting.targets, setting.train_rows, units, how.seed)
    if splits:
        # A new head: one that an earlier stage trained has seen the images which are held back here.
        new = heads.head(setting.net[0].num_features, len(setting.classes), seed_for(how.seed, "head"))
        found |= choose(try_rates(setting._replace(net=new), splits, stage, how), TRIED[optimizer])
    return found


# ---- the sweep


def sweep(
    setting: Setting, stage: dict, how: How, steps: int, start: float, end: float
) -> tuple[list[float], list[float]]:
    """Learning rates of the last layer group and the loss before each step, on a copy: the setting's net stays as it was.

    Stops at a loss that is not a number or four times the best. A short epoch is gone through again, in a new order.
    """
    source, targets, train_rows, seed, device = (
        setting.source,
        setting.targets,
        setting.train_rows,
        how.seed,
        how.device,
    )
    net = copy.deepcopy(setting.net).to(device.device, memory_format=torch.channels_last)
    stepper = Stepper(net, device, how.bn_freeze, stage, regularise.loss_for(stage, targets, train_rows))
    ratios = schedules.group_lrs(1.0, stage, len(nets.rate_groups(net, stage)))
    all_targets = torch.from_numpy(targets).to(device.device)
    name = f"{stage['name']} lr_find"
    per_epoch = schedules.batches_of(len(train_rows), how.batch_size)
    lrs, losses, average, best = [], [], 0.0, math.inf
    for step in progress(range(steps), steps, name, " batches"):
        epoch, i = divmod(step, per_epoch)
        if i == 0:
            batches = draw_batches(train_rows, how.batch_size, seed, name, epoch)
        view = schedules.view_of(stage, epoch)
        lr = schedules.finder_lr(step, steps, start, end)
        loss = stepper(
            source(batches[i], view),
            all_targets[torch.from_numpy(batches[i])],
            [lr * ratio for ratio in ratios],
            seed_for(seed, "dropout", name, step),
        )
        if not math.isfinite(loss):
            break
        lrs.append(lr)
        losses.append(loss)
        average = _BETA * average + (1 - _BETA) * loss
        debiased = average / (1 - _BETA ** (step + 1))
        if step >= _SETTLED:
            best = min(best, debiased)
            # The average lags: a loss that is itself far above has exploded already.
            if debiased > _EXPLODED * best:
                break
    return lrs, losses


def smooth(losses: Sequence[float]) -> np.ndarray:
    """Losses averaged over their neighbours on both sides: exponential weights, a twentieth of the sweep wide, debiased.

    One-sided, as in 0.7, the average would lag by tens of batches and shift every suggestion up.
    """
    n = len(losses)
    distance = np.abs(np.arange(n)[:, None] - np.arange(n))
    weights = np.exp(-distance / max(1.0, n / 20))
    return weights @ np.asarray(losses) / weights.sum(1)


def clipped(losses: Sequence[float]) -> np.ndarray:
    """Losses of at most _CLIP times their mean at the start, so that smoothing does not carry an explosion to its left."""
    return np.minimum(losses, _CLIP * np.mean(losses[:_SKIP_FIRST])) if len(losses) else np.empty(0)


def _rises_at(lrs: np.ndarray, losses: np.ndarray, error: float) -> float | None:
    """The rate from which on the smoothed loss stays above its start, by a tenth and three errors; None: it never does."""
    above = losses > losses[0] + max(0.1 * abs(losses[0]), 3 * error)
    if not above[-1]:
        return None
    below = np.flatnonzero(~above)
    return float(lrs[below[-1] + 1])


def _valley(lrs: np.ndarray, losses: np.ndarray) -> float:
    """fastai 2's "valley": the middle of the longest falling run (as a subsequence), half into its second third."""
    longest = np.ones(len(losses), dtype=int)
    for i in range(1, len(losses)):
        above = longest[:i][losses[:i] > losses[i]]
        if len(above):
            longest[i] = above.max() + 1
    end = int(longest.argmax())
    start = end - longest[end]
    third = (end - start) / 3
    return float(lrs[max(0, start) + int(third) + int(third / 2)])


def suggest(lrs: Sequence[float], losses: Sequence[float], rule: str, optimizer: str = "sgd") -> dict:
    """Read a sweep: the smoothed losses, the suggestion of each rule, and the rate to take, ``lr``.

    minimum: a tenth of the rate at the lowest smoothed loss (the notes' rule). steepest: where the smoothed loss falls
    fastest per decade. valley: fastai 2's. A fall is clear when it exceeds three standard errors of the smoothed curve.
    Without one no rule suggests anything, and ``lr`` is the optimizer's cautious rate, or, where the loss rises early, a
    thirtieth of the rate from which on it is above its start.
    """
    cautious = CAUTIOUS_LR[optimizer]
    result = {
        "lrs": list(lrs),
        "losses": list(losses),
        "smoothed": smooth(clipped(losses)).tolist(),
        "rule": rule,
        "suggestions": {"minimum": None, "steepest": None, "valley": None},
        "lr": cautious,
        "tried": [],
    }
    first, last = _SKIP_FIRST, len(lrs) - _SKIP_LAST
    if last - first < 5:
        if len(lrs):  # it exploded within a few steps
            result["lr"] = min(cautious, lrs[-1] / _SAFE)
        return result | {
            "message": f"the sweep ended after {len(lrs)} steps, too few to read; {result['lr']:.3g} is taken"
        }
    x, raw, y = (np.asarray(v, float)[first:last] for v in (lrs, clipped(losses), result["smoothed"]))
    lowest = int(y.argmin())
    effective = max(1.0, len(losses) / 20) * 2
    error = float(np.std(raw[: lowest + 1] - y[: lowest + 1])) / math.sqrt(effective) if lowest else 0.0
    fall = float(y[0] - y[lowest])
    if fall <= max(3 * error, 0.01 * abs(y[0])):
        rises = _rises_at(x, y, error)
        message = f"the loss never clearly falls (from {y[0]:.3g} to {y[lowest]:.3g}, error {error:.2g}), so no rule suggests a rate"
        if rises is not None and rises / _SAFE < cautious:
            result["lr"] = rises / _SAFE
            return result | {
                "message": f"{message}; it rises from {rises:.3g} on, and a thirtieth of that is taken: {result['lr']:.3g}"
            }
        return result | {"message": f"{message}; the cautious rate of {optimizer} is taken: {cautious:.3g}"}
    slope = np.gradient(y, np.log10(x))
    suggestions = {
        "minimum": float(x[lowest]) / 10,
        "steepest": float(x[int(slope[: lowest + 1].argmin())]),
        "valley": _valley(x[: lowest + 1], y[: lowest + 1]),
    }
    message = (
        f"the loss falls from {y[0]:.3g} to {y[lowest]:.3g} at {x[lowest]:.3g}; {rule} suggests {suggestions[rule]:.3g}"
    )
    return result | {"suggestions": suggestions, "lr": suggestions[rule], "message": message}


# ---- trials


def inner_splits(
    targets: np.ndarray, rows: np.ndarray, units: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (rows to learn from, rows to judge by) of some train rows: INNER_FOLDS of them, or as many as there are units.

    targets: of every row of the manifest. units: a number per row of the manifest; rows that share it (a group, images
    of the same bytes) stay together. Classes are spread evenly. Each row judges once, apart from those beyond
    MOST_TRIAL_IMAGES, drawn by the seed, which are left out. No pair where all rows are one unit.
    """
    source = generator(seed, "lr_find", "inner")
    _, unit, sizes = np.unique(units[rows], return_inverse=True, return_counts=True)
    if len(rows) > MOST_TRIAL_IMAGES:
        order = source.permutation(len(sizes))
        kept = order[: max(2, np.searchsorted(np.cumsum(sizes[order]), MOST_TRIAL_IMAGES, "right"))]
        chosen = np.isin(unit, kept)
        rows = rows[chosen]
        _, unit, sizes = np.unique(unit[chosen], return_inverse=True, return_counts=True)
    count = min(INNER_FOLDS, len(sizes))
    if count < 2:
        return []
    fold = stratify.inner(targets[rows], unit, count, int(source.integers(2**31)))
    return [(rows[fold != i], rows[fold == i]) for i in range(count)]


def try_rates(setting: Setting, splits: Sequence[tuple[np.ndarray, np.ndarray]], stage: dict, how: How) -> np.ndarray:
    """Losses (images judged, rates) after training copies of the setting's head through the stage at each rate of TRIED, in nats.

    The stage's own schedule, views, sampler and loss; its last weights, whatever its averaging. As many of the splits
    are used, one at least, as keep to MOST_TRIAL_STEPS. A training that ends in no number counts as an infinite loss; so does a
    rate on all splits after one that showed it to be worse than the best by more than CLEARLY standard errors.
    """
    rates, found, steps = TRIED[stage.get("optimizer", "sgd")], [], 0
    with counted(len(splits) * len(rates), f"{stage['name']} lr_find", " trials") as done:
        for number, (train_rows, judged) in enumerate(splits):
            if number and steps * (number + 1) / number > MOST_TRIAL_STEPS:
                break
            found.append(np.full((len(judged), len(rates)), np.inf))
            behind = _standard_errors_behind(np.concatenate(found[:-1])) if number else np.zeros(len(rates))
            for column, lr in enumerate(rates):
                if behind[column] > CLEARLY:
                    done()
                    continue
                trial = setting._replace(net=copy.deepcopy(setting.net).to(how.device.device), train_rows=train_rows)
                steps += _train(trial, stage, lr, how._replace(seed=seed_for("lr_find", how.seed, number)))
                found[-1][:, column] = _losses_of(trial, judged, stage, how.device)
                done()
    return np.concatenate(found)


def _train(setting: Setting, stage: dict, lr: float, how: How) -> int:
    """Train a head through a stage in place, in silence, and give the steps made. The seed fixes order and dropout."""
    net, source, targets, rows = setting.net, setting.source, setting.targets, setting.train_rows
    per_epoch = schedules.batches_of(len(rows), how.batch_size)
    lengths = schedules.trained_lengths(stage, per_epoch)
    stepper = Stepper(net, how.device, False, stage, regularise.loss_for(stage, targets, rows))
    weights = regularise.sampling_weights(targets[rows]) if stage.get("sampler") == "balanced" else None
    all_targets, step = torch.from_numpy(targets).to(how.device.device), 0
    for epoch in range(sum(lengths)):
        for batch in draw_batches(rows, how.batch_size, how.seed, stage["name"], epoch, weights):
            rate = lr * schedules.factor(stage, step, per_epoch, lengths)
            inputs, wanted = source(batch, schedules.view_of(stage, epoch)), all_targets[torch.from_numpy(batch)]
            loss = stepper(inputs, wanted, [rate], seed_for(how.seed, "dropout", step))
            step += 1
            if not math.isfinite(loss):
                return step
    return step


def _losses_of(setting: Setting, rows: np.ndarray, stage: dict, device: Device) -> np.ndarray:
    """Log loss of each of some rows, float64 (rows,): nats, the mean over the labels where there are several.

    Where the stage makes classes count alike, so does this. What is not a number counts as _INFINITE.
    """
    targets = setting.targets
    logits, wanted = compute_logits(setting.net, setting.source, rows, 0, device), targets[rows]
    losses = scoring.row_losses(logits, wanted)
    if "balanced" in (stage.get("class_weights"), stage.get("sampler")) and targets.ndim == 1:
        losses *= regularise.balanced_weights(targets[setting.train_rows], regularise.classes_of(targets))[wanted]
    return np.nan_to_num(losses, nan=_INFINITE, posinf=_INFINITE)


def _standard_errors_behind(losses: np.ndarray) -> np.ndarray:
    """By how many standard errors of the paired difference each rate's mean loss is above the lowest: (rates,).

    losses: (images, rates); infinite where a rate was not tried, or diverged.
    """
    means = losses.mean(0)
    apart = losses - losses[:, [int(means.argmin())]]
    behind = np.where(np.isfinite(means), 0.0, np.inf)
    for rate in np.flatnonzero(np.isfinite(means) & (means > means.min())):
        error = apart[:, rate].std(ddof=1) / math.sqrt(len(losses)) if len(losses) > 1 else np.inf
        behind[rate] = apart[:, rate].mean() / error if error > 0 else np.inf
    return behind


def choose(losses: np.ndarray, rates: Sequence[float]) -> dict:
    """What trials say: the keys rule, lr, tried and message of `suggest`'s answer, which these replace.

    losses: (images judged, rates), as `try_rates` gives them. The rate is a geometric mean of those tried: each weighs
    exp(-z^2 / 2), where z is by how many standard errors its mean loss is above the lowest (differences image by
    image). A rate that is clearly best is taken as it is, and between rates that the images cannot tell apart lies the choice.
    """
    means = losses.mean(0)
    best = int(means.argmin())
    weights = np.exp(-(_standard_errors_behind(losses) ** 2) / 2)
    lr = float(np.exp(weights @ np.log(rates) / weights.sum()))
    tried = [
        {"lr": float(rate), "loss": float(mean), "error": float(np.std(of) / math.sqrt(len(of)))}
        for rate, mean, of in zip(rates, means, losses.T, strict=True)
        if math.isfinite(mean)
    ]
    listed = ", ".join(f"{row['lr']:.3g}: {row['loss']:.3g}" for row in tried)
    message = (
        f"the stage was trained at {len(rates)} rates and judged on {len(losses)} train images held back (log loss at {listed}); "
        f"lowest at {rates[best]:.3g}, and {lr:.3g} is taken, the mean of the rates that are about as good"
    )
    return {"rule": "trials", "lr": lr, "tried": tried, "message": message}
