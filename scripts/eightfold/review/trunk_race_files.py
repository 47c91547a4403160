"""What a comparison of networks reads: the linear stage of each in each fold, its weights, and how long it took."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from eightfold.core import tensors
from eightfold.core.files import read_json
from eightfold.predict.evaluation import Job
from eightfold.review import trunk_race


def read_racers(given, settings: Mapping, job: Job) -> tuple[list[dict], np.ndarray]:
    """The racers as `trunk_race.table` takes them, and the loss of each on each held-out image: (racers, images).

    ``given``: the inputs of the rule, those of a racer together in the order of settings["racers"], fold after fold or part
    after part. Raises UserError for a file that is not what its stage.json says.
    """
    folds, racers, losses = len(settings["folds"]), [], []
    parts = zip(given.weights, given.trunks, given.activations_times, strict=True)
    for number, racer in enumerate(settings["racers"]):
        mine = slice(number * folds, (number + 1) * folds)
        records = [read_json(path) for path in given.stages[mine]]
        found = [tensors.load(path, of["made_from"]) for path, of in zip(given.valid[mine], records, strict=True)]
        rows, logits = (np.concatenate([file[name].numpy() for file in found]) for name in ("rows", "logits"))
        figures, of_images = trunk_race.judge_racer(logits, job.targets[rows], job.judge)
        losses.append(of_images)
        widths, sizes, seconds = zip(*_of_parts(parts, len(racer["parts"])), strict=True)
        fitted = [_seconds_of_fit(Path(path)) for path in given.stages[mine]]
        own = {"figures": figures, "seconds": sum(seconds) + sum(fitted), "bytes": sum(sizes), "width": sum(widths)}
        racers.append({"name": racer["name"], "parts": racer["parts"], **own})
    return racers, np.array(losses)


def _of_parts(parts: Iterator[Sequence[str]], count: int) -> Iterator[tuple[int, int, float]]:
    """Width, bytes and seconds of the activations of the next ``count`` networks."""
    for _ in range(count):
        weights, trunk, times = next(parts)
        yield read_json(weights)["width"], Path(trunk).stat().st_size, _last_seconds(Path(times))


def _last_seconds(benchmark: Path) -> float:
    return float(json.loads(benchmark.read_text().splitlines()[-1])["s"])


def _seconds_of_fit(record: Path) -> float:
    """Seconds that a linear stage took, as the history beside its stage.json has them."""
    header, row = record.with_name("history.csv").read_text().splitlines()[:2]
    return float(dict(zip(header.split(","), row.split(","), strict=True))["seconds"])
