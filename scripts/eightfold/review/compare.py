"""Runs side by side: the settings in which they differ, their figures with standard errors, times, curves.

``read_run`` takes a run's files, ``table`` and ``page`` put several together. A run without a config.json (older than
that file) still has its figures; its settings are unknown.
"""

import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from eightfold.core.files import read_json
from eightfold.core.wording import number_text, share_error, share_text
from eightfold.review import loss_curve, pages
from eightfold.review.sheets import FONT

FILES = ("metrics.json", "config.json", "timings.csv", "review/tables.json")  # what a comparison reads of a run
NOT_SETTINGS = frozenset({"run", "predict", "tracking"})


def flat(value: object, prefix: str = "") -> dict[str, str]:
    """{"tta.views": "4", "recipe.head.size": "64"} of a config: every leaf as JSON text. Stages go by name."""
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        names = {f"{prefix}.order": json.dumps([item["name"] for item in value], ensure_ascii=False)}
        return names | {k: v for item in value for k, v in flat(item, f"{prefix}.{item['name']}").items()}
    if isinstance(value, Mapping):
        return {
            k: v for key, item in value.items() for k, v in flat(item, f"{prefix}.{key}" if prefix else key).items()
        }
    return {prefix: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}


def read_run(folder: Path) -> dict:
    """What is compared of a finished run in ``folder``."""
    optional = {
        name: read_json(folder / name) if (folder / name).is_file() else {} for name in FILES if ".json" in name
    }
    metrics, tables = optional["metrics.json"], optional["review/tables.json"]
    final = {k: v for k, v in (metrics.get("final") or {}).items() if isinstance(v, int | float)}
    images = final.pop("images", 0)
    error = {"accuracy": share_error(final.get("accuracy"), images), "log_loss": tables.get("log_loss_se")}
    times = pd.read_csv(folder / "timings.csv") if (folder / "timings.csv").is_file() else None
    config = {k: v for k, v in (optional["config.json"].get("config") or {}).items() if k not in NOT_SETTINGS}
    return {
        "run": folder.name,
        "config": flat(config),
        "known": bool(config),
        "figures": final,
        "errors": {name: value for name, value in error.items() if value is not None},
        "baseline": {k: v for k, v in (metrics.get("baseline") or {}).items() if k in final},
        "images": images,
        "seconds": None if times is None else float(times["seconds"].sum()),
        "curve": curve(metrics.get("stages") or [], folder),
    }


def curve(stages: Sequence[Mapping], folder: Path) -> list[tuple[float, float]]:
    """(epochs trained so far, validation loss in nats) over the stages of the first fold."""
    points, done = [], 0
    for stage in stages:
        path = folder / f"fold{stage['fold']}" / stage["stage"] / "history.csv"
        if str(stage["fold"]) == str(stages[0]["fold"]) and path.is_file():
            losses = pd.to_numeric(pd.read_csv(path)["valid_loss"], errors="coerce")
            points += [(done + i, loss) for i, loss in enumerate(losses, 1) if math.isfinite(loss)]
            done += len(losses)
    return points


def differing(runs: Sequence[Mapping]) -> list[str]:
    """The settings that are not the same in all runs whose settings are known, sorted."""
    configs = [run["config"] for run in runs if run["known"]]
    return sorted(key for key in set().union(*configs) if len({config.get(key) for config in configs}) > 1)


def table(runs: Sequence[Mapping]) -> pd.DataFrame:
    """A row a run: run, figures and their standard errors, images, seconds, then the settings that differ."""
    figures = list(dict.fromkeys(name for run in runs for name in run["figures"]))
    rows = []
    for run in runs:
        row = {"run": run["run"]}
        for name in figures:
            row[name] = run["figures"].get(name)
            if any(name in other["errors"] for other in runs):
                row[f"{name}_se"] = run["errors"].get(name)
            if any(name in other["baseline"] for other in runs):
                row[f"{name}_baseline"] = run["baseline"].get(name)
        row |= {"images": run["images"], "seconds": run["seconds"]}
        rows.append(row | {key: run["config"].get(key, "") for key in differing(runs)})
    return pd.DataFrame(rows)


def changes(runs: Sequence[Mapping], most: int = 3) -> list[dict]:
    """Pairs of runs that differ in the fewest settings (``most`` at most), and what that did to each figure.

    A pair of one setting shows what that setting does; of several, only what they do together. ``clear``: the figure
    moved by more than two standard errors of the difference (which holds for pairs judged on different images; on the
    same images the true error is smaller, so "not clear" is said too often rather than too seldom).
    """
    found = []
    for i, one in enumerate(runs):
        for other in runs[i + 1 :]:
            keys = sorted(
                k
                for k in one["config"].keys() | other["config"].keys()
                if one["config"].get(k) != other["config"].get(k)
            )
            if not (one["known"] and other["known"]) or not 0 < len(keys) <= most:
                continue
            effects = []
            for name in one["figures"].keys() & other["figures"].keys():
                by = other["figures"][name] - one["figures"][name]
                errors = [run["errors"].get(name) for run in (one, other)]
                error = None if None in errors else math.hypot(*errors)
                effects.append(
                    {"figure": name, "by": by, "error": error, "clear": error is not None and abs(by) > 2 * error}
                )
            what = [(k, one["config"].get(k, "–"), other["config"].get(k, "–")) for k in keys]
            effects.sort(key=lambda effect: effect["figure"])
            seconds = None if None in (one["seconds"], other["seconds"]) else other["seconds"] - one["seconds"]
            found.append(
                {"from": one["run"], "to": other["run"], "settings": what, "effects": effects, "seconds": seconds}
            )
    return sorted(found, key=lambda pair: (len(pair["settings"]), pair["from"], pair["to"]))


def over_seeds(runs: Sequence[Mapping]) -> list[dict]:
    """Runs that differ in nothing but their seed, taken together: mean and standard error over the seeds, by figure.

    [{"runs": names, "settings": {key: text} of what differs between the groups, "figures": {name: (mean, error)}}]; two
    seeds at least. This error holds what a run's own cannot: another split, another start, another order.
    """
    groups: dict[tuple, list[Mapping]] = {}
    for run in runs:
        if run["known"]:
            groups.setdefault(tuple(sorted((k, v) for k, v in run["config"].items() if k != "seed")), []).append(run)
    keys, found = [key for key in differing(runs) if key != "seed"], []
    for group in groups.values():
        if len({run["config"].get("seed") for run in group}) < 2:
            continue
        figures = {}
        for name in group[0]["figures"]:
            values = [run["figures"][name] for run in group if name in run["figures"]]
            if len(values) == len(group):
                figures[name] = (statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values)))
        shared = {key: group[0]["config"].get(key, "–") for key in keys}
        found.append({"runs": [run["run"] for run in group], "settings": shared, "figures": figures})
    return found


def figure_text(name: str, value: float | None, signed: bool = False) -> str:
    """A figure as the page shows it: the accuracy in percent; ``signed``, a difference with its sign."""
    if value is None or not math.isfinite(value):
        return "–"
    text = share_text(abs(value)) if name == "accuracy" else number_text(abs(value))
    return (("+" if value > 0 else "−" if value < 0 else "") if signed else "-" if value < 0 else "") + text


def page(runs: Sequence[Mapping]) -> str:
    """The comparison as one HTML page that fetches nothing."""
    groups, curves = over_seeds(runs), {run["run"]: run["curve"] for run in runs if run["curve"]}
    context = {
        "runs": runs,
        "figures": list(dict.fromkeys(name for run in runs for name in run["figures"])),
        "keys": differing(runs),
        "colours": dict(zip(curves, itertools.cycle(loss_curve.COLOURS), strict=False)),
        "unknown": [run["run"] for run in runs if not run["known"]],
        "groups": groups,
        "group_figures": list(dict.fromkeys(name for group in groups for name in group["figures"])),
        "pairs": changes(runs),
        "drawn_runs": list(curves),
        "curves": pages.svg_uri(loss_curve.of_runs(curves)) if curves else "",
        "font": FONT,
        "figure": figure_text,
    }
    return pages.render("templates/compare.html", context)
