"""Wall time by nodes, of work that only sleeps: python bench/speedup.py [--nodes 1 2 4 8] [--parts 8] [--by snakemake]

Starts a SLURM of so many node daemons on this machine (tests/slurm/cluster.py) for each number of nodes, and puts parts of
a thousand images each on it, which sleep a fixed time an image. Sleeping takes no processor, so nodes that share one
machine are as good as nodes of their own; starting jobs does take it, and with `--by snakemake` each job starts Snakemake
twice. `--by sbatch` submits the parts itself: what SLURM alone costs. One JSON line for each number of nodes: seconds, and
the share of the nodes' time in which they did not sleep.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "slurm"))

import cluster as slurm  # noqa: E402

IMAGES = 1000  # of a part
SNAKEFILE = """
rule all:
    input: [f"{{k}}.done" for k in range({parts})]

rule part:
    output: "{{k}}.done"
    resources: mem_mb=500, runtime=60
    shell: "sleep {seconds} && touch {{output}}"
"""
QUICK = ["--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"]


def by_snakemake(folder: Path, made: slurm.Cluster, parts: int, seconds: float) -> None:
    (folder / "Snakefile").write_text(SNAKEFILE.format(parts=parts, seconds=seconds))
    words = ["--executor", "slurm", "--jobs", "100", "--slurm-status-command", "squeue", *QUICK]
    command = [sys.executable, "-m", "snakemake", *words]
    result = subprocess.run(command, cwd=folder, env=made.env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


def by_sbatch(folder: Path, made: slurm.Cluster, parts: int, seconds: float) -> None:
    for part in range(parts):
        made.call("sbatch", "--chdir", str(folder), "--mem=500", "--wrap", f"sleep {seconds} && touch {part}.done")
    while len(list(folder.glob("*.done"))) < parts:
        time.sleep(0.1)


def measure(nodes: int, parts: int, each_ms: float, submit) -> dict:
    with tempfile.TemporaryDirectory() as folder, slurm.cluster(nodes=nodes, cpus=1, gpus=1) as made:
        began = time.monotonic()
        submit(Path(folder), made, parts, each_ms * IMAGES / 1000)
        wall = time.monotonic() - began
        used = {job["NodeList"] for job in made.jobs()}
    asleep = parts * IMAGES * each_ms / 1000
    lost = 1 - asleep / (wall * nodes)
    return {"nodes": nodes, "used": len(used), "parts": parts, "wall_s": round(wall, 1), "lost": round(lost, 3)}


def draw(rows: list[dict], path: Path) -> None:
    """Speed-up by nodes against the work itself; the line of no loss dashed."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    nodes = [row["nodes"] for row in rows]
    gained = [row["nodes"] * (1 - row["lost"]) for row in rows]
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    axes.plot(nodes, nodes, "--", color="grey", label="nothing lost")
    axes.plot(nodes, gained, "o-", label="measured")
    axes.set_xlabel("nodes (slurmd)")
    axes.set_ylabel("speed-up against the sleep itself")
    axes.set_xticks(nodes)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def main(words: list[str]) -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8])
    asked.add_argument("--parts", type=int, default=8)
    asked.add_argument("--each-ms", type=float, default=120, help="that an image takes: two minutes a part")
    asked.add_argument("--by", choices=["snakemake", "sbatch"], default="snakemake")
    asked.add_argument("--svg", type=Path)
    given = asked.parse_args(words)
    submit = {"snakemake": by_snakemake, "sbatch": by_sbatch}[given.by]
    rows = []
    for nodes in given.nodes:
        rows.append(measure(nodes, given.parts, given.each_ms, submit))
        print(json.dumps(rows[-1]), flush=True)
    if given.svg:
        draw(rows, given.svg)


if __name__ == "__main__":
    main(sys.argv[1:])
