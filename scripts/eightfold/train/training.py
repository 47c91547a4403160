"""One stage of training: a plain loop over mini-batches that can stop at any step and go on from it."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from eightfold.config import schedules
from eightfold.core.files import UserError
from eightfold.core.randomness import seed_for
from eightfold.core.runtime import log, progress, stops_at_a_step, terminated
from eightfold.train import regularise
from eightfold.train.answers import measure_held_back_loss
from eightfold.train.averaging import Average, refresh_batchnorm
from eightfold.train.batches import draw_batches, prepare_batch
from eightfold.train.distributed import Ranks
from eightfold.train.records import Records, describe_last_good, record_epoch, refuse_divergence
from eightfold.train.resume import read_state, write_state
from eightfold.train.setting import How, Setting
from eightfold.train.stepping import Stepper


def train(
    setting: Setting,
    stage: dict,
    lrs: Sequence[float],
    how: How,
    resume: Path,
    identity: str,
    snapshot: Callable[[int], None] = lambda cycle: None,
    ranks: Ranks | None = None,
) -> Records:
    """Train the setting's net through a stage, in place, and record each mini-batch and epoch.

    It ends as the stage's average, where there is one, or, `until` over-fitting, as the network of the best cycle: the stage
    then ends after the first cycle that does not lower the loss on the rows held back, or after all of its cycles.

    stage: name, augment, first_view, cycles, cycle_len, cycle_mult, and its options (min_steps, regularise, averaging),
    each off where absent. lrs: the rate of each of `nets.rate_groups` at the start of a cycle. resume: the file that holds
    an unfinished stage; written each epoch and on SIGTERM or SIGINT, refused unless it carries ``identity``. snapshot: called with the
    number of each cycle, from 1, when its last epoch has ended. ranks: the processes that train this stage together, each
    of which calls this; the first alone writes.

    Raises UserError when the loss is not a number, naming step, rate and images; SystemExit after SIGTERM or SIGINT.
    """
    net, source, targets, train_rows = setting.net, setting.source, setting.targets, setting.train_rows
    batch_size, seed, device, bn_freeze = how
    if len(train_rows) < 2:
        raise UserError(f"stage {stage['name']}: {len(train_rows)} training images; at least 2 are needed")
    per_epoch = schedules.batches_of(len(train_rows), batch_size)
    lengths = schedules.trained_lengths(stage, per_epoch)
    ends = np.cumsum(lengths)
    net.to(device.device, memory_format=torch.channels_last)
    stepper = Stepper(net, device, bn_freeze, stage, regularise.loss_for(stage, targets, train_rows), ranks)
    ranks = stepper.ranks
    average = Average(stage.get("averaging", "none"), stage.get("ema_decay") or 0.0)
    weights = regularise.sampling_weights(targets[train_rows]) if stage.get("sampler") == "balanced" else None
    start, records = read_state(resume, net, stepper, average, identity)
    total = per_epoch * sum(lengths)
    all_targets = torch.from_numpy(targets).to(device.device)

    def describe_moment() -> str:
        if not records.batches:
            return ""
        now = records.batches[-1]
        return f"epoch {now['epoch']} of {sum(lengths)}, loss {now['loss']:.3g}, lr {now['lr']:.2g}"

    with stops_at_a_step():
        left = range(start, start if records.best.over else total)
        for step in progress(left, len(left), f"train {stage['name']}", " batches", note=describe_moment):
            epoch, i = divmod(step, per_epoch)
            if i == 0 or step == start:
                batches = draw_batches(train_rows, batch_size, seed, stage["name"], epoch, weights)
                began = time.monotonic()
            view = schedules.view_of(stage, epoch)
            factor = schedules.factor(stage, step, per_epoch, lengths)
            rates = [lr * factor for lr in lrs]
            inputs, wanted = prepare_batch(batches[i], source, view, all_targets, stage, seed, step, ranks)
            loss = stepper(inputs, wanted, rates, seed_for(seed, "dropout", stage["name"], step), len(batches[i]))
            if not math.isfinite(loss):
                named = [setting.ids[row] for row in batches[i]] if len(setting.ids) else batches[i].tolist()
                raise UserError(
                    f"stage {stage['name']}: the loss is {loss} at step {step} (epoch {epoch + 1}), learning rate {rates[-1]:.3g}, "
                    f"{describe_last_good(records, resume)}. Lower this stage's lr, or look at the images of this batch: {named}"
                )
            average.after_step(net)
            cycle = schedules.cycle_of(epoch, lengths)
            records.batches.append(
                {
                    "step": step,
                    "epoch": epoch + 1,
                    "cycle": cycle + 1,
                    "lr": rates[-1],
                    "loss": loss,
                    "images": len(batches[i]),
                }
            )
            if i == per_epoch - 1:
                record_epoch(setting, epoch, cycle, records, time.monotonic() - began, device, ranks)
                refuse_divergence(net, records, stage["name"], lrs[-1], resume)
                if epoch + 1 == ends[cycle]:
                    if ranks.writes:
                        snapshot(cycle + 1)
                    average.after_cycle(net)
                    if stage.get("until"):
                        loss = measure_held_back_loss(setting, stage, device, ranks)
                        records.best.after_cycle(net, loss)
                        log.info("cycle %d: loss %.4f on %d images held back", cycle + 1, loss, len(setting.held_back))
                write_state(resume, net, stepper, average, records, step + 1, identity)
            if ranks.any(terminated(), device):
                write_state(resume, net, stepper, average, records, step + 1, identity)
                log.info("saved %s after step %d of %d; training goes on from there", resume, step + 1, total)
                raise SystemExit(143)
            if records.best.over:
                break
    _take_best(setting, stage, records, ends)
    if average.count:
        records.valid_logits = None  # those of the last epoch, not of the average
        average.copy_to(net)
        if average.kind == "swa":
            order = draw_batches(train_rows, batch_size, seed, stage["name"], 0)
            refresh_batchnorm(net, (functools.partial(source, rows, 0) for rows in order), bn_freeze)
    return records


def _take_best(setting: Setting, stage: dict, records: Records, ends: np.ndarray) -> None:
    """Give the network of a stage that goes on until over-fitting what its best cycle left. ends: of each cycle, in epochs."""
    best = records.best
    if not best.losses:
        return
    records.kept = int(ends[best.cycle - 1])
    if records.kept < len(records.epochs):
        setting.net.load_state_dict(best.state)
        records.valid_logits = None  # those of the last epoch
    why = "the next one gained nothing" if best.over else "it may go no further"
    log.info("%s ends with the network of cycle %d: %s", stage["name"], best.cycle, why)
