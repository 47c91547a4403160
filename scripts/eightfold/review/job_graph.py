"""The steps of a run as a graph, with the seconds that each took."""

from collections.abc import Iterable, Mapping
from functools import cache
from statistics import mean

from eightfold.review.timings import STAGE

WIDE, HIGH = 132, 40  # of a box, px
ACROSS, DOWN = 34, 12  # between boxes, px
PASS = 6  # height of the place that a line takes where it passes a column, px
Edges = Mapping[str, set[str]]  # step -> the steps that it waits for; no cycles


def merged(jobs: Iterable[Mapping]) -> tuple[dict[str, float], dict[str, set[str]]]:
    """(seconds, the steps that it waits for) of each step, from the jobs' ``step``, ``after`` and ``seconds``."""
    seconds: dict[str, float] = {}
    after: dict[str, set[str]] = {}
    for job in jobs:
        seconds[job["step"]] = seconds.get(job["step"], 0.0) + job["seconds"]
        after.setdefault(job["step"], set()).update(job["after"])
    return seconds, {step: found & seconds.keys() for step, found in after.items()}


def reduced(after: Edges) -> dict[str, set[str]]:
    """The same order with the fewest edges: no step waits for one that another of those it waits for has waited for.

    The transitive reduction of Aho, Garey and Ullman (1972).
    """

    @cache
    def before(step: str) -> frozenset[str]:
        return frozenset(after[step]).union(*map(before, after[step]))

    return {step: {one for one in found if not any(one in before(o) for o in found)} for step, found in after.items()}


def column_of(after: Edges) -> dict[str, int]:
    """The column of each step, right of all that it waits for; all stages of the recipe are in one column."""
    stages = [step for step in after if step.startswith(STAGE)]

    @cache
    def column(step: str) -> int:
        waits_for = set().union(*(after[stage] for stage in stages)) - {*stages} if step in stages else after[step]
        return 1 + max(map(column, waits_for), default=-1)

    return {step: column(step) for step in after}


def with_passes(after: Edges, column: Mapping[str, int]) -> tuple[dict, dict]:
    """(edges, column) in which each edge joins neighbouring columns, or stages: one that is longer goes over places of its own.

    Such a place is a key (from, to, column).
    """
    edges: dict = {step: set() for step in after}
    columns: dict = dict(column)
    for step, found in after.items():
        for one in found:
            last = one
            for number in range(column[one] + 1, column[step]):
                place = (one, step, number)
                edges[place], columns[place], last = {last}, number, place
            edges[step].add(last)
    return edges, columns


def ordered(edges: Mapping, columns: Mapping) -> list[list]:
    """The columns from left to right, each with its boxes and places from top to bottom.

    In each, what waits for something high stands high (the barycentre rule of Sugiyama, Tagawa and Toda, 1981), the stages in
    the order of the recipe: they come first in ``edges``, one after another.
    """
    height: dict = {}
    found = []
    for number in range(max(columns.values(), default=-1) + 1):
        column = [one for one in edges if columns[one] == number]
        inner = {one: [height[before] for before in edges[one] if before in height] for one in column}
        stages = [one for one in column if isinstance(one, str) and one.startswith(STAGE)]
        of_stages = mean([h for stage in stages for h in inner[stage]] or [0])
        column.sort(key=lambda one: of_stages if one in stages else mean(inner[one] or [0]))
        height |= {one: (row + 0.5) / len(column) for row, one in enumerate(column)}
        found.append(column)
    return found


def flow(jobs: Iterable[Mapping]) -> dict:
    """The graph as the report draws it: {"boxes": [{x, y, name, seconds, share}], "lines", "width", "height"}, px.

    ``jobs``: job, step, after and seconds of each, the stages in the order of the recipe. A line is the `d` of an SVG path:
    from the right edge of one box to the left edge of another, or from one stage down to another; none crosses a box.
    """
    seconds, after = merged(jobs)
    column = column_of(after)
    edges, columns = with_passes(reduced(after), column)
    tall = {one: HIGH if isinstance(one, str) else PASS for one in edges}
    stacks = ordered(edges, columns)
    heights = [sum(tall[one] + DOWN for one in stack) - DOWN for stack in stacks]
    whole, longest = max(heights, default=0), max(seconds.values(), default=0) or 1
    place = {}
    for number, (stack, height) in enumerate(zip(stacks, heights, strict=True)):
        y = 8 + (whole - height) // 2
        for one in stack:
            place[one] = 4 + number * (WIDE + ACROSS), y
            y += tall[one] + DOWN

    def line(one, other) -> str:
        (x1, y1), (x2, y2) = place[one], place[other]
        middle1, middle2 = y1 + tall[one] // 2, y2 + tall[other] // 2
        if x1 == x2 and y2 - y1 == HIGH + DOWN:
            return f"M{x1 + WIDE // 2} {y1 + HIGH}V{y2}"
        if x1 == x2:  # past the stages between
            return f"M{x1 + WIDE} {middle1}C{x1 + WIDE + ACROSS} {middle1} {x1 + WIDE + ACROSS} {middle2} {x1 + WIDE} {middle2}"
        across = f"M{x1 + WIDE} {middle1}C{x2 - ACROSS // 3} {middle1} {x2 - 2 * ACROSS // 3} {middle2} {x2} {middle2}"
        return across if isinstance(other, str) else f"{across}H{x2 + WIDE}"

    return {
        "boxes": [
            {
                "name": step.removeprefix(STAGE) if step.startswith(STAGE) else step.replace("_", " "),
                "seconds": seconds[step],
                "share": seconds[step] / longest,
                **dict(zip("xy", place[step], strict=True)),
            }
            for step in after
        ],
        "lines": [line(one, other) for other, found in edges.items() for one in sorted(found, key=str)],
        "width": 8 + (WIDE + ACROSS) * len(stacks) - ACROSS,
        "height": 16 + whole,
    }
