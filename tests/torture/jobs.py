"""Kill the processes of the rules, many times each, without the seconds that Snakemake and torch take to start.

Snakemake plans the jobs; each is then run as it would run it, in a process of its own with its real inputs, outputs and
params, but forked from one that has imported everything. SIGKILL comes at a random moment of its life, or as soon as
it writes; its outputs and its log are deleted, as Snakemake does, and it is started again. kills.py, which is slower,
kills Snakemake and whole groups too.

    python tests/torture/jobs.py 100 jobs.json
"""

import importlib
import json
import os
import random
import runpy
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2] / "scripts")]

from pipeline import Checkout  # noqa: E402

from torture import kills  # noqa: E402


def planned(checkout: Checkout) -> list:
    """Snakemake's jobs for `submission`, in an order that they can be done in."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import DAGSettings, OutputSettings, Quietness, ResourceSettings

    os.chdir(checkout.folder)
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(ResourceSettings(cores=1), snakefile=Path("Snakefile"), workdir=checkout.folder)
        workflow.dag(DAGSettings(targets={"submission"})).execute_workflow(executor="dryrun")
        dag = workflow._workflow.dag
        return [job for level in dag.toposorted() for job in sorted(level, key=str) if job.rule.script]


def start(job) -> int:
    """Fork a process that runs the job's script: its pid."""
    for path in [*job.output, *job.log]:
        Path(path).unlink(missing_ok=True)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    if pid := os.fork():
        return pid
    status = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        names = ("input", "output", "params", "wildcards", "log")
        given = SimpleNamespace(threads=1, **{name: getattr(job, name) for name in names})
        runpy.run_path(str(Path("scripts", Path(job.rule.script).name)), {"snakemake": given})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(status)


def ended(pid: int, seconds: float, until=lambda: False) -> int | None:
    """The status of a process that ends within ``seconds``, and before ``until`` is true; None: it lives."""
    ends = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= ends or until():
            return None
        time.sleep(0.002)


def done(job) -> None:
    """What Snakemake does when a job has ended well."""
    assert all(Path(path).exists() for path in job.output), job
    if job.benchmark:
        Path(job.benchmark).parent.mkdir(parents=True, exist_ok=True)
        Path(job.benchmark).write_text('{"s": 1, "max_rss": 1}\n')


def whole(folder: Path) -> tuple[dict[str, bytes], dict[str, float]]:
    """(results of a run that nobody kills, seconds of each rule)."""
    checkout, seconds = Checkout.new(folder), {}
    checkout.configure(kills.config())
    for job in planned(checkout):
        began = time.monotonic()
        status = ended(start(job), 3600)
        assert status == 0, (job, status, [Path(path).read_text() for path in job.log])
        seconds[job.rule.name] = max(seconds.get(job.rule.name, 0), time.monotonic() - began)
        done(job)
    return kills.results(checkout), seconds


def one_pass(
    folder: Path, expected: dict[str, bytes], seconds: dict[str, float], each: int, most: int, seed: int
) -> dict:
    """Kill every job up to ``each`` times (training thrice that), ``most`` in all, and let it end; what was seen."""
    checkout, chance = Checkout.new(folder), random.Random(seed)
    checkout.configure(kills.config())
    epochs, seen = kills.Epochs(checkout), Counter()
    for job in planned(checkout):
        left = min(each * (3 if job.rule.name == "train" else 1), most - sum(seen.values()))
        while True:
            pid = start(job)
            folders = {Path(path).parent for path in job.output} | {checkout[f"{kills.RUN}/.resume"]}
            before = {entry for at in folders if at.is_dir() for entry in os.listdir(at)}

            def writes(folders=folders, before=before) -> bool:
                now = (entry for at in folders if at.is_dir() for entry in os.listdir(at))
                return any(entry not in before and not entry.endswith((".log", ".lock")) for entry in now)

            until = writes if chance.random() < 0.4 else lambda: False
            status = ended(
                pid,
                chance.uniform(0, seconds[job.rule.name]) if left > 0 else 3600,
                until if left > 0 else lambda: False,
            )
            epochs.look()
            if status is not None:
                assert status == 0, (job, status, [Path(path).read_text() for path in job.log])
                break
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            seen[job.rule.name] += 1
            left -= 1
        done(job)
    found = kills.results(checkout)
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return {
        "kills": dict(seen),
        "different": different,
        "lost": epochs.lost,
        "leftovers": list(map(str, checkout.leftovers())),
    }


def main(wanted: int, told: Path) -> int:
    for name in (
        "torchvision.models",
        "matplotlib.pyplot",
        "sklearn.manifold",
        "sklearn.decomposition",
        "pandas",
        "scipy.stats",
    ):
        importlib.import_module(name)
    for path in (HERE.parents[2] / "scripts" / "eightfold").glob("*/[!_]*.py"):
        importlib.import_module(f"eightfold.{path.parent.name}.{path.stem}")
    began, passes = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="eightfold-jobs-") as folder:
        expected, seconds = whole(Path(folder, "whole"))
        while (so_far := sum(sum(one["kills"].values()) for one in passes)) < wanted:
            passes.append(one_pass(Path(folder, str(len(passes))), expected, seconds, 5, wanted - so_far, len(passes)))
            print(passes[-1], flush=True)
        os.chdir("/")
    rules = sum((Counter(one["kills"]) for one in passes), Counter())
    figures = {
        "kills": rules.total(),
        "rules": dict(sorted(rules.items())),
        "runs": len(passes),
        "files_compared": len(expected),
        "different": sum(len(one["different"]) for one in passes),
        "leftovers": sum(len(one["leftovers"]) for one in passes),
        "trainings_taken_up": sum(len(one["lost"]) for one in passes),
        "most_epochs_lost": max([0, *(lost for one in passes for lost in one["lost"])]),
        "seconds": round(time.monotonic() - began),
    }
    told.write_text(json.dumps(figures, indent=1) + "\n")
    print(figures)
    return int(bool(figures["different"] or figures["leftovers"] or figures["most_epochs_lost"] > 1))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]).resolve()))
