"""A job's life: its log, its errors in one line, its end when asked or when its parent dies."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from eightfold.core import runtime

SCRIPTS = str(Path(runtime.__file__).parents[2])
HEAD = f"""
import os, signal, sys, time
sys.path.insert(0, {SCRIPTS!r})
from eightfold.core import runtime
from eightfold.core.files import UserError
from eightfold.core.runtime import job, log, progress, stops_at_a_step, terminated
"""


def start(folder, body):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", HEAD + body], cwd=folder, **pipes)


def run(folder, body):
    """(exit status, what stood on the console, the log) of a script."""
    process = start(folder, body)
    _, console = process.communicate(timeout=60)
    path = folder / "logs" / "a.log"
    return process.returncode, console, path.read_text() if path.exists() else ""


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_that_ends_well_says_so_in_its_log(tmp_path):
    status, console, log = run(tmp_path, "with job('logs/a.log'):\n    log.info('working %d', 3)\n")
    assert status == 0 and console == "working 3\n"
    assert "working 3" in log and "done in" in log


def test_a_users_mistake_is_one_line_and_status_1(tmp_path):
    status, console, log = run(tmp_path, "with job('logs/a.log'):\n    raise UserError('labels.csv: no column id')\n")
    assert status == 1
    assert console == "Error: labels.csv: no column id\nLog: logs/a.log\n"
    assert "Error: labels.csv: no column id" in log and "Traceback" not in log + console and "done in" not in log


def test_a_file_that_was_taken_away_is_one_line_and_a_missing_program_a_traceback(tmp_path):
    status, console, log = run(tmp_path, "with job('logs/a.log'):\n    open('cache/data-1/manifest.json')\n")
    assert status == 1 and console.count("\n") == 2 and "Traceback" not in log + console
    assert "cache/data-1/manifest.json" in console and "shares this cache" in console and "run the same command" in log
    body = "import subprocess\nwith job('logs/a.log'):\n    subprocess.run(['no-such-program'])\n"
    assert "Traceback" in run(tmp_path, body)[1]


def test_a_defect_shows_its_traceback_in_both_places(tmp_path):
    status, console, log = run(tmp_path, "with job('logs/a.log'):\n    1 / 0\n")
    assert status == 1
    for text in (console, log):
        assert "Traceback" in text and "ZeroDivisionError" in text
    assert "Log: logs/a.log" in console


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting, and /proc's count")
def test_a_job_keeps_the_memory_that_it_frees(tmp_path):
    body = """
import mmap, resource
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
with job('logs/a.log'):
    pages = 3 * 2**30 // mmap.PAGESIZE  # more than mallopt's largest threshold, 2 GB
    bytearray(3 * 2**30)[::mmap.PAGESIZE] = b"1" * pages
    before = faults()
    bytearray(3 * 2**30)[::mmap.PAGESIZE] = b"1" * pages
    log.info('%d', faults() - before)
"""
    status, console, _ = run(tmp_path, body)
    assert status == 0 and int(console) < 10_000, console


def test_progress_writes_no_bar_where_there_is_no_terminal(tmp_path):
    body = "with job('logs/a.log'):\n    for i in progress(range(3), 3, 'counting', every_s=0): pass\n"
    status, console, log = run(tmp_path, body)
    assert status == 0 and console.count("counting: ") == 3 and "\r" not in console
    assert "counting: 3 of 3 images" in log


def test_a_file_system_without_locks_stops_no_job(tmp_path):
    """As some network file systems are; each job died by it."""
    body = """
import errno, fcntl
def none(*_):
    raise OSError(errno.ENOLCK, 'No locks available')
fcntl.flock = none
with job('logs/a.log'):
    log.info('working')
"""
    status, console, log = run(tmp_path, body)
    assert status == 0 and console == "working\n" and "done in" in log


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_ends_and_says_how_to_go_on(tmp_path, asked):
    process = start(tmp_path, "with job('logs/a.log'):\n    open('up', 'w')\n    time.sleep(60)\n")
    wait_for((tmp_path / "up").exists)
    process.send_signal(asked)
    assert process.wait(20) == 128 + asked
    console, log = process.communicate()[1], (tmp_path / "logs/a.log").read_text()
    assert "Traceback" not in console + log and "the same command goes on" in console and "done in" not in log
    assert log.splitlines()[-1].split(" ", 1)[1].startswith(runtime.ASKED)


@pytest.mark.parametrize("of", ["a job", "anything else"])
def test_a_job_that_still_imports_ends_without_a_traceback(tmp_path, of):
    """Torch takes seconds. Snakemake's own process keeps its KeyboardInterrupt, by which it stops in good order."""
    given = "from types import SimpleNamespace\nsnakemake = SimpleNamespace(params={})\n" if of == "a job" else ""
    program = f"{given}import sys, time\nsys.path.insert(0, {SCRIPTS!r})\nimport eightfold\n"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{program}open('up', 'w')\ntime.sleep(60)\n"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for((tmp_path / "up").exists)
    process.send_signal(signal.SIGINT)
    assert ("Traceback" in process.communicate(timeout=20)[1]) == (of != "a job")


@pytest.mark.parametrize("asked", ["SIGTERM", "SIGINT"])
def test_asked_to_end_in_a_loop_it_ends_at_a_step_however_often_it_is_asked(tmp_path, asked):
    """The death of a parent with many threads is told once for each of them: the second must not cut the saving short."""
    body = """
with job('logs/a.log'):
    with stops_at_a_step():
        open('up', 'w')
        while not terminated():
            time.sleep(0.01)
        open('saving', 'w')
        time.sleep(1)
        open('saved', 'w')
        sys.exit(143)
"""
    process = start(tmp_path, body)
    wait_for((tmp_path / "up").exists)
    process.send_signal(signal.Signals[asked])
    wait_for((tmp_path / "saving").exists)
    process.send_signal(signal.Signals[asked])
    assert process.wait(20) == 143 and (tmp_path / "saved").exists()
    process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the death of an orphan")
def test_it_dies_with_its_parent(tmp_path):
    child = HEAD + "with job('logs/a.log'):\n    open('pid', 'w').write(str(os.getpid()))\n    time.sleep(60)\n"
    (tmp_path / "child.py").write_text(child)
    parent = f"import subprocess; subprocess.run([{sys.executable!r}, 'child.py'])"
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    process.kill()
    process.wait()

    def gone():
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    try:
        wait_for(gone)
    finally:
        if not gone():
            os.kill(pid, signal.SIGKILL)


def test_one_job_draws_a_bar_and_those_beside_it_write_lines(tmp_path):
    """On a terminal of its own: the first to ask has it; on a CI machine nobody draws."""
    program = (
        "import sys, time; from eightfold.core import runtime\n"
        "with runtime._bar_of_its_own() as first, runtime._bar_of_its_own() as second: told = first, second\n"
        "with runtime._bar_of_its_own() as third: print(*told, third)\n"
        "with runtime.counted(2, 'train head', note=lambda: 'epoch 1, loss 0.5') as done: done(); time.sleep(0.2); done()\n"
    )

    def told(**environment) -> str:
        here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        given = {**{k: v for k, v in os.environ.items() if k != "CI"}, "PYTHONPATH": SCRIPTS, **environment}
        work = subprocess.Popen(
            [sys.executable, "-c", program], stdout=there, stderr=there, env=given, start_new_session=True
        )
        os.close(there)
        text = b""
        with contextlib.suppress(OSError):  # the other end is gone
            while part := os.read(here, 65536):
                text += part
        assert work.wait(60) == 0, text
        os.close(here)
        return text.decode()

    shown = told()
    assert "True False True" in shown and "train head" in shown and "epoch 1, loss 0.5" in shown and "2/2" in shown
    assert told(CI="true").split() == ["False", "False", "False"]
