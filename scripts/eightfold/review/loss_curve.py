"""The losses of a run from its first stage to its last, placed on one drawing."""

import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 560, 300  # of the drawing, px
LEFT, RIGHT, TOP, BOTTOM = 56, 8, 30, 34  # what the axes take
LETTER = 9  # width of a letter where a phone makes them large, px


def loss_ticks(low: float, high: float) -> list[float]:
    """Round numbers from 10**low to 10**high, three to eight of them where there are so many of two figures."""
    for marks in ((1, 2, 5), range(1, 10), [tenth / 10 for tenth in range(10, 100)]):
        ticks = [float(f"{mark}e{power}") for power in range(-6, 4) for mark in marks]
        ticks = [tick for tick in ticks if low <= math.log10(tick) <= high]
        if len(ticks) >= 3:
            break
    return ticks[:: math.ceil(len(ticks) / 8) or 1]


def course(stages: Sequence[Mapping]) -> dict:
    """{"bands", "lines", "ticks", "width", "height"}: where each epoch's losses lie, on a logarithmic scale; {} without any.

    stages: name, fold and history (rows of train_loss and valid_loss) of each stage of each fold. Stages have bands of
    one width, however many epochs they take; a band is {name, letters, epochs, x, width}, a line {kind, points}, a tick (y, loss).
    """
    kinds = {"train": "train_loss", "valid": "valid_loss"}
    losses = [
        row[column] for stage in stages for row in stage["history"] for column in kinds.values() if row.get(column)
    ]
    losses = [loss for loss in losses if loss > 0]
    if not losses:
        return {}
    low, high = math.log10(min(losses)), math.log10(max(losses))
    margin = max(0.06 * (high - low), 0.02)
    low, high = low - margin, high + margin
    names = list(dict.fromkeys(stage["name"] for stage in stages))
    wide = (WIDTH - LEFT - RIGHT) / len(names)

    def level(loss: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(loss)) / (high - low)

    bands = [
        {"name": name, "letters": max(3, int(wide / LETTER)), "x": LEFT + number * wide, "width": wide}
        for number, name in enumerate(names)
    ]
    lines = []
    for stage in stages:
        band = bands[names.index(stage["name"])]
        epochs = band["epochs"] = len(stage["history"])
        for kind, column in kinds.items():
            points = [
                (band["x"] + wide * (number + 0.5) / epochs, level(row[column]))
                for number, row in enumerate(stage["history"])
                if row.get(column) and row[column] > 0
            ]
            lines.append({"kind": kind, "points": points})
    ticks = [(level(tick), f"{tick:g}") for tick in loss_ticks(low, high)]
    return {
        "bands": bands,
        "lines": lines,
        "ticks": ticks,
        "width": WIDTH,
        "height": HEIGHT,
        "foot": HEIGHT - BOTTOM,
        "top": TOP,
    }
