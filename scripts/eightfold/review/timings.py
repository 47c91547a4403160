"""Seconds and peak memory of the jobs of a run, and which of them wait for which, from Snakemake's benchmark files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

COLUMNS = ["job", "step", "after", "seconds", "peak_mb"]
STAGE = "stage "  # begins the name of a step that is a stage of the recipe; no other step's name begins so
TOP = "results/"  # all that jobs hand to one another lies below it; another machine's copy of it may lie elsewhere


def step_of(rule: str, wildcards: Mapping[str, str]) -> str:
    """The step that a job belongs to: its stage; or its rule, whose parts, views and folds are one step."""
    if "stage" in wildcards:
        return STAGE + wildcards["stage"]
    return " ".join([rule.removesuffix("_part"), *([wildcards["split"]] if "split" in wildcards else [])])


def name_of(path: Path) -> str:
    """A job's name: that of its benchmark file; with that of the whole before it for one part of several."""
    return f"{path.parent.stem}.{path.stem}" if path.parent.suffix == ".parts" else path.stem


def _below_top(path: str) -> str:
    return path[max(0, path.find(TOP)) :]


def table(benchmarks: Sequence[str], outputs: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """A row for each job, in the order of ``benchmarks``: job, step, after, seconds, peak_mb (MB, empty where not measured).

    ``outputs``: for each rule the patterns of its output files, with its wildcards in braces. ``after``: the other steps whose
    files the job read, with "; " between them. Raises ValueError where a benchmark file is not JSON.
    """
    records = {Path(path): json.loads(Path(path).read_text().splitlines()[-1]) for path in benchmarks}
    steps = {path: step_of(record["rule_name"], record["wildcards"] or {}) for path, record in records.items()}
    made_by = {
        _below_top(pattern.format_map(record["wildcards"] or {})): steps[path]
        for path, record in records.items()
        for pattern in outputs[record["rule_name"]]
    }
    rows = []
    for path, record in records.items():
        read = {made_by.get(_below_top(given)) for given in record["input_size_mb"]} - {None, steps[path]}
        after = "; ".join(step for step in dict.fromkeys(steps.values()) if step in read)
        rows.append([name_of(path), steps[path], after, round(record["s"], 1), record.get("max_rss")])
    return pd.DataFrame(rows, columns=COLUMNS)
