"""The lock that a killed run leaves goes, and no other; and Snakemake keeps its lock where it is looked for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eightfold.core.provenance import SCRIPTS
from eightfold.upkeep import lock

MOVED = (
    "This private part of Snakemake, where it keeps its lock, has changed: see module scripts/eightfold/upkeep/lock.py"
)
SNAKEFILE = """
from eightfold.upkeep.lock import hold

onstart:
    hold()

rule:
    output: "done.txt"
    shell: "echo > started.txt; sleep $EIGHTFOLD_TEST_SLEEP; echo > {output}"
"""


def running(folder: Path, seconds: float = 60) -> subprocess.Popen:
    """A process that holds ``folder`` as a run does, with Snakemake's lock beside it."""
    program = (
        "import sys, time; from pathlib import Path; from eightfold.upkeep import lock; folder = Path(sys.argv[1])\n"
        "(folder / 'locks').mkdir(parents=True, exist_ok=True); (folder / 'locks' / '0.output.lock').write_text('x')\n"
        f"lock.hold(folder); print('held', flush=True); time.sleep({seconds})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, "-c", program, str(folder)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lock_of_the_living_stays_and_that_of_the_dead_goes(tmp_path):
    folder = tmp_path / ".snakemake"
    assert lock.release_dead(folder) == ""
    process = running(folder)
    try:
        assert f"process {process.pid} on" in lock.release_dead(folder)
        assert "left alone" in lock.release_dead(folder) and list((folder / "locks").iterdir())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert f"process {process.pid} on" in (told := lock.release_dead(folder)) and "its lock is released" in told
    assert not list((folder / "locks").iterdir()) and lock.release_dead(folder) == ""


def test_a_lock_that_cannot_be_told_is_left_with_what_to_do(tmp_path, monkeypatch):
    folder = tmp_path / ".snakemake"
    (folder / "locks").mkdir(parents=True)
    (folder / "locks" / "0.output.lock").write_text("x")
    assert "make unlock" in lock.release_dead(folder)  # nobody has said that he runs
    process = running(folder)
    process.kill()
    process.wait()
    process.stdout.close()
    later = time.time() + 5
    os.utime(folder / "locks" / "0.output.lock", (later, later))  # another run has locked since, and not yet said so
    assert "make unlock" in lock.release_dead(folder)
    os.utime(folder / "locks" / "0.output.lock", (1, 1))
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert "another machine" in lock.release_dead(folder) and "make unlock" in lock.release_dead(folder)
    assert list((folder / "locks").iterdir())


@pytest.mark.slow
def test_snakemakes_lock_is_where_we_look_and_a_run_starts_once_it_is_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet"]

    def start(seconds: int) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "EIGHTFOLD_TEST_SLEEP": str(seconds)}
        return subprocess.Popen(command, env=environment, start_new_session=True)

    process, ends = start(60), time.monotonic() + 60
    while not Path("started.txt").exists():
        assert process.poll() is None and time.monotonic() < ends
        time.sleep(0.05)
    assert lock.snakemake_locks(), MOVED
    assert "left alone" in lock.release_dead()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert lock.snakemake_locks(), MOVED
    assert "its lock is released" in lock.release_dead() and not lock.snakemake_locks(), MOVED
    assert start(0).wait(60) == 0 and Path("done.txt").exists() and not lock.snakemake_locks()
