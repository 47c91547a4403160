"""One stage of training: a plain loop over mini-batches that can stop at any step and go on from it."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from eightfold.config import schedules
from eightfold.core import tensors
from eightfold.core.devices import Device, out_of_memory
from eightfold.core.files import UserError
from eightfold.core.randomness import generator, seed_for
from eightfold.core.runtime import log, progress, stops_at_a_step, terminated
from eightfold.net import inference, nets, scoring
from eightfold.train import regularise
from eightfold.train.averaging import Average, refresh_batchnorm
from eightfold.train.distributed import Ranks, of_whole_batch
from eightfold.train.optimizers import SGD
from eightfold.train.regularise import loss_of
from eightfold.train.setting import How, Setting
from eightfold.train.stopping import Best

MOMENTUM = 0.9
MOST_EVALUATED = 1000  # training images on which a stage of all layers measures its training loss, at its end


@dataclass
class Records:
    """What a stage has recorded so far: a row per mini-batch and a row per epoch.

    valid_logits: of the validation rows, float32 (rows, classes), by the network as it ended; None where nothing computed them.
    valid_losses: the loss of each validation row (nats), float32 (rows,), after each epoch; empty without such rows.
    best: of a stage that goes on until over-fitting, what it saw after each cycle. kept: the epochs that the network
    which the stage ends with has seen; None where that is all of them.
    """

    batches: list[dict] = field(default_factory=list)
    epochs: list[dict] = field(default_factory=list)
    valid_logits: np.ndarray | None = None
    valid_losses: list[np.ndarray] = field(default_factory=list)
    best: Best = field(default_factory=Best)
    kept: int | None = None


def epoch_batches(
    rows: np.ndarray, batch_size: int, seed: int, stage: str, epoch: int, weights: np.ndarray | None = None
) -> list[np.ndarray]:
    """The rows of an epoch in mini-batches, shuffled by (seed, stage, epoch) alone; with ``weights``, which sum to 1, drawn by them.

    Their sizes differ by one at most (`schedules.batches_of`).
    """
    source = generator(seed, "order", stage, epoch)
    order = source.permutation(rows) if weights is None else source.choice(rows, len(rows), p=weights)
    return np.array_split(order, schedules.batches_of(len(order), batch_size))


def logits_of(net: nn.Module, source: Callable, rows: np.ndarray, view: int, device: Device) -> np.ndarray:
    """Logits of rows in eval mode: float32 (rows, classes)."""
    return inference.outputs(net.eval(), source, rows, view, device).numpy()


def losses_on_training_images(
    net: nn.Module, source: Callable, targets: np.ndarray, rows: np.ndarray, stage: dict, seed: int, device: Device
) -> tuple[np.ndarray, int]:
    """(loss of each training image evaluated, float64 (images,), nats; the view that they were shown in), in eval mode.

    It is measured as the validation loss is: no dropout, weights that stand still, the plain view. A stage of all layers
    evaluates at most MOST_EVALUATED images, keyed by ``seed`` alone, so that stages share them. Where the cached
    activations of the training rows hold no plain view (augmented heads on a tuned trunk), the stage's first view replaces it:
    augmented images are somewhat harder, so that what is said of a gap is said too seldom rather than too often.
    """
    if stage["train"] == "all" and len(rows) > MOST_EVALUATED:
        rows = np.sort(generator(seed, "training loss").choice(rows, MOST_EVALUATED, replace=False))
    view = 0 if source.holds(rows, 0) else stage["first_view"]
    logits = logits_of(net, source, rows, view, device)
    return scoring.losses(scoring.probabilities_of(logits, targets.ndim == 2), targets[rows]), view


class Stepper:
    """Forward, backward and update on one mini-batch. Out of device memory, it goes on with smaller micro-batches."""

    def __init__(
        self,
        net: nn.Module,
        device: Device,
        bn_freeze: bool,
        stage: dict | None = None,
        loss: Callable = loss_of,
        ranks: Ranks | None = None,
    ):
        """stage: its optimizer, weight_decay, layer_decay and grad_clip, the recipe's SGD where absent. loss: of logits and
        targets, a mean.

        ranks: the processes that train together; each is called with its part of the mini-batch.
        """
        self.ranks = ranks or Ranks()
        of_whole_batch(net, self.ranks)
        self.net, self.device, self.bn_freeze, self.loss = net, device, bn_freeze, loss
        stage = stage or {}
        self.grad_clip = stage.get("grad_clip")
        decay = stage.get("weight_decay") or 0.0
        groups = [
            part | {"rate": rate}
            for rate, parameters in enumerate(nets.rate_groups(net, stage))
            for part in _decayed(parameters, decay, stage.get("weight_decay_on", "all"))
        ]
        if stage.get("optimizer", "sgd") == "adamw":
            self.optimizer = torch.optim.AdamW(groups, lr=0.0)
        else:
            self.optimizer = SGD(groups, MOMENTUM)
        self.micro_batch: int | None = None  # images; None: the whole batch
        self.buffers = [buffer for buffer in net.buffers() if buffer.numel()]  # BatchNorm's running figures
        self.before = [buffer.clone() for buffer in self.buffers]

    def __call__(
        self, inputs: torch.Tensor, targets: torch.Tensor, lrs: Sequence[float], seed: int, batch: int | None = None
    ) -> float:
        """Loss of the batch before the update. ``seed`` fixes the dropout of this step, whatever came before it.

        lrs: the rate of each of `nets.rate_groups`. batch: pictures in the whole mini-batch, where ``inputs`` are one process's part of it.
        """
        batch = batch or len(inputs)
        for group in self.optimizer.param_groups:
            group["lr"] = lrs[group["rate"]]
        nets.set_training(self.net, self.bn_freeze)
        _copy(self.buffers, self.before)
        while True:
            try:
                with self.ranks.step_on(batch):
                    loss = self._gradients(inputs, targets, seed, batch)
                break
            except (RuntimeError, MemoryError) as error:
                # The others wait in the middle of the step for what this one cannot send.
                if out_of_memory(error) and self.ranks.count > 1:
                    raise UserError(
                        f"out of device memory with {len(inputs)} of the batch's {batch} pictures on this device; "
                        "take a smaller batch_size, or more gpus for this stage"
                    ) from error
                size = self.micro_batch or len(inputs)
                if size < 4 or not out_of_memory(error):
                    raise
                self.micro_batch = math.ceil(size / 2)
                self.optimizer.zero_grad(set_to_none=True)
                _copy(self.before, self.buffers)  # what the broken-off attempt has counted, counts for nothing
                log.info(
                    "out of device memory: going on with micro-batches of at most %d, gradients accumulated to the same batch of "
                    "%d; BatchNorm normalises each by itself, so the result is not that of the whole batch (model.bn_freeze: "
                    "true keeps the trunk's fixed)",
                    self.micro_batch,
                    len(inputs),
                )
        loss = self.ranks.add_up(loss, _parameters(self))
        if math.isfinite(loss):
            if self.grad_clip:
                nn.utils.clip_grad_norm_(_parameters(self), self.grad_clip)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _gradients(self, inputs: torch.Tensor, targets: torch.Tensor, seed: int, batch: int) -> float:
        parts, total = schedules.batches_of(len(inputs), self.micro_batch or max(1, len(inputs))), 0.0
        devices = [self.device.device] if self.device.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            for x, y in zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True):
                with self.device.autocast():
                    logits = self.net(x)
                # A process without a picture of this batch has no loss, and works along with the others all the same.
                loss = self.loss(logits.float(), y) * (len(x) / batch) if len(x) else logits.float().sum()
                loss.backward()
                total += loss.item()
        return total


def _decayed(parameters: list[nn.Parameter], decay: float, on: str) -> list[dict]:
    """The parameters as groups of an optimizer, with the weight decay of each. on: all, or weights, which spares norms and
    biases: parameters of one dimension."""
    if on == "all":
        return [{"params": parameters, "weight_decay": decay}]
    spared = [{"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}]
    return [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay}, *spared]


def _copy(source: list[torch.Tensor], target: list[torch.Tensor]) -> None:
    if source:
        with torch.no_grad():
            torch._foreach_copy_(target, source)  # one call: a network has hundreds of these small tensors


def _parameters(stepper: Stepper) -> list[nn.Parameter]:
    return [p for group in stepper.optimizer.param_groups for p in group["params"]]


def _save(path: Path, net: nn.Module, stepper: Stepper, average: Average, records: Records, step: int, identity: str):
    if not stepper.ranks.writes:
        return
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    state |= {f"average.{name}": value for name, value in average.mean.items()}
    state |= {f"best.{name}": value for name, value in records.best.state.items()}
    if records.valid_losses:
        state["valid.losses"] = torch.from_numpy(np.stack(records.valid_losses))
    for i, parameter in enumerate(_parameters(stepper)):
        kept = stepper.optimizer.state[parameter].items()
        state |= {f"optimizer.{i}.{name}": value for name, value in kept if value is not None}
    notes = {"step": step, "averaged": average.count, "batches": records.batches, "epochs": records.epochs}
    notes |= {"held_back": records.best.losses}
    tensors.save(path, state, identity, **notes)


def _restore(path: Path, net: nn.Module, stepper: Stepper, average: Average, identity: str) -> tuple[int, Records]:
    if not path.exists():
        return 0, Records()
    state, notes = tensors.load(path, identity), tensors.notes(path)
    net.load_state_dict({name[4:]: value for name, value in state.items() if name.startswith("net.")})
    device = next(net.parameters()).device
    average.count = notes["averaged"]
    average.mean = {name[8:]: value.to(device) for name, value in state.items() if name.startswith("average.")}
    parameters = _parameters(stepper)
    for name, value in state.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".")
            # AdamW counts its steps on the CPU, whatever the device.
            stepper.optimizer.state[parameters[int(i)]][key] = value if key == "step" else value.to(device)
    log.info("resuming at step %d from %s", notes["step"], path)
    losses = list(state["valid.losses"].numpy()) if "valid.losses" in state else []
    records = Records(notes["batches"], notes["epochs"], valid_losses=losses)
    records.best.losses = notes["held_back"]
    records.best.state = {name[5:]: value.to(device) for name, value in state.items() if name.startswith("best.")}
    return notes["step"], records


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
    an unfinished stage; written each epoch and on SIGTERM, refused unless it carries ``identity``. snapshot: called with the
    number of each cycle, from 1, when its last epoch has ended. ranks: the processes that train this stage together, each
    of which calls this; the first alone writes.

    Raises UserError when the loss is not a number, naming step, rate and images; SystemExit after SIGTERM.
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
    start, records = _restore(resume, net, stepper, average, identity)
    total = per_epoch * sum(lengths)
    all_targets = torch.from_numpy(targets).to(device.device)

    def moment() -> str:
        if not records.batches:
            return ""
        now = records.batches[-1]
        return f"epoch {now['epoch']} of {sum(lengths)}, loss {now['loss']:.3g}, lr {now['lr']:.2g}"

    with stops_at_a_step():
        left = range(start, start if records.best.over else total)
        for step in progress(left, len(left), f"train {stage['name']}", " batches", note=moment):
            epoch, i = divmod(step, per_epoch)
            if i == 0 or step == start:
                batches = epoch_batches(train_rows, batch_size, seed, stage["name"], epoch, weights)
                began = time.monotonic()
            view = schedules.view_of(stage, epoch)
            factor = schedules.factor(stage, step, per_epoch, lengths)
            rates = [lr * factor for lr in lrs]
            inputs, wanted = _part_of(batches[i], ranks, view, source, all_targets, stage, seed, step)
            loss = stepper(inputs, wanted, rates, seed_for(seed, "dropout", stage["name"], step), len(batches[i]))
            if not math.isfinite(loss):
                named = [setting.ids[row] for row in batches[i]] if len(setting.ids) else batches[i].tolist()
                raise UserError(
                    f"stage {stage['name']}: the loss is {loss} at step {step} (epoch {epoch + 1}), learning rate {rates[-1]:.3g}, "
                    f"{_kept(records, resume)}. Lower this stage's lr, or look at the pictures of this batch: {named}"
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
                _end_epoch(setting, epoch, cycle, records, time.monotonic() - began, device, ranks)
                _refuse_divergence(net, records, stage["name"], lrs[-1], resume)
                if epoch + 1 == ends[cycle]:
                    if ranks.writes:
                        snapshot(cycle + 1)
                    average.after_cycle(net)
                    if stage.get("until"):
                        loss = _held_back_loss(setting, stage, device, ranks)
                        records.best.after_cycle(net, loss)
                        log.info("cycle %d: loss %.4f on %d images held back", cycle + 1, loss, len(setting.held_back))
                _save(resume, net, stepper, average, records, step + 1, identity)
            if ranks.any(terminated(), device):
                _save(resume, net, stepper, average, records, step + 1, identity)
                log.info("asked to end: saved %s after step %d; run again to go on from there", resume, step)
                raise SystemExit(143)
            if records.best.over:
                break
    best = records.best
    if best.losses:
        records.kept = int(ends[best.cycle - 1])
        if records.kept < len(records.epochs):
            net.load_state_dict(best.state)
            records.valid_logits = None  # those of the last epoch
        why = "the next one gained nothing" if best.over else "it may go no further"
        log.info("%s ends with the network of cycle %d: %s", stage["name"], best.cycle, why)
    if average.count:
        records.valid_logits = None  # those of the last epoch, not of the average
        average.copy_to(net)
        if average.kind == "swa":
            order = epoch_batches(train_rows, batch_size, seed, stage["name"], 0)
            refresh_batchnorm(net, (functools.partial(source, rows, 0) for rows in order), bn_freeze)
    return records


def _part_of(rows, ranks, view, source, all_targets, stage, seed, step) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of this process's part of a mini-batch, mixed as the stage asks for."""
    part = ranks.part(len(rows))
    if ranks.count == 1 or stage.get("mixup") or stage.get("cutmix"):  # a picture's partner may be another process's
        inputs, wanted = source(rows, view), all_targets[torch.from_numpy(rows)]
        classes = regularise.classes_of(all_targets)
        inputs, wanted = regularise.mixed(inputs, wanted, stage, classes, seed, step)
        return inputs[part], wanted[part]
    own = rows[part]
    inputs = source(own if len(own) else rows[:1], view)[: len(own)]
    return inputs, all_targets[torch.from_numpy(own)]


def _held_back_loss(setting: Setting, stage: dict, device: Device, ranks: Ranks) -> float:
    """Log loss (nats) of rows held back, in eval mode, by the plain view, or the stage's first where that is not cached."""
    rows, source = setting.held_back, setting.source
    view = 0 if source.holds(rows, 0) else stage["first_view"]
    logits = ranks.together(lambda own: logits_of(setting.net, source, own, view, device), rows)
    return float(scoring.row_losses(logits, setting.targets[rows]).mean())


def _kept(records: Records, resume: Path) -> str:
    """Where the last good state of a stage lies, when it has gone wrong."""
    done = records.epochs[-1]["epoch"] if records.epochs else 0
    return f"the state after epoch {done} is kept: {resume}" if done and resume.exists() else "nothing was written"


def _refuse_divergence(net: nn.Module, records: Records, stage: str, lr: float, resume: Path) -> None:
    """Raise UserError when an epoch leaves a network that is of no use, though each mini-batch's loss was a number.

    The last update shows in no loss of training, and BatchNorm hides weights that have exploded until eval mode.
    """
    lost = [name for name, value in net.state_dict().items() if not value.isfinite().all()]
    last, good = records.epochs[-1], Records(records.batches, records.epochs[:-1])
    loss = last["valid_loss"]
    if not lost and (loss is None or math.isfinite(loss)):
        return
    what = f"the validation loss is {loss}" if not lost else f"{lost[0]} holds numbers that are not finite"
    raise UserError(
        f"stage {stage}: {what} after epoch {last['epoch']}, learning rate {lr:.3g}: the training has diverged; "
        f"{_kept(good, resume)}. Lower this stage's lr"
    )


def _end_epoch(
    setting: Setting, epoch: int, cycle: int, records: Records, seconds: float, device: Device, ranks: Ranks
) -> None:
    targets, valid_rows = setting.targets, setting.valid_rows
    of_epoch = [row for row in records.batches if row["epoch"] == epoch + 1]
    # Each batch counts by its images, so that the figure is a mean over images.
    train_loss = sum(row["loss"] * row["images"] for row in of_epoch) / sum(row["images"] for row in of_epoch)
    row = {"epoch": epoch + 1, "cycle": cycle + 1, "train_loss": train_loss, "valid_loss": None, "accuracy": None}
    line = f"epoch {epoch + 1}: train loss {train_loss:.4f}"
    if len(valid_rows):
        logits = ranks.together(lambda rows: logits_of(setting.net, setting.source, rows, 0, device), valid_rows)
        records.valid_logits = logits
        probabilities = scoring.probabilities_of(logits, targets.ndim == 2)
        records.valid_losses.append(scoring.losses(probabilities, targets[valid_rows]).astype(np.float32))
        scores = scoring.figures(probabilities, targets[valid_rows])
        row.update(valid_loss=scores["log_loss"], accuracy=scores["accuracy"])
        line += f", valid loss {row['valid_loss']:.4f}, accuracy {row['accuracy']:.4f}"
    row["seconds"] = seconds
    records.epochs.append(row)
    log.info("%s, %.1f s", line, seconds)
