"""The workflow on a real SLURM of two nodes, and what can go wrong there: the same bytes as beside it, or a clear error."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "slurm"))

import cluster as slurm
import tiny

# One thread a job, beside the cluster and on it. Words of the command line replace a profile's whole key: see `claims`.
FAT = ("manifest", "pixels", "pixels_part", "activations", "activations_part", "train", "predict")
QUICK = ["--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"]
ON_IT = ["--workflow-profile", "profiles/slurm", *QUICK]
SUBMISSION = "results/tiny/submission.csv"
CHECKPOINT = "results/tiny/fold0/all/checkpoint.safetensors"
RESULTS = (SUBMISSION, "results/tiny/metrics.json", CHECKPOINT)
LOG = "results/tiny/logs/fold0/all.train.log"


class Run:
    """Snakemake at work in a folder, for a target."""

    def __init__(self, folder: Path, config: Path, target: str, *words: str, env=None):
        self.folder, self.output = folder, folder.with_suffix(".log")
        threads = [f"{rule}=1" for rule in FAT]
        command = [sys.executable, "-m", "snakemake", "--configfile", str(config), "--set-threads", *threads, *words]
        with open(self.output, "w") as out:
            self.process = subprocess.Popen([*command, "--", target], cwd=folder, env=env, stdout=out, stderr=out)

    @property
    def told(self) -> str:
        return self.output.read_text(errors="replace")

    def until(self, ready, seconds: float = 900):
        """Wait for something to be true while Snakemake lives; its value."""
        end = time.monotonic() + seconds
        while not (found := ready()):
            assert self.process.poll() is None and time.monotonic() < end, self.told[-4000:]
            time.sleep(0.2)
        return found

    def end(self, ok: bool = True, seconds: float = 1200) -> str:
        assert (self.process.wait(seconds) == 0) == ok, self.told[-4000:]
        return self.told

    def has_trained_an_epoch(self) -> bool:
        return bool(list(self.folder.glob("results/tiny/.resume/fold0.all.*.safetensors")))

    def trainer(self) -> int:
        """The process that trains: its id."""
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
                if (path / "cwd").resolve() == self.folder and any(re.fullmatch(rb".*\.train\.py", w) for w in words):
                    return int(path.name)
            except OSError:
                continue
        raise AssertionError("nothing trains")


def claims(**more: str) -> list[str]:
    """What a training job asks of the cluster, in words."""
    return ["--set-resources", *(f"train:{name}={value}" for name, value in {"gpu": "1", **more}.items())]


def four_parts_a_job(path: Path) -> None:
    """Change a profile so that the parts ride together, and those of a job that holds a GPU take turns on it."""
    profile = yaml.safe_load(path.read_text())
    profile["groups"] += ["pixels_part=packing", "activations_part=parts"]
    profile |= {
        "group-components": ["packing=4", "parts=4"],
        "set-resource-scopes": ["gpu=local"],
        "resources": ["gpu=1"],
    }
    path.write_text(yaml.safe_dump(profile))


def again(finished: Path, name: str) -> Path:
    """A copy of a finished workplace that has still to train its last stage, or to do it again."""
    folder = finished.with_name(name)
    shutil.copytree(finished, folder, symlinks=True)
    shutil.rmtree(folder / "results/tiny/fold0/all")
    return folder


def job_of(made: slurm.Cluster, run: Run) -> dict[str, str]:
    """The latest job of a run's training, as the controller tells it."""
    return [job for job in made.jobs() if job["WorkDir"] == str(run.folder) and "rule_train" in job["Comment"]][-1]


def lose_a_node(made: slurm.Cluster, run: Run) -> dict[str, str]:
    """A node dies in mid-training, then the controller starts anew. What became of the job."""
    # The first stage is over, and the second has written an epoch.
    run.until((run.folder / "results/tiny/fold0/head/stage.json").exists)
    run.until(run.has_trained_an_epoch)
    training = next(job for job in made.jobs() if job["JobState"] == "RUNNING")
    made.kill_node(training["NodeList"])

    def moved():
        job = next(job for job in made.jobs() if job["JobId"] == training["JobId"])
        return job if job["JobState"] == "RUNNING" and job["Restarts"] != "0" else None

    found = run.until(moved)
    made.start_node(training["NodeList"])
    made.stop_controller()
    time.sleep(3)
    made.start_controller()
    return {"killed": training["NodeList"], "moved": found["NodeList"]}


def outlast(made: slurm.Cluster, beside: Path, config: Path) -> tuple[Run, bool]:
    """A training that hangs after its first epoch, with a minute allowed; False: the machine was too slow for an epoch."""
    limit = claims(runtime="1 if attempt == 1 else 30")
    run = Run(again(beside, "time"), config, CHECKPOINT, *ON_IT, *limit, env=made.env)
    run.until(lambda: run.has_trained_an_epoch() or "TIMEOUT" in run.told)
    if "TIMEOUT" in run.told:
        return run, False
    os.kill(run.trainer(), signal.SIGSTOP)
    return run, True


def overflow(made: slurm.Cluster, beside: Path, config: Path) -> Run:
    """A training that asks for less memory than torch takes, and for enough when it is tried again."""
    return Run(again(beside, "memory"), config, CHECKPOINT, *ON_IT, *claims(mem_mb="400 * attempt**3"), env=made.env)


def cancel(made: slurm.Cluster, beside: Path, config: Path) -> tuple[str, Run]:
    """A training that somebody cancels, where nothing is tried twice; the same command again. What the first one told."""
    folder = again(beside, "cancelled")
    run = Run(folder, config, CHECKPOINT, *ON_IT, *claims(), "--retries", "0", env=made.env)
    run.until(run.has_trained_an_epoch)
    made.call("scancel", job_of(made, run)["JobId"])
    return run.end(ok=False), Run(folder, config, CHECKPOINT, *ON_IT, *claims(), env=made.env)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    if "EIGHTFOLD_SLURM" not in os.environ:
        pytest.skip("minutes long: `make slurm-test` runs it")
    if reason := slurm.why_not():
        pytest.skip(reason)
    return tmp_path_factory.mktemp("slurm")


@pytest.fixture(scope="module")
def made(room):
    made = slurm.Cluster(cpus=4)
    try:
        made.start()
        yield made
    except slurm.Unavailable as reason:
        pytest.skip(str(reason))
    finally:
        made.stop()
    assert not made.folder.exists() and all(daemon.poll() is not None for daemon in made.daemons.values())


@pytest.fixture(scope="module")
def config(room) -> Path:
    tiny.write_images(room / "images")
    return tiny.write_config(room / "tiny.yaml", room / "images", epochs=20)


@pytest.fixture(scope="module")
def at_work(room, config) -> Run:
    """A run beside the cluster, begun: it computes while the cluster waits for a lost node."""
    return Run(tiny.workplace(room / "beside"), config, SUBMISSION, "--cores", "1")


@pytest.fixture(scope="module")
def beside(at_work) -> Path:
    """A run beside the cluster, finished."""
    at_work.end()
    return at_work.folder


@pytest.fixture(scope="module")
def story(room, made, config, at_work):
    """A run on the cluster that lost a node in training, and the controller after."""
    on_it = Run(tiny.workplace(room / "on_it"), config, SUBMISSION, *ON_IT, env=made.env)
    told = lose_a_node(made, on_it)
    on_it.end()
    jobs = [job for job in made.jobs() if job["WorkDir"] == str(on_it.folder)]
    return {"on_it": on_it.folder, "jobs": jobs, **told}


@pytest.fixture(scope="module")
def faults(beside, made, config):
    """Three trainings that fail side by side, each in its way; what each told."""
    hanging, hung = outlast(made, beside, config)
    large = overflow(made, beside, config)
    cancelled, resumed = cancel(made, beside, config)
    resumed.end()
    return {"time": hanging.end(), "hung": hung, "memory": large.end(), "cancelled": cancelled}


def same_bytes(one: Path, other: Path, names) -> None:
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def steps_kept(folder: Path) -> int:
    """After how many steps the last attempt to train went on; 0 where it began anew."""
    found = re.search(r"resuming at step (\d+)", (folder / LOG).read_text())
    return int(found[1]) if found else 0


# ---- all is well, but for a node and the controller


def test_same_bytes_as_beside_the_cluster(story, beside):
    same_bytes(story["on_it"], beside, RESULTS)


def test_training_went_on_from_its_last_epoch_on_the_other_node(story, beside):
    assert {story["moved"], story["killed"]} == {"n1", "n2"}
    assert steps_kept(story["on_it"]) > 0 and steps_kept(beside) == 0


def test_both_nodes_worked_and_every_job_of_the_device_held_a_gpu(story):
    jobs = story["jobs"]
    assert {job["NodeList"] for job in jobs} == {"n1", "n2"}
    of_device = [job for job in jobs if re.match(r"rule_(activations|train|predict)_", job["Comment"])]
    assert len(of_device) >= 5
    assert all(re.fullmatch("gres[:/]gpu:1", job["TresPerJob"]) for job in of_device)
    assert not [job for job in jobs if job not in of_device and "TresPerJob" in job]
    for node in ("n1", "n2"):  # of one GPU each
        times = sorted((job["StartTime"], job["EndTime"]) for job in of_device if job["NodeList"] == node)
        assert all(end <= start for (_, end), (start, _) in pairwise(times)), times


def test_small_rules_ride_together(story):
    # look, pixels, activations, 2 stages, prediction, choose, prediction, finish: 9 in the queue for 13 rules on nodes;
    # weights are local. What answers is chosen between the two predictions, so it cannot ride with what finishes.
    assert len(story["jobs"]) == 9


# ---- faults


def test_a_job_over_its_time_limit_is_tried_again_and_goes_on_where_it_was(faults, beside):
    told = faults["time"]
    assert "TIMEOUT" in told and LOG in told
    assert steps_kept(beside.parent / "time") > 0 or not faults["hung"]
    same_bytes(beside.parent / "time", beside, [CHECKPOINT])


def test_a_job_over_its_memory_is_tried_again_with_more(faults, beside):
    told = faults["memory"]
    # SLURM kills the step; that its job is then FAILED or OUT_OF_MEMORY is a race, so its own log has to say why.
    failed = re.search(rf"Error in rule train:.*?log: {LOG}, (\S+\.log)", told, re.DOTALL)
    assert failed and "exceeded memory limit" in Path(failed[1]).read_text(), told[-4000:]
    same_bytes(beside.parent / "memory", beside, [CHECKPOINT])


def test_a_cancelled_job_is_an_error_that_names_the_log_and_goes_on_when_asked_again(faults, beside):
    told = faults["cancelled"]
    error = told[told.index("Error in rule train") :]
    assert "CANCELLED" in error and LOG in error and "results/cache/slurm_logs" in error
    assert steps_kept(beside.parent / "cancelled") > 0
    same_bytes(beside.parent / "cancelled", beside, [CHECKPOINT])


# ---- work that is divided


def test_eight_shards_on_the_cluster_are_the_bytes_of_one_job(room, made):
    tiny.write_images(room / "many", labelled=520, test=0)
    runs, outputs = {}, {}
    for shards, words in ((1, ["--cores", "1"]), (8, ON_IT)):
        config = tiny.write_config(room / f"{shards}.yaml", room / "many", shards=shards, run=f"of{shards}")
        folder = tiny.workplace(room / config.stem)
        four_parts_a_job(folder / "profiles/slurm/profile.yaml")
        runs[shards] = Run(folder, config, f"results/of{shards}/fold0/head/stage.json", *words, env=made.env)
    for shards, run in runs.items():
        assert run.end().count("Finished jobid") == (7 if shards == 1 else 7 + 16)
        results = run.folder / "results/cache"
        found = [*results.glob("pixels-*/*.u8"), *results.glob("activations-*/*.safetensors")]
        outputs[shards] = {path.relative_to(results): path.read_bytes() for path in found}
    assert outputs[1] == outputs[8] and len(outputs[1]) == 2
    jobs = [job for job in made.jobs() if job["WorkDir"] == str(runs[8].folder)]
    assert {job["NodeList"] for job in jobs} == {"n1", "n2"}
    # look, twice four parts of each kind, what joins each kind, training; no job holds more than a GPU.
    assert len(jobs) == 1 + 2 + 1 + 2 + 1 + 1, [job["Comment"] for job in jobs]
    assert {job.get("TresPerJob", "") for job in jobs} <= {"", "gres:gpu:1", "gres/gpu:1"}


def test_a_stage_of_two_processes_runs_on_two_nodes(beside, made, room):
    config = tiny.write_config(room / "two.yaml", room / "images", gpus=2)
    env = {**made.env, "GLOO_SOCKET_IFNAME": "lo"}
    here, there = (again(beside, name) for name in ("one_node", "two_nodes"))
    local = Run(here, config, CHECKPOINT, "--cores", "2", env=env)
    nodes = claims(gpu="0", mpi="srun", tasks="2", nodes="2", slurm_extra="'--gpus-per-node=1'")
    spread = Run(there, config, CHECKPOINT, *ON_IT, *nodes, env=env)
    local.end(), spread.end()
    job = job_of(made, spread)
    assert job["NumNodes"] == "2" and job["TresPerNode"] in ("gres:gpu:1", "gres/gpu:1")
    assert "2 processes on 2 nodes" in (there / LOG).read_text() and "on 1 node:" in (here / LOG).read_text()
    same_bytes(here, there, [CHECKPOINT])


# ---- without a cluster


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
    assert named | heirs - {"pixels_part", "write_quick_submission"} == set(profile["set-resources"])
    assert (named | heirs | {"manifest", "pixels"}) - {"write_quick_submission"} == set(profile["set-threads"])
    assert all(claim == {"gpu": 1} for claim in profile["set-resources"].values())
