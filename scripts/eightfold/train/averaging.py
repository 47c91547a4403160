"""Averages of a network's weights: EMA over the steps, SWA over the ends of the cycles (Izmailov 2018)."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from eightfold.net import nets


class Average:
    """The running mean of a network's floating tensors, BatchNorm's statistics included.

    ema: after each step, ``decay`` times the old plus the rest of the new; the first steps weigh more, so that the
    start is soon forgotten. swa: the plain mean of the ends of the cycles.
    """

    def __init__(self, kind: str, decay: float):
        self.kind, self.decay, self.count = kind, decay, 0
        self.mean: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def after_step(self, net: nn.Module) -> None:
        if self.kind == "ema":
            self._add(net, 1 - min(self.decay, (1 + self.count) / (10 + self.count)))

    @torch.no_grad()
    def after_cycle(self, net: nn.Module) -> None:
        if self.kind == "swa":
            self._add(net, 1 / (1 + self.count))

    def _add(self, net: nn.Module, share: float) -> None:
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                if name in self.mean:
                    self.mean[name].lerp_(value.float(), share)
                else:
                    self.mean[name] = value.detach().float().clone()
        self.count += 1

    @torch.no_grad()
    def copy_to(self, net: nn.Module) -> None:
        """Put the mean into the network."""
        state = net.state_dict()
        for name, value in self.mean.items():
            state[name].copy_(value)


def refresh_batchnorm(net: nn.Module, batches: Iterable[Callable[[], torch.Tensor]], bn_freeze: bool) -> None:
    """Measure anew the statistics of the BatchNorm layers that learn: those of averaged weights are not their average.

    batches: calls that give inputs. Momentum is back as it was afterwards.
    """
    nets.set_training(net, bn_freeze)
    layers = [m for m in net.modules() if isinstance(m, nets.BATCH_NORMS) and m.training]
    momenta = [layer.momentum for layer in layers]
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
    with torch.no_grad():
        for batch in batches:
            net(batch())
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
