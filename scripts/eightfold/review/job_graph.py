"""The workflow of a run as a graph of its jobs, with the seconds that each took."""

from collections.abc import Mapping, Sequence

# The workflow's columns, left to right: beginnings of the names of jobs; None stands for the stages, which the run names.
FLOW = (
    *(("manifest",), ("duplicates", "explore", "pixels", "weights"), ("folds", "views_"), None),
    *(("predict_",), ("evaluate",), ("review", "submission")),
)
# What hands its files to what. A stage also follows the one before; those of them here are the first and the last.
EDGES = (
    *(
        ("manifest", "duplicates"),
        ("manifest", "explore"),
        ("manifest", "pixels"),
        ("duplicates", "folds"),
        ("pixels", "views_"),
        ("weights", "views_"),
    ),
    *(("views_", "first"), ("folds", "first"), ("last", "predict_"), ("predict_", "evaluate")),
    *(("evaluate", "review"), ("evaluate", "submission")),
)
BOX, GAPS = (132, 40), (34, 12)  # width and height of a job, and what is between them, px


def flow(jobs: Sequence[Mapping], names: Sequence[str]) -> dict:
    """The workflow as a graph with seconds: {"boxes": [{x, y, name, seconds, share}], "lines", "width", "height"}.

    ``names`` are the stages, one below the other; jobs of one name (folds, sizes) are added up. A line is
    (x1, y1, x2, y2), from the right edge of one box to the left of another, level but for the last gap, or straight down.
    """
    total: dict[str, float] = {}
    for job in jobs:
        total[job["job"]] = total.get(job["job"], 0.0) + job["seconds"]
    columns, groups = [], {}
    for starts in FLOW:
        found: dict[str, dict] = {}
        for start in names if starts is None else starts:
            for job, seconds in total.items():
                if (job.rpartition(".")[0] == start) if starts is None else ("." not in job and job.startswith(start)):
                    label = start if starts is None else {"views_": "activations"}.get(start, job)
                    box = found.setdefault(label, {"name": label, "seconds": 0.0, "stage": starts is None})
                    box["seconds"] += seconds
                    groups.setdefault("stage" if starts is None else start, {})[label] = box
        columns.append(list(found.values()))
    columns = [column for column in columns if column]
    (wide, high), (across, down) = BOX, GAPS
    most = max((len(column) for column in columns), default=1)
    longest = max((box["seconds"] for column in columns for box in column), default=0) or 1
    lines = []
    for number, column in enumerate(columns):
        for row, box in enumerate(column):
            top = (most - len(column)) * (high + down) // 2 + row * (high + down)
            box |= {"x": 4 + number * (wide + across), "y": 8 + top, "share": box["seconds"] / longest}
            if row and box["stage"]:
                lines.append((box["x"] + wide / 2, box["y"] - down, box["x"] + wide / 2, box["y"]))
    groups = {name: list(boxes.values()) for name, boxes in groups.items()}
    chain = groups.get("stage", [])
    groups |= {"first": chain[:1], "last": chain[-1:]}
    for before, after in EDGES:
        for one in groups.get(before, []):
            for other in groups.get(after, []):
                lines.append((one["x"] + wide, one["y"] + high / 2, other["x"], other["y"] + high / 2))
    boxes = [box for column in columns for box in column]
    return {
        "boxes": boxes,
        "lines": lines,
        "width": 8 + (wide + across) * len(columns) - across,
        "height": 16 + (high + down) * most,
    }
