"""Several processes that train one stage: the network that one process trains, and the same devices for nobody else."""

import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ranks
import torch

from eightfold import devices, tensors
from eightfold.distributed import Ranks

SCRIPT = Path(ranks.__file__)
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
# Sums of at most a few thousand float32 numbers in another order, over 6 to 14 steps that follow from one another.
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}


def train(folder: Path, processes: int, *names: str) -> None:
    command = [*LAUNCH, "--nproc-per-node", str(processes), SCRIPT, folder, *names]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    ranks.main(folder, list(ranks.CASES))
    train(folder, 2, "plain", "mixed", "weighed")
    train(folder, 4, "small")
    return folder


@pytest.mark.parametrize(("name", "processes"), [("plain", 2), ("mixed", 2), ("weighed", 2), ("small", 4)])
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
        assert row == pytest.approx(one_row, rel=1e-4)


def test_every_picture_is_one_process_s_in_order():
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
