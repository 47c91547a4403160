"""Seconds and peak memory of every job of a run, from Snakemake's benchmark files."""

import json
from pathlib import Path

import pandas as pd

from eightfold.core.files import write_table
from eightfold.core.runtime import job

with job(snakemake.log[0], snakemake.threads):
    rows = []
    for path in map(Path, snakemake.input.benchmarks):
        measured = json.loads(path.read_text().splitlines()[-1])
        peak = measured.get("max_rss")
        rows.append({"job": path.stem, "seconds": round(measured["s"], 1), "peak_mb": peak})
    write_table(snakemake.output.timings, pd.DataFrame(rows, columns=["job", "seconds", "peak_mb"]))
