"""Kill the workflow again and again, at chosen and at random moments, and compare what it ends with byte for byte.

A round is one run of the whole workflow on tiny images that is killed some dozens of times on its way: SIGKILL to the
rule's process, to Snakemake, or to all of them at once; then the same command again, as a person would. Checked after
each kill: no process is left, no finished job is done again, training has lost one epoch at most. At the end: every
checkpoint, activation, prediction, table and submission is that of a run nobody killed, and nothing lies about.

    python tests/torture/kills.py 100 kills.json          by hand; `make torture KILLS=100` says it too
"""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "scripts")]

from pipeline import Checkout, changed  # noqa: E402

from eightfold.upkeep import lock  # noqa: E402

RUN = "results/tiny"
VICTIMS = ["job", "snakemake", "group"]
GONE = 120.0  # seconds that everything may take to be gone
PER_EPOCH = 3  # batches: 18 images in batches of 6
# What tells of times, and so differs from run to run; and the config, which tells the number of shards.
NOT_COMPARED = {"timings.csv", "report.html", "history.csv", "config.json"}


def config(shards: int = 1) -> dict:
    """A head on activations, all layers, a head on the tuned trunk; epochs enough to be killed between them."""
    recipe = [
        {"name": "moving", "size": 32, "train": "head", "cycles": 2},
        {"name": "whole", "size": 32, "train": "all", "cycles": 3, "lr": 0.003, "snapshots": True},
        {"name": "again", "size": 32, "train": "head", "augment": False, "lr": 0.005},
    ]
    return changed(recipe=recipe) | {"shards": shards, "split": {"folds": 4}}


def living_in(folder: Path) -> dict[int, str]:
    """Processes whose working folder lies in ``folder``: pid -> the script that it runs, "" for any other."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if not Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                continue
            if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        script = re.search(r"\.snakemake/scripts/tmp[^.]*\.(\w+)\.py$", words[1] if len(words) > 1 else "")
        found[int(entry.name)] = script[1] if script else ""
    return found


def results(checkout: Checkout) -> dict[str, bytes]:
    """Everything that a run leaves and that does not tell of times: path -> bytes."""
    found = {}
    for path in sorted(checkout["results"].rglob("*")):
        of_a_record = path.parent.name == ".made"  # it holds digests of tables with seconds in them
        if of_a_record or path.name in NOT_COMPARED:
            continue
        if path.is_file() and path.suffix not in (".log", ".jsonl", ".lock"):
            found[path.relative_to(checkout.folder).as_posix()] = path.read_bytes()
    for path in checkout["results"].rglob("history.csv"):
        with open(path, newline="") as file:
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
        found[path.relative_to(checkout.folder).as_posix()] = json.dumps(rows).encode()
    return found


class Attempt:
    """One start of the workflow, up to its end or to the death of Snakemake."""

    def __init__(self, checkout: Checkout, cores: int):
        self.checkout, self.killed = checkout, 0
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the attempt
        self.process = subprocess.Popen(
            # A killed job is tried again at once, as on a cluster: the hundred kills then cost minutes, not hours.
            checkout.command("submission", "--retries", "50", cores=cores),
            cwd=checkout.folder,
            env=checkout.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def jobs(self) -> dict[int, str]:
        return {pid: script for pid, script in living_in(self.checkout.folder).items() if script}

    def wait_for(self, condition, seconds: float) -> bool:
        """Whether the condition came true before the end of the attempt and of the time."""
        ends = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < ends:
            if condition():
                return True
            time.sleep(0.05)
        return False

    def sleep(self, seconds: float) -> None:
        self.wait_for(lambda: False, seconds)

    def kill(self, victim: str) -> tuple[str, list[str]]:
        """Kill, and wait until what was killed is gone: (who was, the scripts that were at work)."""
        jobs = self.jobs()
        if victim == "job" and jobs:
            pid = min(jobs)
            os.kill(pid, signal.SIGKILL)
            self.killed += 1
            self.wait_for(lambda: pid not in self.jobs(), GONE)
            return victim, [jobs[pid]]
        if victim == "group":
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            victim = "snakemake"
            self.process.kill()
        self.process.wait(GONE)
        ends = time.monotonic() + GONE
        while left := living_in(self.checkout.folder):
            assert time.monotonic() < ends, f"still there after {GONE:.0f} s: {left}"
            time.sleep(0.05)
        return victim, sorted(jobs.values())

    def text(self) -> str:
        self.output.seek(0)
        return self.output.read()

    def check(self) -> None:
        """Fail if a job has failed that nobody killed: Snakemake would try it again and again, and nothing would come of it."""
        assert self.text().count("Error in rule ") <= self.killed, self.text()

    def told(self) -> tuple[set[str], set[str]]:
        """The jobs that this attempt started, and those that it finished, by their messages, which name them."""
        started, finished, names = set(), set(), {}
        for line in self.text().splitlines():
            if begun := re.match(r"Job (\d+): (.+)", line):
                names[begun[1]] = begun[2]
                started.add(begun[2])
            elif done := re.match(r"Finished jobid: (\d+)", line):
                finished.add(names.get(done[1], ""))
        return started, finished - {""}


class Epochs:
    """What training tells in its logs: epochs done, and done again because of a kill."""

    def __init__(self, checkout: Checkout):
        self.checkout, self.starts, self.done, self.lost = checkout, {}, {}, []

    def look(self) -> None:
        for path in self.checkout["results"].rglob("*.train.log"):
            text = path.read_text(errors="replace")
            resumed = [int(step) // PER_EPOCH for step in re.findall(r"resuming at step (\d+)", text)]
            epochs = [int(epoch) for epoch in re.findall(r"epoch (\d+): train loss", text)]
            if not (resumed or epochs):
                continue  # it has only just begun
            if (start := text.partition("\n")[0]) != self.starts.get(path):  # another start of this job
                if path in self.starts:
                    self.lost.append(max(0, self.done[path] - max([0, *resumed])))
                self.starts[path] = start
            self.done[path] = max([0, *resumed, *epochs])

    @property
    def all_done(self) -> int:
        self.look()
        return sum(self.done.values())


def until_killed(attempt: Attempt, moment: str, chance: random.Random, epochs: Epochs) -> None:
    """Wait for the moment of a kill, or for the end of the attempt."""
    if moment == "starting":  # Snakemake reads, plans, locks
        attempt.sleep(chance.uniform(0, 6))
        return
    if not attempt.wait_for(attempt.jobs, 900):
        return
    if moment == "script":  # any moment of a job's life
        attempt.sleep(chance.uniform(0, 10))
    elif moment == "writing":  # while a file is half written, or just has its name

        def files() -> set[Path]:
            return {p for p in attempt.checkout["results"].rglob("*") if p.suffix not in (".log", ".lock", ".jsonl")}

        before = files()
        attempt.wait_for(lambda: files() - before, 90)
        attempt.sleep(chance.choice([0, 0, 0.005, 0.02]))
    elif moment == "epoch":  # after an epoch of a training
        before = epochs.all_done
        attempt.wait_for(lambda: epochs.all_done > before, 120)
        attempt.sleep(chance.uniform(0, 0.3))
    else:
        attempt.sleep(chance.uniform(0, 30))


MOMENTS = ["starting", "random", "script", "script", "writing", "writing", "epoch"]


def round_of_kills(
    checkout: Checkout, expected: dict[str, bytes], kills: int, seed: int, cores: int = 1, plan: list | None = None
) -> dict:
    """Kill the run of a fresh checkout ``kills`` times, let it end, compare; what was seen.

    plan: (victim, moment) of each kill; drawn by ``seed`` where absent.
    """
    chance = random.Random(seed)
    plan = plan or [(chance.choice(VICTIMS), chance.choice(MOMENTS)) for _ in range(kills)]
    finished: set[str] = set()
    epochs, began = Epochs(checkout), time.monotonic()
    seen: dict = {"kills": [], "repeated": [], "attempts": 0, "seed": seed, "unlocked": 0}
    attempt = None
    while len(seen["kills"]) < len(plan):
        if attempt is None:
            seen["unlocked"] += "released" in lock.release_dead(checkout.folder / ".snakemake")
            attempt = Attempt(checkout, cores)
            seen["attempts"] += 1
        until_killed(attempt, plan[len(seen["kills"])][1], chance, epochs)
        attempt.check()
        if attempt.process.poll() is not None:
            break  # it has come to its end
        epochs.look()
        victim, scripts = attempt.kill(plan[len(seen["kills"])][0])
        kill = {"victim": victim, "moment": plan[len(seen["kills"])][1], "at": scripts}
        seen["kills"].append(kill | {"seconds": round(time.monotonic() - began, 1)})
        print(json.dumps(seen["kills"][-1]), flush=True)
        if attempt.process.poll() is not None:
            finished |= _repeated(attempt, finished, seen)
            attempt = None
    if attempt is None:
        seen["unlocked"] += "released" in lock.release_dead(checkout.folder / ".snakemake")
        attempt = Attempt(checkout, cores)
        seen["attempts"] += 1
    attempt.process.wait(3600)
    assert attempt.process.returncode == 0, attempt.text()
    _repeated(attempt, finished, seen)
    epochs.look()
    found = results(checkout)
    seen["different"] = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    seen |= {"lost": epochs.lost, "compared": len(expected), "seconds": round(time.monotonic() - began)}
    return seen | {"leftovers": [str(path) for path in checkout.leftovers()]}


def _repeated(attempt: Attempt, finished: set[str], seen: dict) -> set[str]:
    """Note the jobs that this attempt did though an earlier one had finished them; those that it finished."""
    started, done = attempt.told()
    # A part is temporary: it goes when the whole is there, and comes again only with a whole that was not finished.
    seen["repeated"] += sorted(name for name in started & finished if ", part " not in name)
    return done


def main(kills: int, told: Path, per_round: int = 20) -> int:
    with tempfile.TemporaryDirectory(prefix="eightfold-kills-") as folder:
        whole = Checkout.new(Path(folder, "whole"))
        whole.configure(config())
        began = time.monotonic()
        alone = Attempt(whole, 1)
        assert alone.process.wait() == 0, alone.text()
        expected = results(whole)
        seen = {"whole_s": round(time.monotonic() - began, 1), "rounds": []}
        counts: Counter = Counter()
        number = 0
        while seen.get("kills", 0) < kills:
            checkout = Checkout.new(Path(folder, f"round{number}"))
            shards = 1 + number % 2
            checkout.configure(config(shards))
            # Cut into parts, the work leaves the same files.
            one = round_of_kills(checkout, expected, min(per_round, kills - seen.get("kills", 0)), number)
            seen["rounds"].append(one | {"shards": shards})
            counts.update(kill["victim"] for kill in one["kills"])
            seen["kills"] = sum(len(r["kills"]) for r in seen["rounds"])
            seen["victims"] = dict(counts)
            seen["repeated"] = sum(len(r["repeated"]) for r in seen["rounds"])
            seen["most_epochs_lost"] = max([0, *(lost for r in seen["rounds"] for lost in r["lost"])])
            seen["different"] = sum(len(r["different"]) for r in seen["rounds"])
            seen["leftovers"] = sum(len(r["leftovers"]) for r in seen["rounds"])
            seen["rules_hit"] = dict(Counter(s for r in seen["rounds"] for k in r["kills"] for s in k["at"]))
            number += 1
            told.parent.mkdir(parents=True, exist_ok=True)
            told.write_text(json.dumps(seen, indent=1, sort_keys=True) + "\n")
    figures = ("kills", "repeated", "most_epochs_lost", "different", "leftovers")
    print({name: seen[name] for name in figures})
    return int(bool(seen["repeated"] or seen["different"] or seen["leftovers"] or seen["most_epochs_lost"] > 1))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
