"""SGD with momentum, as in torch.optim, without what importing that costs.

To construct any optimizer of torch.optim imports torch's compiler, which takes as long as importing torch itself: half of
a head stage's time on a small job. The update is four lines; a test compares it with torch.optim.SGD, bit by bit.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch


class SGD:
    """v = momentum * v + g + weight_decay * p, then p -= lr * v, per group; v starts as the first g. No Nesterov.

    groups: dicts of params, with a weight_decay of their own where they have one. ``param_groups``, ``state``, ``step`` and ``zero_grad`` are those of torch.optim.Optimizer.
    """

    def __init__(self, groups: Sequence[dict], momentum: float, weight_decay: float = 0.0):
        self.param_groups = [{"weight_decay": weight_decay, **group, "lr": 0.0} for group in groups]
        self.state: dict[torch.nn.Parameter, dict[str, torch.Tensor]] = defaultdict(dict)
        self.momentum = momentum

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients that are there."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = [p.grad for p in parameters]
            if group["weight_decay"]:
                gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
            old = [i for i, p in enumerate(parameters) if "momentum_buffer" in self.state[p]]
            if old:
                kept = [self.state[parameters[i]]["momentum_buffer"] for i in old]
                torch._foreach_mul_(kept, self.momentum)
                torch._foreach_add_(kept, [gradients[i] for i in old])
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if "momentum_buffer" not in self.state[parameter]:  # its first gradient, whenever that comes
                    self.state[parameter]["momentum_buffer"] = gradient.clone()
            velocities = [self.state[p]["momentum_buffer"] for p in parameters]
            torch._foreach_add_(parameters, velocities, alpha=-group["lr"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
