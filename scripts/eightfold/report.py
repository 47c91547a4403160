"""The report of a run: one HTML page that holds everything it shows and fetches nothing.

``gather`` turns a run's files into plain values, ``render`` puts them into templates/report.html. Images are embedded
as data URIs of <img>: there an SVG cannot run a script, its ids cannot clash, and it still follows dark mode.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import jinja2
import pandas as pd
import yaml

from eightfold.course import course
from eightfold.files import read_json
from eightfold.flow import flow
from eightfold.verdicts import verdict
from eightfold.wording import (
    count_text,
    gain_text,
    memory_text,
    number_text,
    parts,
    rate_text,
    share_error,
    share_text,
    time_text,
)

# The named lists of files that `gather` takes; each may be empty or absent.
INPUTS = (
    *("metrics", "manifest_identity", "folds", "explore", "stages", "histories", "lr_finds", "plots"),
    *("review", "tables", "timings", "rejected", "duplicates", "map"),
)
SHEETS = {
    "most_correct": ("Most correct", "Predicted rightly, with the highest probability."),
    "most_incorrect": ("Most incorrect", "Predicted wrongly, with the least probability given to the truth."),
    "most_uncertain": ("Most uncertain", "The network could not decide: the flattest probabilities."),
    "random_right": ("Random right", "An honest sample of what goes right."),
    "random_wrong": ("Random wrong", "An honest sample of what goes wrong: look here for bad labels."),
    "label_noise": (
        "Doubted labels",
        "Labels it is surest are wrong; all are in review/label_noise.csv.",
    ),
}
CAMS = {
    "cam_most_incorrect": ("What misled it", "Most incorrect: what spoke for either class."),
    "cam_most_uncertain": ("What it wavered between", "Most uncertain: what spoke for either class."),
}
EXPLORE = {
    "classes": ("Images per class", "Bar chart of the number of images per class."),
    "sizes": ("Widths and heights", "Histogram of the images' widths and heights in pixels."),
}
SAMPLES = {
    "sample": ("A sample", "Random images with their labels."),
    "augmented": ("Before and after augmentation", "Images as they are (green), and as training sees them."),
}
PLOTS = {
    "lr_find": ("Learning-rate finder", "Training loss against learning rate, with the suggested rates."),
    "loss": ("Loss", "Training loss per mini-batch and validation loss per epoch."),
    "lr": ("Learning rate", "Learning rate per mini-batch."),
    "strength": ("Strength of the penalty", "Log loss of inner folds of the training images; the lowest is chosen."),
}
FEW_REJECTED = 50  # rows of rejected.csv shown in full; the rest is counted


def data_uri(path: str | Path) -> str:
    """An SVG file as the text of a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(Path(path).read_bytes()).decode()


def figures(paths: Sequence[str], texts: Mapping[str, tuple[str, str]]) -> list[dict]:
    """The files among ``paths`` whose stem is in ``texts``, in the order of ``texts``, ready to be shown."""
    by_stem = {Path(path).stem: path for path in paths}
    return [
        {"name": name, "title": title, "text": text, "src": data_uri(by_stem[name])}
        for name, (title, text) in texts.items()
        if name in by_stem
    ]


def cells(path: str | Path) -> dict:
    """A contact sheet (sheets.py) taken apart: {"cells": [{"lines", "src", "colour", "crisp"}], "empty"}.

    As HTML its captions are whole, whatever their length, and its images find as many columns as the screen has room for.
    """
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.parse(path).getroot()
    found = []
    for cell in root.iter(f"{svg}g"):
        image = cell.find(f"{svg}image")
        found.append(
            {
                "lines": (cell.findtext(f"{svg}title") or "").split("\n"),
                "src": "" if image is None else image.get("href"),
                "colour": cell.find(f"{svg}rect").get("stroke"),
                "crisp": image is not None and image.get("style") is not None,
            }
        )
    said = "" if found else " ".join(text.text or "" for text in root.findall(f"{svg}text[@class='m']"))
    return {"cells": found, "empty": said}


def sheets(paths: Sequence[str], texts: Mapping[str, tuple[str, str]]) -> list[dict]:
    """The contact sheets among ``paths``, as ``figures`` gives plots, taken apart by ``cells``."""
    by_stem = {Path(path).stem: path for path in paths}
    return [
        {"name": name, "title": title, "text": text, **cells(by_stem[name])}
        for name, (title, text) in texts.items()
        if name in by_stem
    ]


def stage_key(path: str | Path) -> tuple[str, str]:
    """Fold and stage of a file R/fold<k>/<stage>/<file>: ("0", "head"), or ("all", "head")."""
    fold, stage = Path(path).parts[-3:-1]
    return fold.removeprefix("fold"), stage


def _table(path: str | Path) -> list[dict]:
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")


def _number(text: object) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def convex(stage: Mapping) -> dict:
    """What stands where a trained stage has its verdict: a linear stage has no length to judge."""
    text = "The only minimum of its loss: no rate, no epochs. Each later stage must beat it. "
    return {"kind": "convex", "text": f"{text}{stage.get('lr_source', '')}".strip() + "."}


def stages(files: Mapping[str, Sequence[str]]) -> list[dict]:
    """A dict per trained stage, in the order given: stage.json with its fold, history, finder and plots."""
    result = []
    for path in files["stages"]:
        key, stage = stage_key(path), read_json(path)
        of = {
            name: [file for file in files[name] if stage_key(file) == key]
            for name in ("histories", "lr_finds", "plots")
        }
        rates = stage.get("lr") or []
        if stage.get("train") == "head":
            rates = rates[-1:]  # the other groups are frozen
        epochs = _table(of["histories"][0]) if of["histories"] else []
        history = [{name: _number(value) for name, value in row.items()} for row in epochs]
        metrics = stage.get("metrics") or {}
        result.append(
            {
                **stage,
                "fold": key[0],
                "name": key[1],
                "rates": " / ".join(map(rate_text, rates)),
                "metrics": metrics,
                "verdict": convex(stage) if stage.get("train") == "linear" else verdict(pd.DataFrame(history), metrics),
                "history": history,
                "finder": next((read_json(file).get("message", "") for file in of["lr_finds"]), ""),
                "figures": figures(of["plots"], PLOTS),
            }
        )
    return result


def endings(done: Sequence[Mapping]) -> list[dict]:
    """The verdicts after the last stage: each kind once, in the words of its first fold, with all its folds."""
    result: dict[str, dict] = {}
    for stage in done:
        if stage["name"] == done[-1]["name"]:
            first = {**stage["verdict"], "stage": stage["name"], "folds": []}
            result.setdefault(first["kind"], first)["folds"].append(stage["fold"])
    return list(result.values())


def timings(path: str | None) -> dict:
    """The jobs of timings.csv with the share of the longest one, their total seconds and the highest memory (MB)."""
    rows = _table(path) if path else []
    jobs = [
        {"job": row["job"], "seconds": _number(row["seconds"]) or 0.0, "peak_mb": _number(row.get("peak_mb"))}
        for row in rows
    ]
    longest = max((job["seconds"] for job in jobs), default=0) or 1
    for job in jobs:
        job["share"] = job["seconds"] / longest
    memory = [job["peak_mb"] for job in jobs if job["peak_mb"] is not None]
    return {"jobs": jobs, "seconds": sum(job["seconds"] for job in jobs), "peak_mb": max(memory, default=None)}


def headline(metrics: dict, tables: dict) -> list[dict]:
    """The figures on top of the page: name, value, standard error, and what they were without TTA."""
    final, plain = metrics.get("final") or {}, metrics.get("no_tta") or {}
    plain = {} if plain == final else plain  # no test-time augmentation: nothing to compare with
    images = final.get("images") or tables.get("images") or 0
    share, loss = final.get("accuracy"), final.get("log_loss")
    error = share_error(share, images)
    tiles = []
    if share is not None:
        tiles.append(
            {"name": "Accuracy", "value": share, "error": error, "plain": plain.get("accuracy"), "share": True}
        )
    if loss is not None:
        error = tables.get("log_loss_se")
        tiles.append(
            {"name": "Log loss", "value": loss, "error": error, "plain": plain.get("log_loss"), "share": False}
        )
    for name, value in final.items():
        if name not in ("accuracy", "log_loss", "images") and isinstance(value, int | float):
            tiles.append({"name": name, "value": value, "error": None, "plain": plain.get(name), "share": False})
    return tiles


def ensemble(metrics: dict) -> dict:
    """The table of what each member adds: rows of name, weight, own figure, and how much better the ensemble is for it.

    {} where there is none. ``gain`` is positive where the member helps, whichever way the metric runs.
    """
    told, name = metrics.get("ensemble") or {}, metrics.get("metric", "log_loss")
    if not told.get("members") or not told.get("all"):
        return {}
    columns = list(dict.fromkeys([name, "log_loss"]))
    rows = []
    for member in told["members"]:
        without, gains = member.get("without"), {}
        for column in columns:
            sign = 1 if _rises(column) else -1
            gains[column] = sign * (told["all"][column] - without[column]) if without else None
        rows.append({"name": member["member"], "weight": member["weight"], "alone": member["alone"], "gain": gains})
    better = max if _rises(name) else min
    best = better(rows, key=lambda row: row["alone"][name])
    return {"columns": columns, "rows": rows, "all": told["all"], "best": best, "kind": told.get("weights", "equal")}


def _rises(metric: str) -> bool:
    return metric != "log_loss" and not metric.endswith("_error")


def tuning(metrics: dict) -> list[dict]:
    """What was fitted on out-of-fold predictions, its values as text."""

    def text(value: object) -> str:
        if isinstance(value, list):
            shown = ", ".join(f"{number:.3g}" for number in value[:8])
            return shown + (f", … ({len(value)})" if len(value) > 8 else "")
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return [{**step, "value": text(step["value"])} for step in metrics.get("tuning") or []]


def gather(files: Mapping[str, Sequence[str]], settings: Mapping) -> dict:
    """Everything the page shows: of lists of paths by the names in INPUTS, and settings {run, config, versions}."""
    files = {name: [str(path) for path in files.get(name, [])] for name in INPUTS}

    def json_of(name: str) -> dict:
        return next((read_json(path) for path in files[name] if path.endswith(".json")), {})

    metrics, tables, data = json_of("metrics"), json_of("tables"), json_of("manifest_identity")
    done = stages(files)
    rejected = [row for path in files["rejected"] for row in _table(path)]
    times = timings(next(iter(files["timings"]), None))
    return {
        "run": settings["run"],
        "tiles": headline(metrics, tables),
        "images": (metrics.get("final") or {}).get("images") or tables.get("images") or 0,
        "by_fold": [fold["accuracy"] for fold in metrics.get("folds") or [] if fold.get("accuracy") is not None],
        "stages": done,
        "endings": endings(done),
        "course": course(done),
        "folds": json_of("folds"),
        "fold_count": len({stage["fold"] for stage in done}),
        "stage_count": len({stage["name"] for stage in done}),
        "data": data,
        "classes": data.get("classes") or [],
        "rejected": rejected[:FEW_REJECTED],
        "rejected_count": len(rejected),
        "duplicates": json_of("duplicates"),
        "explore": figures(files["explore"], EXPLORE),
        "samples": sheets(files["explore"], SAMPLES),
        "confusion": figures(files["review"], {"confusion": ("Confusion matrix", "Actual class by predicted class.")}),
        "sheets": sheets(files["review"], SHEETS),
        "cams": sheets(files["review"], CAMS),
        "map": json_of("map"),
        "flow": flow(times["jobs"], list(dict.fromkeys(stage["name"] for stage in done))),
        "tables": tables,
        "ensemble": ensemble(metrics),
        "tuning": tuning(metrics),
        "timings": times,
        "config": yaml.safe_dump(settings.get("config") or {}, sort_keys=False, allow_unicode=True, width=100),
        "arch": ((settings.get("config") or {}).get("model") or {}).get("arch"),
        "versions": dict(settings.get("versions") or {}),
    }


def sha256_base64(text: str) -> str:
    """What a content security policy calls the one script it lets run."""
    return base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()


def environment() -> jinja2.Environment:
    """What renders the templates: every value is escaped, and the filters write figures as the project does."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {
        "share": share_text,
        "number": number_text,
        "gain": gain_text,
        "count": count_text,
        "parts": parts,
        "time": time_text,
        "memory": memory_text,
        "sha256": sha256_base64,
        "json": lambda value: json.dumps(value, ensure_ascii=False),
    }
    return made


def render(context: Mapping) -> str:
    """The page as HTML text."""
    return environment().get_template("templates/report.html").render(context) + "\n"
