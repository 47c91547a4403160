"""Seconds for a unit of work: of earlier jobs of this machine, else timed on it, else stated. Does not import torch.

A job's time is the seconds of its rule, for starting Python, torch and the script, plus work * rate. Earlier jobs are known by
Snakemake's benchmark files.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from eightfold.core.files import UserError, read_json
from eightfold.upkeep.disk_space import counted
from eightfold.upkeep.work import BACKWARD, Work, work_of

START = 2.5  # seconds until Python, torch and the script are there ...
START_OF = {"manifest": 1.0, "pixels": 1.0}  # ... and of the kinds of work that need no torch
# Seconds of a rule whose time grows with nothing that is known: it checks, draws or reports. One core of a Xeon, of jobs of
# ants and bees and of the demo.
OF_RULE = {
    "choose": 2.5,
    "demo": 3.0,
    "draw": 2.0,
    "explore_data": 1.5,
    "insight": 10.0,
    "review": 2.5,
    "score": 2.5,
    "show_augmentation": 3.0,
    "weights": 3.0,
}
OTHERS = 1.0  # of a rule that is not among them
# Seconds for a unit of work (`work.Work`), by (a CPU of two cores, a GPU of 2023), where it was neither measured nor timed. Rough.
STATED = {
    "manifest": (8e-4, 2e-4),
    "pixels": (2e-2, 5e-3),
    "network": (0.25, 0.004),
    "training": (0.25 * BACKWARD, 0.004 * BACKWARD),
    "head": (1e-4, 2e-5),
    "linear": (2e-3, 1e-3),
}


# Seconds that a unit of work, of a network of an architecture, takes on this machine; None where that cannot be had.
Timed = Callable[[Work, str], float | None]


class Estimate(NamedTuple):
    """source: measured (earlier jobs), timed (a few images, on this machine) or stated."""

    seconds: float
    source: str


def not_timed(work: Work, arch: str) -> float | None:
    """What times no network."""
    return None


def timer(settings: Mapping, threads: int, folder: Path, say: Callable[[str], object]) -> Timed:
    """What times a network on this machine, where it is asked to: `timing.rate_of`, which alone imports torch.

    settings: the config's ``device``; threads: of a job of the device; folder: where what was timed is kept; say: takes a
    message. A network that cannot be had, of a package that is not there, say, is not timed.
    """

    def timed(work: Work, arch: str) -> float | None:
        from eightfold.upkeep.timing import rate_of

        try:
            return rate_of(work, arch, settings, threads, folder)
        except (UserError, ImportError) as error:
            say(f"{arch} at {work.size} px could not be timed: {error}")
            return None

    return timed


class Rates:
    """Seconds a unit of work, from the benchmark files below a folder, and from ``timed`` where they lack a network."""

    def __init__(self, results: Path, timed: Timed = not_timed):
        self.timed = timed
        self.jobs: dict[str, list[float]] = defaultdict(list)  # seconds of jobs whose time grows with nothing known
        self.units: dict[tuple, list[tuple[float, float]]] = defaultdict(list)  # seconds after the start, and units
        for path in sorted(results.rglob("*.jsonl")):
            try:
                self._learn(json.loads(path.read_text().splitlines()[-1]))
            except (ValueError, LookupError, TypeError, OSError, UserError):
                continue  # of another version, or half written

    def _learn(self, job: Mapping) -> None:
        rule, settings = job["rule_name"], job["params"].get("settings", {})
        self.jobs[rule.removesuffix("_part")].append(job["s"])

        def read(pattern: str) -> str | None:
            return next((path for path in job["input_size_mb"] if re.search(pattern, path)), None)

        data, weights = read(r"data-\w+/manifest\.json$"), read(r"weights-\w+/weights\.json$")
        images = counted(read_json(data)["counts"]) if data else Counter()
        # The settings of activations do not name the network, whose weights they read.
        arch = settings.get("arch") or (read_json(weights)["arch"] if weights else None)
        work = work_of(rule, settings, job["wildcards"] or {}, images)
        if work.amount:
            self.units[work.kind, arch].append((max(0.0, job["s"] - START_OF.get(work.kind, START)), work.amount))

    def estimate(self, rule: str, work: Work, arch: str, gpu: bool) -> Estimate:
        """Seconds of a job, and where they come from."""
        rule = rule.removesuffix("_part")
        if work.amount is None:
            known = self.jobs.get(rule)
            return Estimate(median(known), "measured") if known else Estimate(OF_RULE.get(rule, OTHERS), "stated")
        rate, source = self._rate(work, arch, gpu)
        return Estimate(START_OF.get(work.kind, START) + work.amount * rate, source)

    def _rate(self, work: Work, arch: str, gpu: bool) -> tuple[float, str]:
        for key in ((work.kind, arch), (work.kind, None)):
            if known := self.units.get(key):
                seconds, units = map(
                    sum, zip(*known, strict=True)
                )  # a job of few units is all start, and counts little
                return seconds / units, "measured"
        # Without a size it is not a pass of the network; without work there is nothing to time it for.
        rate = self.timed(work, arch) if work.size and work.amount else None
        if rate is not None:
            return rate, "timed"
        return STATED[work.kind][gpu], "stated"
