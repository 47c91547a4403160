"""How long Snakemake thinks before the first job starts: python bench/dag.py 1000 10000 100000

This workflow, on 24 images, divided into so many parts and folds that it has about so many jobs, is dry-run: Snakemake
builds its graph, asks our rules for every job's inputs, params and resources, and prints the jobs. One JSON line each: jobs,
parts, folds, seconds of the processor and by the clock, peak megabytes of memory.

What grows with the square is one line of Snakemake 9 (`DAG.update`: `file in job.input`), which compares each file that a job
reads with every input of the job that makes it: N parts that read what another job joined from N parts cost N times N. Here
that is the pixels, joined from 3 N files, of which each job of activations and predictions reads 3: under a profiler a tenth of
the time at 200 parts and 12 folds (7,926 jobs).
"""

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from pipeline import Checkout, changed

MOST_PARTS = 1000  # of the config's `shards`


def shape(jobs: int) -> tuple[int, int]:
    """Parts and folds of a run of about so many jobs: each part is 3 jobs for all folds together and 3 for each fold."""
    parts = min(MOST_PARTS, jobs // 15)
    return parts, round((jobs / parts - 3) / 3)


def measure(jobs: int) -> dict:
    parts, folds = shape(jobs)
    with tempfile.TemporaryDirectory() as folder:
        checkout = Checkout.new(Path(folder, "checkout"))
        checkout.configure(changed(shards=parts, split={"folds": folds, "use": list(range(folds))}))
        words = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "host", "reason", "--cores", "64"]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        told = subprocess.run(words, cwd=checkout.folder, check=True, capture_output=True, text=True).stdout
        after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    (total,) = set(re.findall(r"^total +(\d+)$", told, flags=re.MULTILINE))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak_kb = after.ru_maxrss  # the largest child so far: ask for sizes in rising order
    row = {"jobs": int(total), "parts": parts, "folds": folds, "cpu_s": round(cpu, 1), "wall_s": round(wall, 1)}
    return {**row, "peak_mb": round(peak_kb / 1024)}


if __name__ == "__main__":
    for size in sorted(map(int, sys.argv[1:] or ["1000", "10000", "100000"])):
        print(json.dumps(measure(size)), flush=True)
