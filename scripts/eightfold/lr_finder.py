"""The learning-rate finder (Smith 2015): a sweep of one mini-batch a step, and three rules that read its curve."""

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from eightfold import regularise, schedules
from eightfold.devices import Device
from eightfold.randomness import seed_for
from eightfold.runtime import progress
from eightfold.training import Stepper, epoch_batches

FALLBACK_LR = 0.01  # the lesson's usual rate; used, and said, where the curve suggests none
_BETA = 0.98  # of the debiased average that decides when to stop, as in fastai 0.7
_EXPLODED = 4.0  # stop above this many times the best smoothed loss ...
_SETTLED = 10  # ... where the best counts from this step on
_SKIP_FIRST, _SKIP_LAST = 10, 5  # points that neither the plot nor the rules look at, as in 0.7


def sweep(
    net: nn.Module,
    source: Callable[[np.ndarray, int], torch.Tensor],
    targets: np.ndarray,
    train_rows: np.ndarray,
    stage: dict,
    steps: int,
    start: float,
    end: float,
    batch_size: int,
    seed: int,
    device: Device,
    bn_freeze: bool,
) -> tuple[list[float], list[float]]:
    """Learning rates of the last layer group and the loss before each step, on a copy: ``net`` is left as it was.

    Stops at a loss that is no number or four times the best. A short epoch is gone through again, in a new order.
    """
    net = copy.deepcopy(net).to(device.device, memory_format=torch.channels_last)
    stepper = Stepper(net, device, bn_freeze, stage, regularise.loss_for(stage, targets, train_rows))
    ratios = schedules.group_lrs(1.0, stage["lr_ratio"], len(stepper.optimizer.param_groups))
    all_targets = torch.from_numpy(targets).to(device.device)
    name = f"{stage['name']} lr_find"
    per_epoch = schedules.batches_of(len(train_rows), batch_size)
    lrs, losses, average, best = [], [], 0.0, math.inf
    for step in progress(range(steps), steps, name, " batches"):
        epoch, i = divmod(step, per_epoch)
        if i == 0:
            batches = epoch_batches(train_rows, batch_size, seed, name, epoch)
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


def suggest(lrs: Sequence[float], losses: Sequence[float], rule: str) -> dict:
    """Read a sweep: the smoothed losses, the suggestion of each rule, the one chosen (None without a clear fall).

    minimum: a tenth of the rate at the lowest smoothed loss (the notes' rule). steepest: where the smoothed loss falls
    fastest per decade. valley: fastai 2's. A fall is clear when it exceeds three standard errors of the smoothed curve.
    """
    result = {
        "lrs": list(lrs),
        "losses": list(losses),
        "smoothed": smooth(losses).tolist() if len(losses) else [],
        "rule": rule,
        "suggestions": {"minimum": None, "steepest": None, "valley": None},
        "lr": None,
    }
    first, last = _SKIP_FIRST, len(lrs) - _SKIP_LAST
    if last - first < 5:
        return result | {"message": f"the sweep ended after {len(lrs)} steps, too few to read: start from a lower rate"}
    x, raw, y = (np.asarray(values, float)[first:last] for values in (lrs, losses, result["smoothed"]))
    lowest = int(y.argmin())
    effective = max(1.0, len(losses) / 20) * 2
    error = float(np.std(raw[: lowest + 1] - y[: lowest + 1])) / math.sqrt(effective) if lowest else 0.0
    fall = float(y[0] - y[lowest])
    if fall <= max(3 * error, 0.01 * abs(y[0])):
        return result | {
            "message": f"the loss never clearly falls (from {y[0]:.3g} to {y[lowest]:.3g}, error {error:.2g}): no suggestion. "
            "The net may be trained already, or lr_find.steps too few"
        }
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
