"""The table of jobs: their times, and which step waits for which."""

import csv
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightfold.review import job_graph, timings

OUTPUTS = {
    "manifest": ["results/cache/data-1/manifest.csv", "results/cache/data-1/manifest.json"],
    "pixels_part": ["results/cache/pixels-{key}/pixels.parts/{part}/pixels.u8"],
    "pixels": ["results/cache/pixels-{key}/pixels.u8"],
    "train": ["results/x/fold{fold}/{stage}/checkpoint.safetensors"],
    "predict": ["results/x/fold{fold}/predictions/{split}.safetensors"],
}


def record(path, rule, seconds, inputs, **wildcards):
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = dict.fromkeys(inputs, 0.1)
    line = {"rule_name": rule, "wildcards": wildcards or None, "s": seconds, "max_rss": 12.5, "input_size_mb": sizes}
    path.write_text('{"of": "an attempt before"}\n' + json.dumps(line) + "\n")
    return str(path)


def test_a_row_names_the_steps_whose_files_the_job_read(tmp_path):
    # One input as another machine has it, below a folder of its own.
    manifest, part = (
        "results/cache/data-1/manifest.csv",
        "elsewhere/results/cache/pixels-a/pixels.parts/1_of_2/pixels.u8",
    )
    trained = "results/x/fold0/head/checkpoint.safetensors"
    paths = [
        record(tmp_path / "manifest.jsonl", "manifest", 1.23, ["data/labels.csv"]),
        record(tmp_path / "pixels.parts/1_of_2.jsonl", "pixels_part", 2, [manifest], key="a", part="1_of_2"),
        record(tmp_path / "pixels.jsonl", "pixels", 3, [manifest, part], key="a"),
        record(tmp_path / "head.train.jsonl", "train", 4, ["results/cache/pixels-a/pixels.u8"], fold="0", stage="head"),
        record(tmp_path / "all.train.jsonl", "train", 5, [trained, manifest], fold="0", stage="all"),
        record(tmp_path / "predict_valid.jsonl", "predict", 6, [trained], fold="0", split="valid"),
    ]
    table = timings.table(paths, OUTPUTS)
    assert list(table) == timings.COLUMNS
    assert table.values.tolist() == [
        ["manifest", "manifest", "", 1.2, 12.5],
        ["pixels.1_of_2", "pixels", "manifest", 2, 12.5],
        ["pixels", "pixels", "manifest", 3, 12.5],
        ["head.train", "stage head", "pixels", 4, 12.5],
        ["all.train", "stage all", "manifest; stage head", 5, 12.5],
        ["predict_valid", "predict valid", "stage head", 6, 12.5],
    ]


def test_the_table_of_a_run_has_the_edges_of_snakemakes_own_graph(finished):
    def contracted(one: str) -> str:
        of_stage = ("stage ", "train", "find_lr", "draw_lr_find", "activations_tuned")
        return "stage" if one.startswith(of_stage) else one.partition(" ")[0]

    with open(finished["results/tiny/timings.csv"], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    drawn = {(contracted(one), contracted(row["step"])) for row in rows for one in row["after"].split("; ") if one}
    dot = finished.run("submission", "--rulegraph")
    labels = dict(re.findall(r'(\d+)\[label = "(\w+)"', dot))
    edges = {(contracted(labels[a]), contracted(labels[b])) for a, b in re.findall(r"(\d+) -> (\d+)", dot)}
    last = {"timings", "report", "submission"}
    wanted = {(one, other) for one, other in edges if one != other and not {one, other} & last}
    assert len(wanted) > 25 and {(one, other) for one, other in drawn if one != other} == wanted


# ---- the graph


@st.composite
def graphs(draw):
    """Steps, some of them stages, of which each waits for some of those before it; a stage's after is as in a recipe."""
    steps = [*(f"step {n}" for n in range(4)), *(f"stage s{n}" for n in range(3)), *(f"last {n}" for n in range(3))]
    return {
        step: draw(st.sets(st.sampled_from(steps[:number]))) if number else set() for number, step in enumerate(steps)
    }


def reachable(edges, start):
    found, todo = set(), [start]
    while todo:
        new = edges[todo.pop()] - found
        found |= new
        todo += new
    return found


@given(graphs())
def test_the_fewest_edges_keep_the_order_and_none_can_go(after):
    fewest = job_graph.reduced(after)
    for step in after:
        assert fewest[step] <= after[step] and reachable(fewest, step) == reachable(after, step)
        for one in fewest[step]:
            fewer = {**fewest, step: fewest[step] - {one}}
            assert reachable(fewer, step) != reachable(after, step)


def ends(line):
    numbers = [float(number) for number in re.findall(r"-?\d+", line)]
    x1, y1 = numbers[:2]
    return (x1, y1), (x1, numbers[2]) if "V" in line else tuple(numbers[-2:])


@given(graphs())
def test_every_step_has_a_box_right_of_what_it_waits_for_and_no_line_crosses_one(after):
    jobs = [{"job": step, "step": step, "after": found, "seconds": 2.0} for step, found in after.items()] * 2
    graph = job_graph.flow(jobs)
    boxes = {box["name"]: box for box in graph["boxes"]}
    assert list(boxes) == [step.removeprefix("stage ") for step in after]
    assert all(box["seconds"] == 4 and box["share"] == 1 for box in boxes.values())
    for step, found in after.items():
        box = boxes[step.removeprefix("stage ")]
        for one in found:
            before = boxes[one.removeprefix("stage ")]
            if step.startswith("stage ") and one.startswith("stage "):
                assert before["x"] == box["x"] and before["y"] < box["y"]
            else:
                assert before["x"] + job_graph.WIDE < box["x"]
    places = [(box["x"], box["y"]) for box in boxes.values()]
    for n, (x, y) in enumerate(places):
        assert 0 <= x <= graph["width"] - job_graph.WIDE and 0 <= y <= graph["height"] - job_graph.HIGH
        assert all(x != other or abs(y - top) >= job_graph.HIGH + job_graph.DOWN for other, top in places[n + 1 :])
    for line in graph["lines"]:
        if level := re.match(r"M\d+ \d+C.* (\d+) (\d+)H(\d+)$", line):  # over its own place in a column
            left, height, right = map(int, level.groups())
            assert right == left + job_graph.WIDE
            assert not [y for x, y in places if x == left and y <= height <= y + job_graph.HIGH]


def test_each_edge_of_a_small_graph_is_drawn_once():
    after = {
        "a": set(),
        "b": {"a"},
        "c": {"a", "b"},
        "stage one": {"b"},
        "stage two": {"stage one"},
        "d": {"stage two"},
    }
    graph = job_graph.flow([{"step": step, "after": found, "seconds": 1.0} for step, found in after.items()])
    boxes = {(box["x"], box["y"] + job_graph.HIGH // 2): box["name"] for box in graph["boxes"]}
    across = {
        (boxes[x1 - job_graph.WIDE, y1], boxes[x2, y2]) for (x1, y1), (x2, y2) in map(ends, graph["lines"]) if x1 != x2
    }
    assert across == {("a", "b"), ("b", "c"), ("b", "one"), ("two", "d")} and len(graph["lines"]) == 5


@pytest.mark.parametrize("jobs", [[], [{"step": "a", "after": [], "seconds": 0.0}]])
def test_a_run_without_times_is_drawn_too(jobs):
    graph = job_graph.flow(jobs)
    assert len(graph["boxes"]) == len(jobs) and graph["lines"] == []
