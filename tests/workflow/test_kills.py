"""Killed at chosen moments, the workflow goes on and ends in the same bytes. The long version: `make torture`."""

import os
import re
import shutil
import signal
import sys
import time

import pytest
from pipeline import Checkout, changed
from torture import kills

from eightfold.core import tensors
from eightfold.upkeep import lock

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the death of an orphan")


@linux
def test_killed_again_and_again_it_ends_in_the_same_bytes(finished, tmp_path):
    """The job, Snakemake, and all at once; while it starts, while it trains, while it writes."""
    killed = finished.copy(tmp_path / "killed")
    killed.configure(changed(run="killed"))
    plan = [("snakemake", "epoch"), ("job", "script"), ("group", "writing"), ("snakemake", "starting")]
    # What the runs share is there: it is the run's own jobs that are killed.
    whole = {name.replace("results/tiny/", "results/killed/"): data for name, data in kills.results(finished).items()}
    seen = kills.round_of_kills(killed, whole, 4, 7, plan=plan)
    assert [kill["victim"] for kill in seen["kills"]] and len(seen["kills"]) >= 3
    assert not [name for name in seen["different"] if not name.startswith("results/tiny/")]
    assert seen["repeated"] == [] and seen["leftovers"] == [] and max([0, *seen["lost"]]) <= 1
    assert seen["unlocked"] >= 2 and not list(killed["results/killed/.resume"].glob("*"))
    assert killed.planned() == {}


@linux
def test_killed_between_a_stages_end_and_snakemakes_note_of_it_no_epoch_is_done_again(finished, tmp_path):
    late = finished.copy(tmp_path / "late")
    late.configure(changed(run="late"))
    stage = late["results/late/fold0/plain"]

    def resumable() -> set[str]:
        return {path.name.split(".")[1] for path in late["results/late/.resume"].iterdir()}

    late.run("results/late/fold0/plain/stage.json")
    assert resumable() == {"plain"}
    shutil.rmtree(stage)  # as Snakemake does with what an unfinished job has written, before it starts the job again
    late.run("results/late/fold0/plain/stage.json")
    log = late["results/late/logs/fold0/plain.train.log"].read_text()
    assert "resuming at step 3 " in log and "epoch 1:" not in log
    whole = finished["results/tiny/fold0/plain"]
    for name in ("checkpoint.safetensors", "snapshots.safetensors", "valid.safetensors", "batches.csv"):
        assert (stage / name).read_bytes() == (whole / name).read_bytes(), name
    # The next job that reads the stage has no use for it.
    late.run("results/late/fold0/moving/stage.json")
    assert resumable() == {"moving"}


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_a_ctrl_c_saves_the_step_and_says_how_to_go_on(tmp_path, asked):
    """As a terminal sends it: to Snakemake and to its jobs at once."""
    stopped = Checkout.new(tmp_path / "stopped")
    stage = {"name": "whole", "size": 32, "train": "all", "cycles": 20, "lr": 1e-6}
    stopped.configure(changed(recipe=[stage], batch_size=6))
    target, log = "results/tiny/fold0/whole/stage.json", stopped["results/tiny/logs/fold0/whole.train.log"]
    process = stopped.start(target, start_new_session=True)
    ends = time.monotonic() + 120
    while not (log.exists() and "epoch 1:" in log.read_text()):
        assert process.poll() is None and time.monotonic() < ends
        time.sleep(0.02)
    os.killpg(process.pid, asked)
    output = process.communicate(timeout=60)[0]
    assert process.returncode != 0 and "Traceback" not in output + log.read_text()
    assert output.rstrip().endswith("Run the same command again to go on.")
    step = int(re.search(r"saved \S+ after step (\d+) of", log.read_text())[1])
    [resume] = stopped["results/tiny/.resume"].glob("*.whole.*.safetensors")
    assert tensors.notes(resume)["step"] == step == len(tensors.notes(resume)["batches"])
    stopped.run(target)
    assert f"resuming at step {step} from" in log.read_text()


# ---- two at once


def test_two_runs_in_one_folder_one_is_refused_and_the_other_ends_well(finished, tmp_path):
    both = finished.copy(tmp_path / "both")
    both.configure(changed(run="both"))
    first = both.start("results/both/fold0/plain/stage.json", cores=1)
    running = both[".snakemake/running.json"]
    ends = time.monotonic() + 120
    stamp = running.stat().st_mtime_ns if running.exists() else 0
    while not running.exists() or running.stat().st_mtime_ns == stamp:
        assert first.poll() is None and time.monotonic() < ends
        time.sleep(0.05)
    refused = both.run("results/both/fold0/plain/stage.json", ok=False, cores=1)
    assert "cannot be locked" in refused and "left alone" in lock.release_dead(both[".snakemake"])
    output = first.communicate(timeout=600)[0]
    assert first.returncode == 0, output
    digest = kills.results(finished)["results/tiny/fold0/plain/checkpoint.safetensors"]
    assert both["results/both/fold0/plain/checkpoint.safetensors"].read_bytes() == digest


@pytest.mark.skipif("not __import__('os').environ.get('EIGHTFOLD_TORTURE')", reason="minutes: make torture")
def test_two_folders_that_share_a_cache_started_at_once_end_in_the_same_bytes(finished, tmp_path):
    shared, checkouts = tmp_path / "cache", []
    shared.mkdir()
    for name in ("one", "two"):
        checkout = Checkout.new(tmp_path / name)
        checkout["results"].mkdir()
        checkout["results/cache"].symlink_to(shared)
        checkouts.append(checkout)
    started = [checkout.start("submission", cores=1) for checkout in checkouts]
    for checkout, process in zip(checkouts, started, strict=True):
        output = process.communicate(timeout=1800)[0]
        if process.returncode:  # one took away what the other was about to read: the same command again
            assert "Traceback" not in output, output
            checkout.run("submission", cores=1)
    for checkout in checkouts:
        for name in ("submission.csv", "fold0/again/checkpoint.safetensors", "metrics.json"):
            path = f"results/tiny/{name}"
            assert checkout[path].read_bytes() == finished[path].read_bytes(), name
