"""Too little memory, losses that are not numbers, threads: the result stays, or the words say what went wrong."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from pipeline import ROOT
from test_training import CPU, STAGE, head, targets, trained, vectors

from eightfold.core import tensors
from eightfold.core.devices import Device, out_of_memory
from eightfold.core.files import UserError
from eightfold.inputs import activations
from eightfold.net import heads, inference, starting_weights
from eightfold.predict import prediction
from eightfold.train import regularise
from eightfold.train.stepping import Stepper

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("scripts", "tests", "tests/train")),
}


# ---- memory

WIDE = """
import json, logging, resource, sys
import torch
from torch import nn
from pathlib import Path
from test_training import CPU, STAGE, trained
from eightfold.core import runtime
from eightfold.net import inference

logging.getLogger("eightfold").addHandler(logging.StreamHandler(sys.stderr))
logging.getLogger("eightfold").setLevel("INFO")
torch.set_num_threads(1)

class Wide(nn.Module):
    '''Blows each of 12 numbers up to 100,000: 5 MB an image, and as much again for the gradient.'''
    def __init__(self):
        super().__init__()
        self.wide = nn.Parameter(torch.linspace(0, 1, 100_000))
    def forward(self, x):
        return torch.tanh(x[:, :, None] * self.wide).mean(2)

torch.manual_seed(0)
net = nn.Sequential(Wide(), nn.BatchNorm1d(12), nn.Linear(12, 2)) if sys.argv[2] == "norm" else nn.Sequential(Wide(), nn.Linear(12, 2))
if sys.argv[1] != "free":
    used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
    limit = used + int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
records = trained(net, Path(sys.argv[3]), batch_size=16, stage={**STAGE, "cycles": 1})
print(json.dumps({"losses": [row["loss"] for row in records.batches], "weights": net[-1].weight.tolist()}))
"""


def wide(limit: str, kind: str, folder) -> tuple[dict, str]:
    command = [sys.executable, "-c", WIDE, limit, kind, str(folder)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory that a process may map")
def test_out_of_real_memory_the_micro_batch_halves_and_the_result_stays(tmp_path):
    """A limit of the kernel, and torch's own allocator that runs into it."""
    free, _ = wide("free", "plain", tmp_path / "free")
    tight, told = wide(str(140 * 2**20), "plain", tmp_path / "tight")
    assert "out of device memory: going on with micro-batches of" in told
    np.testing.assert_allclose(tight["losses"], free["losses"], rtol=1e-4)
    np.testing.assert_allclose(tight["weights"], free["weights"], rtol=1e-3, atol=1e-5)


class Failing(torch.nn.Module):
    """Counts in BatchNorm like any other, then has no memory for more than ``room`` rows."""

    def __init__(self, room: int, words: str):
        super().__init__()
        self.norm, self.out, self.room, self.words = torch.nn.BatchNorm1d(12), torch.nn.Linear(12, 2), room, words

    def forward(self, x):
        x = self.norm(x)
        if self.training and len(x) > self.room:
            raise RuntimeError(self.words)
        return self.out(x)


WORDS = [
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes. Error code 12",
    "MPS backend out of memory (MPS allocated: 1 GB)",
]


@pytest.mark.parametrize("words", WORDS[1:])
def test_a_broken_off_attempt_counts_for_nothing(words):
    """BatchNorm's running figures are those of the micro-batches alone, not of the attempt that failed before them."""
    torch.manual_seed(0)
    net = Failing(4, words)
    x, y = torch.randn(8, 12), torch.arange(8) % 2
    stepper = Stepper(net, CPU, False)
    stepper(x, y, [0.1], 1)
    by_hand = torch.nn.BatchNorm1d(12)
    for part in x.split(4):
        by_hand(part)
    assert torch.equal(net.norm.running_mean, by_hand.running_mean)
    assert net.norm.num_batches_tracked == 2 and stepper.micro_batch == 4


def test_other_errors_are_not_taken_for_lack_of_memory():
    assert out_of_memory(torch.OutOfMemoryError(WORDS[0])) and out_of_memory(MemoryError())
    assert all(out_of_memory(RuntimeError(words)) for words in WORDS[1:])
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x12 and 3x2)"))
    with pytest.raises(RuntimeError, match="something else"):
        Stepper(Failing(4, "something else"), CPU, False)(torch.randn(8, 12), torch.arange(8) % 2, [0.1], 1)


@pytest.mark.parametrize("words", WORDS[1:])
def test_predictions_are_the_same_when_the_batch_had_to_shrink(words):
    net = heads.head(12, 2, 1).eval()

    class Short(torch.nn.Module):
        def forward(self, x):
            if len(x) > 5:
                raise RuntimeError(words)
            return net(x)

    rows = np.arange(30)
    whole, short = (inference.outputs(module, vectors, rows, 0, CPU) for module in (net, Short()))
    torch.testing.assert_close(whole, short)


def test_a_job_that_is_tried_again_asks_for_more(finished, tmp_path):
    checkout = finished.copy(tmp_path / "checkout")
    told = "print(f'mem_mb={snakemake.resources.mem_mb} runtime={snakemake.resources.runtime}', flush=True)"
    checkout["scripts/folds.py"].write_text(f"import sys\n{told}\nsys.exit(1)\n")
    output = checkout.run("results/tiny/folds.csv", "--forcerun", "folds", "--retries", "2", ok=False)
    asked = [int(number) for number in re.findall(r"mem_mb=(\d+)", output)]
    times = [int(number) for number in re.findall(r"runtime=(\d+)", output)]
    assert asked[:3] == [2000, 4000, 6000] and times[:3] == [10, 20, 30]


# ---- small and lopsided batches


@pytest.mark.parametrize(
    "options",
    [{}, {"class_weights": "balanced"}, {"sampler": "balanced"}, {"label_smoothing": 0.1}, {"mixup": 0.4}],
    ids=str,
)
@pytest.mark.parametrize("task", ["single", "multi"])
def test_a_class_may_be_absent_from_a_batch(tmp_path, options, task):
    """Two of 21 images are of class 2: most batches of 4 have none of it."""
    classes = np.where(np.isin(np.arange(30), [3, 25]), 2, np.arange(30) % 2)
    y = classes if task == "single" else np.eye(3, dtype=np.float32)[classes]
    records = trained(head(classes=3), tmp_path, y=y, batch_size=4, stage={**STAGE, **options})
    assert all(np.isfinite(row["loss"]) for row in records.batches)
    assert len(records.epochs) == 3 and regularise.classes_of(y) == 3


# ---- numbers


def test_a_loss_that_is_no_number_names_its_images_and_keeps_the_last_good_state(tmp_path):
    def source(rows, view):
        x = vectors(rows, view)
        return x * float("inf") if view == 2 and 7 in rows else x

    resume = tmp_path / "resume.safetensors"
    with pytest.raises(UserError) as caught:
        trained(head(), tmp_path, source=source, ids=[f"picture {row}" for row in range(30)])
    told = str(caught.value)
    assert re.search(r"stage head: the loss is (nan|inf) at step [3-5] \(epoch 2\), learning rate 0\.\d+", told)
    assert "'picture 7'" in told and f"the state after epoch 1 is kept: {resume}" in told
    assert tensors.notes(resume)["step"] == 3  # as it was after the first epoch
    good = trained(head(), tmp_path / "good")
    assert tensors.notes(resume)["epochs"][0]["train_loss"] == good.epochs[0]["train_loss"]


# ---- threads


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_forward_passes_are_the_same_bytes_for_any_number_of_threads(precision):
    trunk, _, _ = starting_weights.pretrained("resnet18", "none", seed=2)
    head = heads.head(trunk.width, 3, 7)
    here, rows = Device(torch.device("cpu"), precision), np.arange(9)

    def source(rows, view):
        return torch.stack([torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(int(row))) for row in rows])

    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made = torch.cat(list(activations.compute(trunk, source, rows, [0], here)[0].pieces))
            split = torch.cat([inference.outputs(trunk, source, part, 0, here) for part in np.split(rows, [2, 5])])
            found.append((made, prediction.logits_of_heads(trunk, [head], source, rows, 1, here)[0], split))
    finally:
        torch.set_num_threads(before)
    for made, logits, split in found:
        assert torch.equal(made, found[0][0]) and torch.equal(logits, found[0][1])
        assert torch.equal(split, made)


def test_training_with_other_threads_agrees_closely(tmp_path):
    """Not the same bytes: its sums are split by thread. What is measured here is how far apart they come."""
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            net = head()
            trained(net, tmp_path / str(threads), y=targets())
            with torch.no_grad():
                found.append(net.eval()(vectors(np.arange(30), 0)).softmax(1))
    finally:
        torch.set_num_threads(before)
    assert (found[0] - found[1]).abs().max() < 1e-3
