"""Several processes that train one stage: the network that one process trains, and the same devices for nobody else."""

import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ranks
import torch
from pipeline import changed_stage

from eightfold.config import plan
from eightfold.config.resolve import resolve
from eightfold.core import devices, tensors
from eightfold.train.distributed import Ranks

pytestmark = pytest.mark.slow
SCRIPT = Path(ranks.__file__)
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
# In float64, where sums in another order differ by 1e-14; the loss alone is of logits rounded to float32, where a logit on the
# border of two numbers moves a gradient by 1e-7. In float32 a rounding of BatchNorm over few numbers grows step by step.
TOLERANCE = {"rtol": 1e-6, "atol": 1e-7}


def start(folder: Path, processes: int, *names: str, slow: float = 0) -> subprocess.Popen:
    command = [*LAUNCH, "--nproc-per-node", str(processes), SCRIPT, folder, *names]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env={**os.environ, "EIGHTFOLD_TEST_SLOW": str(slow)}, **pipes)


def train(folder: Path, processes: int, *names: str) -> None:
    process = start(folder, processes, *names)
    told = process.communicate(timeout=600)[0]
    assert process.returncode == 0, told


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    ranks.main(folder, list(ranks.CASES))
    # Stopped after an epoch as a cluster would stop it, and started again.
    process = start(folder, 2, "plain", "mixed", "weighed", "long", slow=0.1)
    while not (folder / "long-2.resume").exists() and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    told = process.communicate(timeout=600)[0]
    assert process.returncode != 0 and "long-2.resume after step" in told, told
    train(folder, 2, "long")
    assert int(re.search(r"resuming at step (\d+)", (folder / "log").read_text())[1]) >= 3
    train(folder, 4, "small")
    return folder


@pytest.mark.parametrize(("name", "processes"), [("plain", 2), ("mixed", 2), ("weighed", 2), ("long", 2), ("small", 4)])
def test_several_processes_train_what_one_does(folder, name, processes):
    one, several = (tensors.load(folder / f"{name}-{count}.safetensors") for count in (1, processes))
    start = ranks.network().state_dict()
    for key, value in one.items():
        torch.testing.assert_close(several[key], value, **TOLERANCE, msg=lambda text, key=key: f"{key}: {text}")
        if key.endswith(("0.weight", "running_mean")):
            assert not torch.allclose(start[key], value, **TOLERANCE), key
    (batches, epochs), (more_batches, more_epochs) = (
        json.loads((folder / f"{name}-{count}.json").read_text()) for count in (1, processes)
    )
    assert len(batches) == len(more_batches) and len(epochs) == len(more_epochs)
    for one_row, row in zip(batches + epochs, more_batches + more_epochs, strict=True):
        assert row == pytest.approx(one_row, rel=1e-6)


def test_a_stage_of_two_processes_runs_in_the_workflow(finished, tmp_path):
    checkout = finished.copy(tmp_path / "checkout")
    checkout.configure(changed_stage("whole", gpus=2))
    made = "results/tiny/fold0/whole/batches.csv"
    checkout.run(made)
    # What training comes to is tested above. Here BatchNorm over 6 images, of one pixel each in the last layers, makes much
    # of rounding: in one process the loss of the first step moves by 2e-4 when its images change places.
    one, two = (pd.read_csv(place[made]) for place in (finished, checkout))
    pd.testing.assert_frame_equal(one.drop(columns="loss"), two.drop(columns="loss"))
    assert two["loss"][0] == pytest.approx(one["loss"][0], rel=2e-3) and np.isfinite(two["loss"]).all()
    told = checkout["results/tiny/logs/fold0/whole.train.log"].read_text()
    assert "2 processes on 1 node" in told and "2 processes, by gloo" in told
    assert told.count("epoch 1: train loss") == 1 and "rank 1" not in told  # the first process alone tells


def test_every_image_is_one_process_s_in_order():
    for size in range(12):
        parts = [list(range(size))[Ranks(rank, 5).part(size)] for rank in range(5)]
        assert [*itertools.chain(*parts)] == list(range(size)) and max(map(len, parts)) - min(map(len, parts)) <= 1


# ---- devices


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Three devices by name, whose locks are the test's own."""
    monkeypatch.setattr(devices, "_lock_folder", lambda: tmp_path)
    return ["a", "b", "c"]


def give_back(taken) -> None:
    for file in taken.values():
        file.close()


def test_a_job_gets_devices_of_its_own_and_all_of_them_or_none(three):
    two = devices.take(three, 2)
    assert list(two) == [0, 1]
    assert devices.take(three, 2) is None  # and keeps nothing of the one that was free
    last = devices.take(three, 1)
    assert list(last) == [2] and devices.take(three, 1) is None
    give_back(two)
    assert list(devices.take(three, 2)) == [0, 1]


def test_many_jobs_at_once_never_share_a_device_and_keep_all_busy(three):
    busy, seen, problems = set(), [], []

    def job(count: int) -> None:
        while (taken := devices.take(three, count)) is None:
            time.sleep(0.002)
        if busy & set(taken):
            problems.append((busy, taken))
        busy.update(taken)
        seen.append(len(busy))
        time.sleep(0.01)
        busy.difference_update(taken)
        give_back(taken)

    threads = [threading.Thread(target=job, args=(1 + number % 2,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not problems and len(seen) == 16 and max(seen) == 3


def test_cores_are_shared_by_the_gpus_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "DEV", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    recipe = [{"name": "head", "size": 32, "train": "head"}, {"name": "all", "size": 32, "train": "all", "gpus": 2}]

    def made(**device) -> plan.Plan:
        return plan.Plan(resolve({"data": {"source": "demo"}, "recipe": recipe, "device": device}))

    alone = made()
    assert (alone.devices, alone.gpus(), alone.gpus("all")) == (0, 0, 0)
    assert [alone.threads(cores) for cores in (1, 8, 64, None)] == [1, 8, 16, 16]  # one job at a time has them all
    for number in range(4):
        (tmp_path / f"nvidia{number}").touch()
    (tmp_path / "nvidiactl").touch()
    four = made()
    assert (four.devices, four.gpus(), four.gpus("all"), four.gpus("head")) == (4, 1, 2, 1)
    assert four.threads(32) == 8 and four.threads(32, "all") == 16 and four.threads(2) == 1
    assert 4 * four.threads(10) <= 10
    assert made(kind="cpu").devices == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert made().devices == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert made().devices == 0 and made(kind="cuda").devices == 1
