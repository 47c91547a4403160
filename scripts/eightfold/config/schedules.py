"""The learning rate of every mini-batch, in closed form."""

import math
from collections.abc import Mapping

RATES_TRIED = 5  # the finder trains a head at so many rates ...
INNER_FOLDS = 5  # ... holding back a fifth of the train images, in turn ...
MOST_TRIAL_STEPS = 3000  # ... as often as keeps all trials together to about so many optimiser steps, once at least


def cycle_lengths(cycles: int, cycle_len: int, cycle_mult: int) -> list[int]:
    """Epochs of each cycle: 3 cycles, length 1, multiplier 2 are [1, 2, 4]."""
    return [cycle_len * cycle_mult**cycle for cycle in range(cycles)]


def stage_epochs(stage: Mapping) -> int:
    """Epochs of a stage whose defaults are filled in: 3 cycles of length 1, each twice the one before, are 7."""
    cycles, length, mult = stage["cycles"], stage["cycle_len"], stage["cycle_mult"]
    return length * cycles if mult == 1 else length * (mult**cycles - 1) // (mult - 1)


def repeats(stage: Mapping, batches: int) -> int:
    """How often each epoch of a stage is gone through, so that it makes ``min_steps`` steps with ``batches`` an epoch.

    1 where the stage is long enough, or has no ``min_steps`` (0, null or absent). The views are those of the stage
    without repeats, in turn: no further activations are needed.
    """
    return max(1, math.ceil((stage.get("min_steps") or 0) / (batches * stage_epochs(stage))))


def trained_lengths(stage: Mapping, batches: int) -> list[int]:
    """Epochs of each cycle as they are trained: a cycle's own, times `repeats`."""
    times = repeats(stage, batches)
    return [times * length for length in cycle_lengths(stage["cycles"], stage["cycle_len"], stage["cycle_mult"])]


def view_of(stage: Mapping, epoch: int) -> int:
    """The view that an epoch (from 0) shows: 0, the plain one, or the stage's random views, again from the first where epochs repeat."""
    return stage["first_view"] + epoch % stage_epochs(stage) if stage["augment"] else 0


def batches_of(images: int, batch_size: int) -> int:
    """Mini-batches of an epoch, nearly equal: ceil(images / batch_size), or fewer where one would hold a single image.

    BatchNorm needs two. Equal parts, since a small last batch would take a whole step, and a tenth of BatchNorm's
    running figures, just before the network is validated.
    """
    return max(1, min(math.ceil(images / batch_size), images // 2))


def cycle_of(epoch: int, lengths: list[int]) -> int:
    """The cycle that an epoch (from 0) belongs to."""
    end = 0
    for cycle, length in enumerate(lengths):
        end += length
        if epoch < end:
            return cycle
    raise ValueError(f"epoch {epoch} is past the last of {sum(lengths)}")


def lr_factor(step: int, batches: int, lengths: list[int], slow_start: bool = True) -> float:
    """Learning rate of a step (from 0) as a factor of the stage's: SGDR (Loshchilov & Hutter 2017) as in fastai 0.7.

    (1 + cos(pi * i / nb)) / 2 over the i-th of the nb = batches * length mini-batches of a cycle; with ``slow_start``
    the first nb / 20 mini-batches of the first cycle run at a hundredth.
    """
    cycle = cycle_of(step // batches, lengths)
    nb = batches * lengths[cycle]
    i = step - batches * sum(lengths[:cycle])
    if slow_start and cycle == 0 and i < nb / 20:
        return 0.01
    return (1 + math.cos(math.pi * i / nb)) / 2


def one_cycle(step: int, total: int) -> float:
    """Learning rate of a step of ``total`` as a factor of the stage's (Smith 2018): up from 1/25 over the first quarter,
    down to nearly 0 over the rest, along half cosines."""
    peak = max(1.0, 0.25 * total)
    if step < peak:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * step / peak)) / 2
    return 1e-5 + (1 - 1e-5) * (1 + math.cos(math.pi * (step - peak) / max(1.0, total - peak))) / 2


def factor(stage: Mapping, step: int, batches: int, lengths: list[int]) -> float:
    """Learning rate of a step as a factor of the stage's, by its ``schedule`` (one_cycle takes the stage as one cycle).

    With ``warmup``, a share of the stage's steps, the rate rises in a straight line to the schedule's over them, in
    place of 0.7's slow start.
    """
    total, share = batches * sum(lengths), stage.get("warmup") or 0.0
    if stage.get("schedule") == "one_cycle":
        return one_cycle(step, total)
    risen = min(1.0, (step + 1) / max(1.0, share * total))
    return risen * lr_factor(step, batches, lengths, slow_start=not share)


def group_lrs(lr: float | list[float], stage: Mapping, groups: int) -> list[float]:
    """Rates of the layer groups, first to last; a list is as given, for the last ``groups`` of them.

    Each group learns ``lr_ratio`` times slower than the next, or, with ``layer_decay``, at that share of the next
    one's rate (Howard & Ruder 2018; Clark et al. 2020, where the groups are the network's blocks).
    """
    if isinstance(lr, list):
        if len(lr) < groups:
            raise ValueError(f"{len(lr)} learning rates for {groups} layer groups")
        return lr[-groups:]
    ratio = 1 / stage["layer_decay"] if stage.get("layer_decay") else stage["lr_ratio"]
    return [lr / ratio ** (groups - 1 - group) for group in range(groups)]


def finder_steps(steps: int | str, batches: int, stage: Mapping) -> int:
    """Steps of the learning-rate finder's sweep before a stage of ``batches`` an epoch; 0: it is left out.

    As configured, or one epoch, at least 100 of a head (which cost nothing) and 40 of all layers, at most 300. A sweep of
    all layers is never longer than the stage itself, and is left out where fewer than 20 steps would show no curve.
    """
    if steps != "auto":
        return steps
    if stage["train"] == "head":
        return min(max(batches, 100), 300)
    own = batches * stage_epochs(stage)
    return min(max(batches, 40), 300, own) if own >= 20 else 0


def trial_steps(stage: Mapping, batches: int) -> int:
    """About how many steps the trials of a head's rates make together, before a stage of ``batches`` an epoch."""
    of_a_split = RATES_TRIED * batches * sum(trained_lengths(stage, batches))
    return of_a_split * max(1, min(INNER_FOLDS, MOST_TRIAL_STEPS // of_a_split))


def finder_lr(step: int, steps: int, start: float, end: float) -> float:
    """Geometric sweep of the learning-rate finder: ``start`` at step 0, ``end`` at the last step."""
    return start * (end / start) ** (step / (steps - 1))
