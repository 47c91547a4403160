"""Our SGD is torch's, to the bit; and training a head does not import torch's compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eightfold.train.optimizers import SGD


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_sgd_equals_torch_to_the_bit(weight_decay):
    source = torch.Generator().manual_seed(1)
    ours, theirs = ([torch.nn.Parameter(torch.ones(*shape)) for shape in ((7, 5), (5,), (3, 2))] for _ in range(2))
    a = SGD([{"params": ours[:1]}, {"params": ours[1:]}], 0.9, weight_decay)
    b = torch.optim.SGD(
        [{"params": theirs[:1]}, {"params": theirs[1:]}], lr=0.0, momentum=0.9, weight_decay=weight_decay
    )
    for step in range(20):
        for i, lr in enumerate((0.1 / (step + 1), 0.01)):
            a.param_groups[i]["lr"] = b.param_groups[i]["lr"] = lr
        for x, y in zip(ours, theirs, strict=True):
            x.grad = torch.randn(x.shape, generator=source)
            y.grad = x.grad.clone()
        a.step()
        b.step()
        a.zero_grad()
        assert all(parameter.grad is None for parameter in ours)
        assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_a_parameter_whose_gradients_come_late_or_not_always_is_as_torchs(weight_decay):
    source = torch.Generator().manual_seed(2)
    ours, theirs = ([torch.nn.Parameter(torch.ones(*shape)) for shape in ((4, 3), (3,), (2,))] for _ in range(2))
    a = SGD([{"params": ours}], 0.9, weight_decay)
    b = torch.optim.SGD([{"params": theirs}], lr=0.1, momentum=0.9, weight_decay=weight_decay)
    a.param_groups[0]["lr"] = 0.1
    for step in range(12):
        for i, (x, y) in enumerate(zip(ours, theirs, strict=True)):
            if (step >= 3 * i and step % 4 != i) or i == 0:
                x.grad = torch.randn(x.shape, generator=source)
                y.grad = x.grad.clone()
        a.step()
        b.step()
        a.zero_grad()
        b.zero_grad()
        assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


def test_a_step_of_training_does_not_import_torchs_compiler():
    code = (
        "import sys, torch\n"
        "from eightfold.net import nets\n"
        "from eightfold.core.devices import Device\n"
        "from eightfold.train.stepping import Stepper\n"
        "step = Stepper(nets.head(4, 2, 0), Device(torch.device('cpu'), torch.float32), False)\n"
        "step(torch.randn(6, 8), torch.tensor([0, 1] * 3), [0.1], 0)\n"
        "assert 'torch._dynamo' not in sys.modules and 'torchvision' not in sys.modules\n"
    )
    scripts = str(Path(__file__).parents[2] / "scripts")
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": scripts}, check=True)
