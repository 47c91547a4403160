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

from eightfold.core.files import read_json
from eightfold.core.wording import (
    baseline_name,
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
from eightfold.review.job_graph import flow
from eightfold.review.loss_curve import course
from eightfold.review.verdicts import TITLES, stage_of, verdicts, weights_by_stage

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
                "rates": rates_text(rates),
                "ended": ending_text(stage),
                "metrics": metrics,
                "history": history,
                "finder": next((read_json(file).get("message", "") for file in of["lr_finds"]), ""),
                "figures": figures(of["plots"], PLOTS),
            }
        )
    return result


def rates_text(rates: Sequence[float]) -> str:
    """The rates of a stage's layer groups; of many blocks the first and the last."""
    if len(rates) > 3:
        return f"{rate_text(rates[0])} … {rate_text(rates[-1])}"
    return " / ".join(map(rate_text, rates))


def ending_text(stage: Mapping) -> str:
    """Why a stage that goes on until over-fitting ended where it did; empty of others."""
    held = stage.get("held_back") or {}
    losses = held.get("losses") or []
    if not losses:
        return ""
    best = min(range(len(losses)), key=losses.__getitem__) + 1
    why = "the next cycle did not lower it" if best < len(losses) else "it fell to the last cycle"
    after = ", ".join(f"{loss:.3g}" for loss in losses)
    return f"The network of cycle {best} is kept. Log loss on {held['images']:,} train images held back, after each cycle: {after}; {why}."


def judged(done: Sequence[dict], metrics: Mapping, recipe: Sequence[Mapping] = ()) -> dict[str, dict]:
    """{stage: verdict} of the stages that `stages` gives, by what metrics.json measured of them. recipe: their options."""
    weighted = {stage["name"] for stage in recipe if "balanced" in (stage.get("class_weights"), stage.get("sampler"))}
    rows, names = metrics.get("by_stage") or [], list(dict.fromkeys(stage["name"] for stage in done))
    histories = {}
    for name in names:
        losses = [
            [
                row.get("train_loss")
                for row in (stage["history"][: stage["epochs"]] if stage.get("ended") else stage["history"])
            ]
            for stage in done
            if stage["name"] == name
        ]
        # By epoch, over the folds; a convex fit has no epochs, and a fold may have ended earlier than another.
        each = [[loss for loss in epoch if loss is not None] for epoch in zip(*losses, strict=False)]
        histories[name] = [sum(epoch) / len(epoch) for epoch in each if epoch and name not in weighted]
    members = (metrics.get("ensemble") or {}).get("members") or []
    baseline = (metrics.get("baseline") or {}).get("log_loss")
    found = verdicts(rows, histories, baseline, weights_by_stage(members, names))
    text = (
        "It was not measured." if metrics.get("final") else "There are no validation images, so nothing was measured."
    )
    unknown = {"kind": "unknown", "title": TITLES["unknown"], "text": text, "undone": False}
    return {name: found.get(name, unknown) for name in names}


def stage_rows(done: Sequence[dict], metrics: Mapping, recipe: Sequence[Mapping] = ()) -> list[dict]:
    """The table of stages, all folds together: what `evidence.of_run` measured, with weight, verdict and settings.

    Settings (size, rates) are those of the first fold; ``weight`` is None where no choice was made among stages.
    """
    verdict, measured = judged(done, metrics, recipe), {row["stage"]: row for row in metrics.get("by_stage") or []}
    members = (metrics.get("ensemble") or {}).get("members") or []
    weights = weights_by_stage(members, list(verdict)) or {}
    rows = []
    for name in verdict:
        first, row = next(stage for stage in done if stage["name"] == name), measured.get(name, {})
        row = {"figures": first["metrics"], "errors": {}, "training": None, "before": None} | row
        settings = {key: first.get(key) for key in ("size", "train", "epochs", "rates")}
        settings["first"] = 1 + done.index(first)  # its place among the stages of all folds, for a link
        rows.append({"name": name, **settings, **row, "weight": weights.get(name), "verdict": verdict[name]})
    return rows


def endings(rows: Sequence[Mapping]) -> list[dict]:
    """The verdict after the last stage, and those of earlier stages that did harm which the last has not made good."""
    harmful, best = [], math.inf  # the least loss before each stage
    for row in rows[:-1]:
        if row["verdict"]["kind"] in ("worse", "diverged") and (rows[-1]["figures"].get("log_loss") or math.inf) > best:
            harmful.append(row)
        best = min(best, row["figures"].get("log_loss") or math.inf)
    return [{**row["verdict"], "stage": row["name"]} for row in [*rows[-1:], *harmful]]


def timings(path: str | None) -> dict:
    """The jobs of timings.csv with the share of the longest one, their total seconds and the highest memory (MB)."""
    jobs = [
        {
            "job": row["job"],
            "step": row["step"],
            "after": row["after"].split("; ") if row["after"] else [],
            "seconds": _number(row["seconds"]) or 0.0,
            "peak_mb": _number(row["peak_mb"]),
        }
        for row in (_table(path) if path else [])
    ]
    longest = max((job["seconds"] for job in jobs), default=0) or 1
    for job in jobs:
        job["share"] = job["seconds"] / longest
    memory = [job["peak_mb"] for job in jobs if job["peak_mb"] is not None]
    return {"jobs": jobs, "seconds": sum(job["seconds"] for job in jobs), "peak_mb": max(memory, default=None)}


def headline(metrics: dict, tables: dict) -> list[dict]:
    """The figures on top of the page: name, value, standard error, what they were without TTA, and the baseline's."""
    final, plain, baseline = (metrics.get(key) or {} for key in ("final", "no_tta", "baseline"))
    plain = {} if plain == final else plain  # no test-time augmentation: nothing to compare with
    images = final.get("images") or tables.get("images") or 0
    errors = {"accuracy": share_error(final.get("accuracy"), images), "log_loss": tables.get("log_loss_se")}
    titles = {"accuracy": "Accuracy", "log_loss": "Log loss"}
    names = [name for name in titles if final.get(name) is not None]
    names += [n for n, v in final.items() if n not in (*titles, "images") and isinstance(v, int | float)]
    return [
        {
            "name": titles.get(name, name),
            "value": final[name],
            "error": errors.get(name),
            "plain": plain.get(name),
            "baseline": baseline.get(name),
            "baseline_name": baseline_name(baseline, name),
            "share": name == "accuracy",
        }
        for name in names
    ]


def ensemble(metrics: dict, stages: Sequence[str] = ()) -> dict:
    """The table of what each member adds: rows of name, weight, own figure, and how much better the ensemble is for it.

    {} where there is none. ``gain`` is positive where the member helps, whichever way the metric runs. Members without
    weight are counted in ``idle`` and have no row. ``groups``: the members of a stage (of a network, where they name no stage).
    """
    answer, name = metrics.get("ensemble") or {}, metrics.get("metric", "log_loss")
    if not answer.get("members") or not answer.get("all"):
        return {}
    columns = list(dict.fromkeys([name, "log_loss"]))
    better, members, groups = max if _rises(name) else min, [], {}
    for member in answer["members"]:
        without, gains = member.get("without"), {}
        for column in columns:
            sign = 1 if _rises(column) else -1
            gains[column] = sign * (answer["all"][column] - without[column]) if without else None
        full = member["member"]
        group = stage_of(full, stages) or full.partition(",")[0]
        row = {"full": full, "name": full.removeprefix(group).lstrip(" ,:") or full, "group": group}
        members.append(row | {"weight": member["weight"], "alone": member["alone"], "gain": gains})
        groups.setdefault(group, []).append(members[-1])

    def best_of(rows: list[dict]) -> dict:
        return better(rows, key=lambda row: row["alone"][name])

    summed = [
        {
            "name": group,
            "weight": sum(row["weight"] for row in rows),
            "members": len(rows),
            "answering": sum(row["weight"] > 0 for row in rows),
            "best": best_of(rows),
        }
        for group, rows in groups.items()
    ]
    answering = [row for row in members if row["weight"] > 0]
    return {
        "metric": name,
        "columns": columns,
        "rows": answering,
        "groups": summed,
        "members": len(members),
        "idle": len(members) - len(answering),
        "all": answer["all"],
        "best": best_of(members),
        "kind": answer.get("weights", "equal"),
    }


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
    recipe = (settings.get("config") or {}).get("recipe") or []
    rows, names = stage_rows(done, metrics, recipe), list(dict.fromkeys(stage["name"] for stage in done))
    rejected = [row for path in files["rejected"] for row in _table(path)]
    times = timings(next(iter(files["timings"]), None))
    return {
        "run": settings["run"],
        "tiles": headline(metrics, tables),
        "images": (metrics.get("final") or {}).get("images") or tables.get("images") or 0,
        "by_fold": [fold["accuracy"] for fold in metrics.get("folds") or [] if fold.get("accuracy") is not None],
        "final_of": metrics.get("final_of"),
        "baseline": metrics.get("baseline") or {},
        "baseline_title": baseline_name(metrics.get("baseline") or {}, "accuracy"),
        "stages": [
            {**stage, "verdict": row["verdict"]} for stage in done for row in rows if row["name"] == stage["name"]
        ],
        "stage_rows": rows,
        "endings": endings(rows),
        "course": course(done),
        "folds": json_of("folds"),
        "fold_count": len({stage["fold"] for stage in done}),
        "stage_count": len(names),
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
        "flow": flow(times["jobs"]),
        "tables": tables,
        "ensemble": ensemble(metrics, names),
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
        "gain_share": lambda value: (
            share_text(value) if value is None else f"{value * 100:+.2f}\u00a0%".replace("-", "\u2212")
        ),
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
