"""What every job does around its work: a log, a bar, an orderly end, and no life after its Snakemake."""

import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from eightfold.core.files import UserError
from eightfold.core.made import Record

log = logging.getLogger("eightfold")

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names of mallopt(3)
_terminated = False
ASKED = "asked to end"  # the last line of such a job's log begins with it


def terminated() -> bool:
    """Whether this process was asked to end (SIGTERM: a time limit, a pre-emption, a dead Snakemake; SIGINT: a Ctrl-C)."""
    return _terminated


def _on_sigterm(signum, frame) -> None:
    """The first SIGTERM or SIGINT counts. When a parent of many threads dies, the kernel sends one for each of them."""
    global _terminated
    if _terminated:
        return
    _terminated = True
    if not _can_stop_later:
        sys.exit(128 + signum)


_can_stop_later = False


def is_rank() -> bool:
    """Whether torch's launcher started this process, as one of several that do a job together."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """The number of this process among those that do the job; 0 where it is the only one, and of the one that writes."""
    return int(os.environ["RANK"]) if is_rank() else 0


@contextlib.contextmanager
def stops_at_a_step() -> Iterator[None]:
    """Within the block SIGTERM and SIGINT only set ``terminated()``: a loop that looks at it can save its state, then exit.

    Elsewhere the process exits at once.
    """
    global _can_stop_later
    _can_stop_later = True
    try:
        yield
    finally:
        _can_stop_later = False


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when Snakemake dies: an orphan would go on writing to the outputs of a rerun."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died just before we asked
        sys.exit(1)


def keep_freed_memory() -> None:
    """Let the C library keep the memory that tensors free instead of returning it to the kernel.

    A training step frees and takes gigabytes; by default each large tensor is mapped anew, and the kernel zeroes every
    page of it. Keeping them spends a quarter less time (mobilenet_v2, forward and backward on 16 images of 224 px, one
    thread of a Xeon at 2.5 GHz: 8.1 s to 6.0 s of CPU for 4 steps, of which system time 2.2 s to 0.3 s; one run). The
    threshold of -1 is "never": at the largest number, 2 GB, a step of 64 images of 299 px gave all its memory back (an AMD
    EPYC, 2 threads: 5.8 s a step, now 4.4).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc and musl on Linux; macOS has none
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


@contextlib.contextmanager
def _alone(log_path: Path) -> Iterator[None]:
    """Hold a lock that no second writer of the same outputs gets: a job that outlived its Snakemake, or another run."""
    with open(log_path.with_name(f".{log_path.name}.lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("another process is doing this very job; waiting for it to end (%s)", file.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: the job goes on without one
            pass
        yield


def _of_the_disk(error: Exception) -> str:
    """What a disk's refusal says to a person, the files that were finished being whole; empty for any other error."""
    remedies = {
        errno.ENOSPC: "the disk is full: make room, `make clean_cache` frees what runs share",
        errno.EDQUOT: "the disk quota is used up: make room, `make clean_cache` frees what runs share",
        errno.EFBIG: "the file would be larger than this system or user may write",
        errno.EROFS: "the file system is read-only: mount it writable",
        errno.EACCES: "no permission: see who owns the file and its folder",
        errno.EIO: "the disk or the network that it is on does not answer",
        errno.ESTALE: "the network file system has lost the file: mount it again",
    }
    remedy = remedies.get(error.errno or 0) if isinstance(error, OSError) else None
    if isinstance(error, FileNotFoundError) and os.sep in str(error.filename or error):  # a path, not a missing program
        # Snakemake starts no job without its inputs: this one was there.
        remedy = (
            "it was taken away meanwhile, by a run in another folder that shares this cache or by `make clean_cache`"
        )
    return f"{error}; {remedy}, and run the same command again" if remedy else ""


@contextlib.contextmanager
def job(of) -> Iterator[None]:
    """Run a script's work: messages go to its log and the console, SIGTERM or SIGINT ends it, errors are reported in one line.

    ``of``: the script's object ``snakemake``; what made its outputs is then written beside them. Or the path of a log.
    A UserError is a message for a person: it is shown without a traceback. Any other exception is a defect: its
    traceback goes to the log and the console. Either way the process exits with status 1.
    """
    _die_with_parent()
    keep_freed_memory()
    for asked in (signal.SIGTERM, signal.SIGINT):  # SIGINT: a Ctrl-C reaches every process of the terminal
        signal.signal(asked, _on_sigterm)
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter("\r\x1b[K%(message)s" if _on_terminal() else "%(message)s"))  # over a bar
    log.handlers = [console]
    log.setLevel(logging.WARNING if rank() else logging.INFO)
    log.propagate = False
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, must not bury the message
    started = time.monotonic()
    is_path = isinstance(of, str | os.PathLike)
    log_path, record = (of, None) if is_path else (of.log[0], None if rank() else Record(of))
    try:
        Path(log_path).parent.mkdir(parents=True, exist_ok=True)
        file_handler = logging.FileHandler(log_path, encoding="utf-8")
        who = f"rank {rank()}: " if rank() else ""  # what all processes would say, the first says
        file_handler.setFormatter(logging.Formatter(f"%(asctime)s {who}%(message)s", "%H:%M:%S"))
        log.handlers = [file_handler, console]
        with contextlib.nullcontext() if rank() else _alone(Path(log_path)):
            if record:
                record.begin()
            yield
            if record:
                record.write()
        if not rank():
            file_handler.emit(
                log.makeRecord(log.name, logging.INFO, "", 0, f"done in {time.monotonic() - started:.1f} s", (), None)
            )
    except UserError as error:
        log.error("Error: %s\nLog: %s", error, log_path)
        sys.exit(1)
    except SystemExit:
        if terminated() and not rank():
            log.info("%s: the same command goes on from what is finished", ASKED)
        raise
    except Exception as error:
        message = _of_the_disk(error)
        log.error("%s\nLog: %s", f"Error: {message}" if message else traceback.format_exc(), log_path)
        sys.exit(1)


def _on_terminal() -> bool:
    """Whether a person looks on. A terminal of a CI machine is a recording: it gets lines."""
    return sys.stderr.isatty() and not os.environ.get("CI")


@contextlib.contextmanager
def _bar_of_its_own() -> Iterator[bool]:
    """Whether this job may draw a bar: on a terminal, one of the jobs that run side by side. The others write lines."""
    if not _on_terminal():
        yield False
        return
    terminal = os.open(
        os.ttyname(sys.stderr.fileno()), os.O_WRONLY | os.O_NOCTTY
    )  # anew: an inherited one shares its locks
    try:
        fcntl.flock(terminal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = True
    except OSError:
        mine = False
    try:
        yield mine
    finally:
        os.close(terminal)


def _silent() -> str:
    return ""


@contextlib.contextmanager
def counted(
    total: int, label: str, unit: str = " images", every_s: float = 30.0, note: Callable[[], str] = _silent
) -> Iterator[Callable[[], None]]:
    """A function to call when one of ``total`` is done: a bar on a terminal, else a log line every ``every_s`` seconds.

    ``note`` gives what else is shown of the moment, such as the loss.
    """
    with _bar_of_its_own() as mine:
        if mine:
            from tqdm import tqdm

            # tqdm's own format, but a rate below one stays a rate
            shape = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
            with tqdm(total=total, desc=label, unit=unit, leave=False, dynamic_ncols=True, bar_format=shape) as bar:

                def drawn() -> None:
                    bar.set_postfix_str(note(), refresh=False)
                    bar.update()

                yield drawn
            return
        started = last = time.monotonic()
        done = 0

        def on_progress() -> None:
            nonlocal done, last
            done, now = done + 1, time.monotonic()
            if now - last >= every_s:
                rate, more = done / (now - started), note()
                left = max(0, total - done) / rate
                more = f", {more}" if more else ""
                log.info("%s: %d of %d%s%s, %.3g/s, %.0f s left", label, done, total, unit, more, rate, left)
                last = now

        yield on_progress


def progress(
    items: Iterable,
    total: int,
    label: str,
    unit: str = " images",
    every_s: float = 30.0,
    note: Callable[[], str] = _silent,
) -> Iterator:
    """Iterate and count: done, rate, time left, as `counted` shows them."""
    with counted(total, label, unit, every_s, note) as on_progress:
        for item in items:
            yield item
            on_progress()
