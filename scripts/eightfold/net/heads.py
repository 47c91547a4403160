"""What lies on a trunk's pooled vector and gives logits: the head of fastai 0.7, or one linear layer."""

import torch
from torch import nn


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 under autocast too: the logits' last digits are those of a probability."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def head(width: int, classes: int, seed: int) -> nn.Sequential:
    """fastai 0.7's head on a pooled vector of ``width`` numbers: logits of ``classes``.

    Kaiming-normal weights and zero biases, drawn from ``seed`` alone. (resnet34, 2 classes: 528,898 parameters.)
    """
    layers = nn.Sequential(
        nn.BatchNorm1d(width),
        nn.Dropout(0.25),
        nn.Linear(width, 512),
        nn.ReLU(),
        nn.BatchNorm1d(512),
        nn.Dropout(0.5),
        Float32Linear(512, classes),
    )
    source = torch.Generator().manual_seed(seed)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, generator=source)
            nn.init.zeros_(layer.bias)
    return layers


class LinearHead(Float32Linear):
    """One linear layer on a pooled vector: (inputs, classes).

    Standardisation is folded into it, so its logits are small differences of large terms, which bfloat16 would lose.
    """
