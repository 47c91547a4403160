"""A few small trainings, as one process or, by torch's launcher, as one of several: ranks.py FOLDER NAME...

Each leaves FOLDER/<name>-<processes>.safetensors: what the network became; and .json: what it told.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from eightfold.core import tensors
from eightfold.core.devices import device
from eightfold.core.runtime import job
from eightfold.net import heads, nets, trunks
from eightfold.train import distributed, training
from eightfold.train.setting import How, Setting

STAGE = {"name": "all", "augment": True, "first_view": 1, "cycles": 2, "cycle_len": 1, "cycle_mult": 1}
# 21 images in batches of 8: the last has 5, which no number of processes divides evenly.
CASES = {
    "plain": {},
    "mixed": {"mixup": 0.4, "averaging": "swa", "label_smoothing": 0.1},
    "weighed": {"optimizer": "adamw", "class_weights": "balanced", "averaging": "ema"},
    "small": {"batch_size": 3, "cycles": 1},  # there is no image for one of 4 processes
    "long": {"cycles": 12},  # long enough to be killed in
}


class StochasticDepth(nn.Module):
    """torchvision's, of mode row, on its own: to import torchvision costs a second."""

    def __init__(self, p: float):
        super().__init__()
        self.p, self.mode = p, "row"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        return x * torch.empty(len(x), 1, 1, 1).bernoulli_(1 - self.p).div_(1 - self.p)


def network() -> nets.Net:
    torch.manual_seed(0)
    early = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), StochasticDepth(0.2))
    late = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
    return nets.Net(trunks.TorchvisionTrunk(early, late, nn.Flatten(), 24), heads.head(24, 2, 7)).double()


def images(rows: np.ndarray, view: int) -> torch.Tensor:
    """Images that are a pure function of row and view: float64 (rows, 3, 16, 16), so that rounding hides no mistake."""
    time.sleep(float(os.environ.get("EIGHTFOLD_TEST_SLOW", 0)))
    noise = [
        torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1000 * view + int(row))) + row % 2
        for row in rows
    ]
    return torch.stack(noise).double()


def main(folder: Path, names: list[str]) -> None:
    y = np.arange(30) % 2
    with device("cpu", "float32") as here, distributed.joined(here) as ranks:
        for name in names:
            stage = {**STAGE, **CASES[name]}
            net, end = network(), folder / f"{name}-{ranks.count}"
            # A variance of 3 numbers magnifies what rounding does, step by step: "small" has 9 rows.
            setting = Setting(net, images, y, np.arange(9 if name == "small" else 21), np.arange(21, 30))
            lrs = {"plain": [0.01, 0.02, 0.05], "mixed": [0.01, 0.02, 0.05], "long": [1e-4] * 3}.get(name, [1e-3] * 3)
            how = How(stage.pop("batch_size", 8), 3, here)
            records = training.train(setting, stage, lrs, how, end.with_suffix(".resume"), name, ranks=ranks)
            states = [None] * ranks.count
            mine = {key: value.numpy().tobytes() for key, value in net.state_dict().items()}
            if ranks.count > 1:
                torch.distributed.all_gather_object(states, mine)
                assert all(state == mine for state in states), "the processes ended with different networks"
            if ranks.writes:
                tensors.save(end.with_suffix(".safetensors"), net.state_dict(), name)
                told = [{k: v for k, v in row.items() if k != "seconds"} for row in records.epochs]
                end.with_suffix(".json").write_text(json.dumps([records.batches, told]))


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with job(Path(sys.argv[1], "log")):
        main(Path(sys.argv[1]), sys.argv[2:])
