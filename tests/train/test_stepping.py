"""One step: the update of each group of layers, and what it does where memory is short."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_training import CPU, images, trained, vectors
from torch import nn
from torch.nn import functional as F

from eightfold.config import schedules
from eightfold.core.provenance import SCRIPTS
from eightfold.net import heads, nets, starting_weights
from eightfold.train.stepping import Stepper


def test_each_group_learns_at_its_own_rate(tmp_path):
    """After one step of momentum SGD from rest a group has moved by its rate times its gradient."""
    trunk, _, _ = starting_weights.pretrained("squeezenet1_1", "none", seed=2)
    net = nets.Net(trunk, heads.head(trunk.width, 2, 7))
    before = {name: value.clone() for name, value in net.named_parameters()}
    stepper = Stepper(net, CPU, False)
    gradients = {}
    step = stepper.optimizer.step

    def watched():
        gradients.update({name: p.grad.clone() for name, p in net.named_parameters()})
        step()

    stepper.optimizer.step = watched
    x = images(range(6), 0)
    stepper(x, torch.tensor([0, 1] * 3), [0.0, 0.001, 0.1], 3)
    rates = {"trunk.early": 0.0, "trunk.late": 0.001, "head": 0.1}
    for name, value in net.named_parameters():
        rate = next(rate for prefix, rate in rates.items() if name.startswith(prefix))
        torch.testing.assert_close(value, before[name] - rate * gradients[name])
    assert len(stepper.optimizer.param_groups) == 3
    assert all(group["weight_decay"] == 0 for group in stepper.optimizer.param_groups)


class ShortOfMemory(nn.Module):
    """Passes its input on; in training, not more than ``room`` rows of it."""

    def __init__(self, room):
        super().__init__()
        self.room, self.sizes = room, []

    def forward(self, x):
        if self.training:
            if len(x) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.sizes.append(len(x))
        return x


@pytest.mark.parametrize("room", [3, 4, 7, 15])
def test_out_of_memory_it_goes_on_in_pieces_with_the_same_gradient(tmp_path, room, caplog):
    torch.manual_seed(0)
    layers = nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 2)
    whole = nn.Sequential(nn.Identity(), *layers)
    memory = ShortOfMemory(room)
    short = nn.Sequential(memory, *copy.deepcopy(layers))
    first = trained(whole, tmp_path / "whole", batch_size=16)
    second = trained(short, tmp_path / "short", batch_size=16)
    for one, other in zip(whole.parameters(), short.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([r["loss"] for r in first.batches], [r["loss"] for r in second.batches], rtol=1e-5)
    assert max(memory.sizes) <= room and 1 not in memory.sizes


def test_memory_that_is_not_enough_for_two_is_an_error(tmp_path):
    with pytest.raises(torch.OutOfMemoryError):
        trained(nn.Sequential(ShortOfMemory(1), nn.Linear(12, 2)), tmp_path, batch_size=16)


def tuned(arch="resnet18", classes=2):
    trunk, _, _ = starting_weights.pretrained(arch, "none", 1)
    return nets.Net(trunk, heads.head(trunk.width, classes, 1))


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v2", "densenet121", "regnet_y_400mf", "timm/resnet10t"])
def test_every_parameter_has_one_rate_and_blocks_come_in_order_of_depth(arch):
    if arch.startswith("timm/"):
        pytest.importorskip("timm")
    net = tuned(arch)
    for stage in ({}, {"layer_decay": 0.7}):
        parts = nets.rate_groups(net, stage)
        found = [id(parameter) for part in parts for parameter in part]
        assert len(found) == len(set(found)) and set(found) == {id(parameter) for parameter in net.parameters()}
    assert len(nets.rate_groups(net, {})) == 3 and len(parts) > 5
    assert [id(p) for p in parts[-1]] == [id(p) for p in net.head.parameters()]
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    if arch == "resnet18":
        first = [names[id(part[0])] for part in parts]
        assert first == [
            "trunk.early.conv1.weight",
            *(
                f"trunk.{'early' if layer < 3 else 'late'}.layer{layer}.{i}.conv1.weight"
                for layer in (1, 2, 3, 4)
                for i in (0, 1)
            ),
            "head.0.weight",
        ]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_with_layer_decay_and_norms_spared_is_torchs_own(optimizer):
    net, stage = (
        tuned(),
        {"layer_decay": 0.5, "weight_decay": 0.1, "weight_decay_on": "weights", "optimizer": optimizer},
    )
    other = copy.deepcopy(net)
    x, y = images(np.arange(8), 1), torch.arange(8) % 2
    count = len(nets.rate_groups(net, stage))
    rates = schedules.group_lrs(0.01, stage, count)
    assert rates == pytest.approx([0.01 * 0.5 ** (count - 1 - i) for i in range(count)])
    stepper = Stepper(net, CPU, False, stage)
    for seed in (3, 4):
        stepper(x, y, rates, seed)
    groups = [
        {"params": [p], "lr": rate, "weight_decay": 0.1 if p.dim() > 1 else 0.0}
        for part, rate in zip(nets.rate_groups(other, stage), rates, strict=True)
        for p in part
    ]
    theirs = torch.optim.AdamW(groups) if optimizer == "adamw" else torch.optim.SGD(groups, momentum=0.9)
    for seed in (3, 4):
        nets.set_training(other)
        torch.manual_seed(seed)
        F.cross_entropy(other(x), y).backward()
        theirs.step()
        theirs.zero_grad()
    for (name, a), b in zip(net.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


def test_a_long_gradient_is_cut_to_its_length():
    x, y = vectors(np.arange(8), 0) * 100, torch.arange(8) % 2
    moved = {}
    for clip in (None, 1e-3, 1e9):
        net = nn.Linear(12, 2)
        with torch.no_grad():
            net.weight.fill_(0.5), net.bias.zero_()
        before = torch.cat([p.detach().clone().flatten() for p in net.parameters()])
        Stepper(net, CPU, False, {"grad_clip": clip})(x, y, [1.0], 1)
        moved[clip] = torch.cat([p.detach().flatten() for p in net.parameters()]) - before
    assert torch.equal(moved[None], moved[1e9]) and moved[None].norm() > 1
    torch.testing.assert_close(moved[1e-3].norm(), torch.tensor(1e-3), rtol=1e-2, atol=0)
    torch.testing.assert_close(moved[1e-3] / moved[1e-3].norm(), moved[None] / moved[None].norm(), rtol=1e-3, atol=1e-3)


def test_a_stage_is_trained_without_importing_torchs_compiler_and_a_head_without_torchvision():
    code = """if True:
        import sys, tempfile, pathlib
        import numpy as np, torch
        from eightfold.net import heads, nets, trunks
        from eightfold.train import training
        from eightfold.train.setting import How, Setting
        from eightfold.core.devices import device
        stage = {"name": "s", "augment": False, "first_view": 1, "cycles": 1, "cycle_len": 1, "cycle_mult": 1}
        with device("cpu", "float32") as here, tempfile.TemporaryDirectory() as folder:
            rows = np.arange(8)
            resume, how = pathlib.Path(folder, "resume"), How(4, 0, here)
            source = lambda rows, view: torch.rand(len(rows), 1024)
            head = Setting(heads.head(1024, 2, 0), source, rows % 2, rows[:5], rows[5:])
            training.train(head, stage, [0.1], how, resume.with_name("head"), "x")
            assert "torchvision" not in sys.modules
            trunk = trunks.trunk_outline("resnet18").to_empty(device="cpu")
            for tensor in trunk.state_dict().values():
                tensor.zero_()
            source = lambda rows, view: torch.rand(len(rows), 3, 32, 32)
            setting = Setting(nets.Net(trunk, heads.head(1024, 2, 0)), source, rows % 2, rows[:5], rows[5:])
            training.train(setting, stage, [0.1] * 3, how, resume, "x")
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert "torch._dynamo" not in sys.modules, "see module scripts/eightfold/core/without_compiler.py"
    """
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(SCRIPTS)})
