"""The workflow on a real SLURM of two nodes, one of which dies in mid-training: the same bytes as beside it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent / "slurm"))

import cluster as slurm
import tiny

THREADS = [f"{rule}=1" for rule in ("manifest", "pixels", "activations", "train", "predict")]
QUICK = ["--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"]


def start(folder: Path, config: Path, *words: str, env=None) -> subprocess.Popen:
    command = [sys.executable, "-m", "snakemake", "--configfile", str(config), "--set-threads", *THREADS, *words]
    with open(folder.with_suffix(".log"), "w") as out:
        return subprocess.Popen(
            [*command, "--", "results/tiny/submission.csv"], cwd=folder, env=env, stdout=out, stderr=out
        )


def until(ready, process: subprocess.Popen, log: Path, seconds: float = 600):
    """Wait for something to be true while a process lives; its value."""
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert process.poll() is None and time.monotonic() < end, log.read_text()[-4000:]
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """What happened: a run beside the cluster, and one on it that lost its node in training and its controller after."""
    if "EIGHTFOLD_SLURM" not in os.environ:
        pytest.skip("minutes long: `make slurm-test` runs it")
    if reason := slurm.why_not():
        pytest.skip(reason)
    room = tmp_path_factory.mktemp("slurm")
    tiny.write_pictures(room / "pictures")
    config = tiny.write_config(room / "tiny.yaml", room / "pictures", epochs=30)
    beside, on_it = tiny.workplace(room / "beside"), tiny.workplace(room / "on_it")
    log = on_it.with_suffix(".log")
    processes = [start(beside, config, "--cores", "1")]
    try:
        with slurm.cluster() as made:
            run = start(on_it, config, "--workflow-profile", "profiles/slurm", *QUICK, env=made.env)
            processes.append(run)
            # The first stage is over, and the second has written an epoch.
            until((on_it / "results/tiny/fold0/head/stage.json").exists, run, log)
            until(lambda: list(on_it.glob("results/tiny/.resume/*.safetensors")), run, log)
            training = next(job for job in made.jobs() if job["JobState"] == "RUNNING")
            killed = training["NodeList"]
            made.kill_node(killed)

            def again():
                job = next(job for job in made.jobs() if job["JobId"] == training["JobId"])
                return job if job["JobState"] == "RUNNING" and job["Restarts"] != "0" else None

            moved = until(again, run, log)
            made.start_node(killed)
            made.stop_controller()
            time.sleep(3)
            made.start_controller()
            run.wait(600)
            jobs = made.jobs()
        assert run.wait() == 0, log.read_text()[-4000:]
        assert processes[0].wait(300) == 0, beside.with_suffix(".log").read_text()[-4000:]
    except slurm.Unavailable as reason:
        pytest.skip(str(reason))
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
    return {"beside": beside, "on_it": on_it, "jobs": jobs, "killed": killed, "moved": moved}


def test_same_bytes_as_beside_the_cluster(story):
    for name in ("submission.csv", "metrics.json", "fold0/all/checkpoint.safetensors"):
        assert (story["on_it"] / "results/tiny" / name).read_bytes() == (
            story["beside"] / "results/tiny" / name
        ).read_bytes(), name


def test_training_went_on_from_its_last_epoch_on_the_other_node(story):
    assert story["moved"]["NodeList"] != story["killed"]
    told = (story["on_it"] / "results/tiny/logs/fold0/all.train.log").read_text()
    assert int(re.search(r"resuming at step (\d+)", told)[1]) > 0
    assert "resuming" not in (story["beside"] / "results/tiny/logs/fold0/all.train.log").read_text()


def test_both_nodes_worked_and_every_job_of_the_device_held_a_gpu(story):
    jobs = story["jobs"]
    assert {job["NodeList"] for job in jobs} == {"n1", "n2"}
    of_device = [job for job in jobs if re.match(r"rule_(activations|train|predict)_", job["Comment"])]
    assert len(of_device) >= 5
    assert all(re.fullmatch("gres[:/]gpu:1", job["TresPerJob"]) for job in of_device)
    assert not [job for job in jobs if job not in of_device and "TresPerJob" in job]


def test_small_rules_ride_together(story):
    # look, pixels, activations, 2 stages, 2 predictions, finish: 8 in the queue for 11 rules on nodes; weights are local.
    assert len(story["jobs"]) == 8


def test_no_daemon_and_no_folder_stay(story):
    assert not list(Path("/tmp").glob("slurm-test-*/slurm.conf"))


def test_a_machine_of_another_slurm_is_left_alone(monkeypatch):
    monkeypatch.setattr(slurm, "_program", lambda name: f"/usr/bin/{name}")
    monkeypatch.setenv("SLURM_CONF", "/somewhere/slurm.conf")
    assert "a SLURM of its own" in slurm.why_not()
    with pytest.raises(slurm.Unavailable):
        slurm.Cluster()


def test_the_profile_claims_a_gpu_for_every_rule_that_has_one():
    rules = "".join(path.read_text() for path in (tiny.ROOT / "rules").glob("*.smk"))
    blocks = re.split(r"\n(?:use )?rule ", rules)[1:]
    named = {re.match(r"\w+", block)[0] for block in blocks if re.search(r"^ +gpu=", block, re.MULTILINE)}
    heirs = {re.search(r"^\w+ as (\w+) with", block)[1] for block in blocks if re.match(r"\w+ as \w+ with", block)}
    profile = yaml.safe_load((tiny.ROOT / "profiles/slurm/profile.yaml").read_text())
    assert named | heirs - {"pixels_part"} == set(profile["set-resources"])
    assert named | heirs | {"manifest", "pixels"} == set(profile["set-threads"])
    assert all(claim == {"gpu": 1} for claim in profile["set-resources"].values())
