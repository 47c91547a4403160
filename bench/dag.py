"""How long Snakemake thinks before the first job starts: python bench/dag.py 1000 10000 100000

A workflow of the shape of ours where it is largest (pixels, activations and predictions in parts, each kind joined by
one job, with the same sorts of inputs, params and resources) is dry-run with so many jobs. One JSON line each: jobs,
seconds of the processor and by the clock, peak megabytes of memory.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

SNAKEFILE = """
PARTS = {parts}
NAMES = [f"{{k}}_of_{{PARTS}}" for k in range(1, PARTS + 1)]

def memory(wildcards, attempt):
    return 6000 * attempt

rule all:
    input: "predictions.json"

rule manifest:
    output: "manifest.json", "manifest.csv"
    shell: "touch {{output}}"

"""
KIND = """
rule {kind}_part:
    input: before="{before}.json", packed=ancient("{before}.csv")
    output: data=temp("{kind}.parts/{{part}}.bin"), identity=temp("{kind}.parts/{{part}}.json")
    log: "logs/{kind}.{{part}}.log"
    benchmark: "benchmarks/{kind}.{{part}}.jsonl"
    threads: 8
    resources: gpu=1, mem_mb=memory, runtime=memory
    params: settings={{"size": 224, "views": 4, "seed": 0}}, code="0123456789abcdef"
    shell: "touch {{output}}"

rule {kind}:
    input: before="{before}.json", parts=lambda wildcards: [f"{kind}.parts/{{name}}.json" for name in NAMES]
    output: "{kind}.json", "{kind}.csv"
    log: "logs/{kind}.log"
    shell: "touch {{output}}"
"""


def measure(jobs: int) -> dict:
    kinds = ["manifest", "pixels", "activations", "predictions"]
    with tempfile.TemporaryDirectory() as folder:
        text = SNAKEFILE.format(parts=jobs // 3)
        text += "".join(KIND.format(kind=kind, before=before) for before, kind in pairwise(kinds))
        Path(folder, "Snakefile").write_text(text)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "all", "--cores", "64"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak_kb = after.ru_maxrss  # the largest child so far: ask for sizes in rising order
    return {"jobs": jobs, "cpu_s": round(cpu, 1), "wall_s": round(wall, 1), "peak_mb": round(peak_kb / 1024)}


if __name__ == "__main__":
    for size in sorted(map(int, sys.argv[1:] or ["1000", "10000", "100000"])):
        print(json.dumps(measure(size)), flush=True)
