"""One step of training: forward, backward and update on a mini-batch."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from eightfold.config import schedules
from eightfold.core.devices import Device, out_of_memory
from eightfold.core.files import UserError
from eightfold.core.runtime import log
from eightfold.core.without_compiler import without_compiler
from eightfold.net import nets
from eightfold.train.distributed import Ranks
from eightfold.train.regularise import loss_of
from eightfold.train.whole_batch import refuse_layers_of_a_part, whole_batch

MOMENTUM = 0.9


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
        refuse_layers_of_a_part(net, self.ranks)
        self.net, self.device, self.bn_freeze, self.loss = net, device, bn_freeze, loss
        stage = stage or {}
        self.grad_clip = stage.get("grad_clip")
        decay = stage.get("weight_decay") or 0.0
        groups = [
            part | {"rate": rate}
            for rate, parameters in enumerate(nets.rate_groups(net, stage))
            for part in _split_by_decay(parameters, decay, stage.get("weight_decay_on", "all"))
        ]
        with without_compiler():
            if stage.get("optimizer", "sgd") == "adamw":
                self.optimizer = torch.optim.AdamW(groups, lr=0.0)
            else:
                self.optimizer = torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM)
        self.micro_batch: int | None = None  # images; None: the whole batch
        self.buffers = [buffer for buffer in net.buffers() if buffer.numel()]  # BatchNorm's running figures
        self.before = [buffer.clone() for buffer in self.buffers]

    def __call__(
        self, inputs: torch.Tensor, targets: torch.Tensor, lrs: Sequence[float], seed: int, batch: int | None = None
    ) -> float:
        """Loss of the batch before the update. ``seed`` fixes the dropout of this step, whatever came before it.

        lrs: the rate of each of `nets.rate_groups`. batch: images in the whole mini-batch, where ``inputs`` are one process's part of it.
        """
        batch = batch or len(inputs)
        for group in self.optimizer.param_groups:
            group["lr"] = lrs[group["rate"]]
        nets.set_training(self.net, self.bn_freeze)
        _copy(self.buffers, self.before)
        while True:
            try:
                with whole_batch(self.ranks, batch):
                    loss = self._gradients(inputs, targets, seed, batch)
                break
            except (RuntimeError, MemoryError) as error:
                # The others wait in the middle of the step for what this one cannot send.
                if out_of_memory(error) and self.ranks.count > 1:
                    raise UserError(
                        f"out of device memory with {len(inputs)} of the batch's {batch} images on this device; "
                        "take a smaller batch_size, or more gpus for this stage"
                    ) from error
                size = self.micro_batch or len(inputs)
                if size < 4 or not out_of_memory(error):
                    raise
                self.micro_batch = math.ceil(size / 2)
                self.net.zero_grad()
                _copy(self.before, self.buffers)  # what the broken-off attempt has counted, counts for nothing
                log.info(
                    "out of device memory: going on with micro-batches of at most %d, gradients accumulated to the same batch of "
                    "%d; BatchNorm normalises each by itself, so the result is not that of the whole batch (model.bn_freeze: "
                    "true keeps the trunk's fixed)",
                    self.micro_batch,
                    len(inputs),
                )
        loss = self.ranks.add_up(loss, self.parameters())
        if math.isfinite(loss):
            if self.grad_clip:
                nn.utils.clip_grad_norm_(self.parameters(), self.grad_clip)
            with without_compiler():
                self.optimizer.step()
        self.net.zero_grad()
        return loss

    def _gradients(self, inputs: torch.Tensor, targets: torch.Tensor, seed: int, batch: int) -> float:
        parts, total = schedules.batches_of(len(inputs), self.micro_batch or max(1, len(inputs))), 0.0
        devices = [self.device.device] if self.device.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            for x, y in zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True):
                with self.device.autocast():
                    logits = self.net(x)
                # A process without an image of this batch has no loss, and works along with the others all the same.
                loss = self.loss(logits.float(), y) * (len(x) / batch) if len(x) else logits.float().sum()
                loss.backward()
                total += loss.item()
        return total

    def parameters(self) -> list[nn.Parameter]:
        """All that the optimizer updates, in its order."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def _split_by_decay(parameters: list[nn.Parameter], decay: float, on: str) -> list[dict]:
    """The parameters as groups of an optimizer, with the weight decay of each. on: all, or weights, which spares norms and
    biases: parameters of one dimension."""
    if on == "all":
        return [{"params": parameters, "weight_decay": decay}]
    spared = [{"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}]
    return [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay}, *spared]


def _copy(source: list[torch.Tensor], target: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for a, b in zip(source, target, strict=True):
            b.copy_(a)
