"""The report of a run: one HTML page that holds everything it shows and fetches nothing.

``gather`` turns a run's files into plain values, ``render`` puts them into templates/report.html.
"""

from collections.abc import Mapping, Sequence

import yaml

from eightfold.core import software
from eightfold.core.files import read_json
from eightfold.core.wording import baseline_name, together
from eightfold.review import loss_curve, pages, report_answer, report_stages
from eightfold.review.from_files import figures, number_of, sheets, table_rows
from eightfold.review.job_graph import flow

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
FEW_REJECTED = 50  # rows of rejected.csv shown in full; the rest is counted


def timings(path: str | None) -> dict:
    """The jobs of timings.csv with the share of the longest one, their total seconds and the highest memory (MB)."""
    jobs = [
        {
            "job": row["job"],
            "step": row["step"],
            "after": row["after"].split("; ") if row["after"] else [],
            "seconds": number_of(row["seconds"]) or 0.0,
            "peak_mb": number_of(row["peak_mb"]),
        }
        for row in (table_rows(path) if path else [])
    ]
    longest = max((job["seconds"] for job in jobs), default=0) or 1
    for job in jobs:
        job["share"] = job["seconds"] / longest
    memory = [job["peak_mb"] for job in jobs if job["peak_mb"] is not None]
    return {"jobs": jobs, "seconds": sum(job["seconds"] for job in jobs), "peak_mb": max(memory, default=None)}


def gather(files: Mapping[str, Sequence[str]], settings: Mapping) -> dict:
    """Everything the page shows: of lists of paths by the names in INPUTS, and settings {run, config}."""
    files = {name: [str(path) for path in files.get(name, [])] for name in INPUTS}

    def json_of(name: str) -> dict:
        return next((read_json(path) for path in files[name] if path.endswith(".json")), {})

    metrics, tables, data = json_of("metrics"), json_of("tables"), json_of("manifest_identity")
    done = report_stages.stages(files)
    recipe = (settings.get("config") or {}).get("recipe") or []
    rows, names = report_stages.stage_rows(done, metrics, recipe), list(dict.fromkeys(stage["name"] for stage in done))
    rejected = [row for path in files["rejected"] for row in table_rows(path)]
    times = timings(next(iter(files["timings"]), None))
    drawn = loss_curve.course(done)
    made_by = report_stages.made_by(files["stages"])
    return {
        "run": settings["run"],
        "tiles": report_answer.headline(metrics, tables),
        "images": (metrics.get("final") or {}).get("images") or tables.get("images") or 0,
        "by_fold": [fold["accuracy"] for fold in metrics.get("folds") or [] if fold.get("accuracy") is not None],
        "final_of": metrics.get("final_of"),
        "baseline": metrics.get("baseline") or {},
        "baseline_title": baseline_name(metrics.get("baseline") or {}, "accuracy"),
        "stages": [
            {**stage, "verdict": row["verdict"]} for stage in done for row in rows if row["name"] == stage["name"]
        ],
        "stage_rows": rows,
        "endings": report_stages.endings(rows),
        "course": pages.svg_uri(drawn) if drawn else "",
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
        "ensemble": report_answer.ensemble(metrics, names),
        "tuning": report_answer.tuning(metrics),
        "timings": times,
        "config": yaml.safe_dump(settings.get("config") or {}, sort_keys=False, allow_unicode=True, width=100),
        "arch": together(((settings.get("config") or {}).get("model") or {}).get("arch")),
        "versions": software.in_words(made_by),
        "mixed": software.mixed(made_by),
    }


def render(context: Mapping) -> str:
    """The page as HTML text."""
    return pages.render("templates/report.html", context)
