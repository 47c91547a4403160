"""Seconds a unit of work: of earlier jobs, timed, or stated."""

import json
from collections import Counter
from pathlib import Path

import pytest

from eightfold.config.plan import Plan
from eightfold.config.resolve import resolve
from eightfold.upkeep import rates, timing
from eightfold.upkeep.rates import OTHERS, START, START_OF, STATED, Rates, timer
from eightfold.upkeep.work import Work, work_of

CPU = {"kind": "cpu", "precision": "float32"}


def all_layers() -> dict:
    recipe = [{"name": "all", "size": 128, "train": "all", "cycles": 2}]
    model = {"arch": "resnet18", "weights": "none"}
    return Plan(resolve({"data": {"source": "demo"}, "model": model, "recipe": recipe})).train_settings("all")


def benchmark(folder: Path, name: str, rule: str, seconds: float, settings: dict, **wildcards: str) -> None:
    data, weights = folder / "cache/data-1/manifest.json", folder / "cache/weights-1/weights.json"
    for path in (data, weights):
        path.parent.mkdir(parents=True, exist_ok=True)
    data.write_text(json.dumps({"counts": {"train": 100, "valid": 0, "test": 50}}))
    weights.write_text(json.dumps({"arch": "resnet18"}))
    record = {"rule_name": rule, "s": seconds, "params": {"settings": settings}, "wildcards": wildcards}
    (folder / name).write_text(json.dumps({**record, "input_size_mb": {str(data): 0.1, str(weights): 0.1}}) + "\n")


def test_rates_are_those_of_earlier_jobs_and_stated_where_there_were_none(tmp_path):
    benchmark(tmp_path, "a.jsonl", "train", START + 20, all_layers(), fold="0", stage="all")
    benchmark(tmp_path, "b.jsonl", "score", 7, {})
    (tmp_path / "broken.jsonl").write_text("{")
    known = Rates(tmp_path)
    work = work_of("train", all_layers(), {"stage": "all", "fold": "0"}, Counter(labelled=100))
    twice = work._replace(amount=2 * work.amount)
    assert known.estimate("train", twice, "resnet18", False) == (pytest.approx(START + 40), "measured")
    assert known.estimate("train", work, "resnet50", False).source == "stated"  # another network tells nothing
    assert known.estimate("score", Work("score", None), "resnet18", False) == (7, "measured")
    assert known.estimate("report", Work("report", None), "resnet18", False) == (OTHERS, "stated")


def test_a_job_of_many_images_counts_more_than_one_of_few(tmp_path):
    """Of a job of few images most seconds are its start, so its rate says little."""
    benchmark(tmp_path, "a.jsonl", "manifest", START_OF["manifest"] + 3, {})
    large = tmp_path / "cache/data-2/manifest.json"
    benchmark(tmp_path, "b.jsonl", "manifest", START_OF["manifest"] + 97, {})
    large.parent.mkdir()
    large.write_text(json.dumps({"counts": {"train": 9850, "valid": 0, "test": 0}}))
    record = json.loads((tmp_path / "b.jsonl").read_text())
    record["input_size_mb"].pop(str(tmp_path / "cache/data-1/manifest.json"))
    (tmp_path / "b.jsonl").write_text(
        json.dumps(record | {"input_size_mb": {**record["input_size_mb"], str(large): 1}})
    )
    known = Rates(tmp_path).estimate("manifest", Work("manifest", 1000), "resnet18", False)
    assert known == (pytest.approx(START_OF["manifest"] + 1000 * 100 / 10_000), "measured")


def test_activations_tell_of_the_network_whose_weights_they_read(tmp_path):
    settings = {"size": 200, "first": 1, "last": 3, "rows": "trainable"}
    where = {"kind": "augmented", "key": "1", "first": "1", "last": "3"}
    benchmark(tmp_path, "a.jsonl", "activations", START + 24, settings, **where)
    known = Rates(tmp_path)
    work = work_of("activations", settings, {}, Counter(labelled=50))
    assert known.estimate("activations", work, "resnet18", False) == (pytest.approx(START + 12), "measured")
    assert known.estimate("activations", work, "mobilenet_v2", False).source == "stated"


def test_a_network_without_earlier_jobs_is_timed_where_it_can_be(tmp_path):
    asked = []

    def timed(work, arch):
        asked.append((work.kind, arch, work.size))
        return None if arch == "timm/unknown" else 0.5

    known = Rates(tmp_path, timed)
    work = Work("training", 10.0, 224)
    assert known.estimate("train", work, "resnet18", False) == (START + 5, "timed")
    stated = known.estimate("train", work, "timm/unknown", True)
    assert stated == (pytest.approx(START + 10 * STATED["training"][True]), "stated")
    assert known.estimate("train", Work("head", 10.0), "resnet18", False).source == "stated"
    assert known.estimate("find_lr", Work("training", 0.0, 224), "resnet18", False).source == "stated"
    assert asked == [("training", "resnet18", 224), ("training", "timm/unknown", 224)]


def test_a_network_is_timed_once_on_this_machine(tmp_path, monkeypatch):
    said, runs = [], []
    own = timing._time
    monkeypatch.setattr(timing, "_time", lambda *what: runs.append(what) or own(*what))
    timed = timer(CPU, 1, tmp_path, said.append)
    first = timed(Work("network", 1.0, 32), "squeezenet1_1")
    assert first > 0 and timed(Work("network", 1.0, 32), "squeezenet1_1") == first and len(runs) == 1
    assert timed(Work("training", 1.0, 32), "squeezenet1_1") > 0 and len(runs) == 2
    (damaged, *_) = tmp_path.glob("*.json")
    damaged.write_text("{}")
    assert (
        timed(Work("network", 1.0, 32), "squeezenet1_1") > 0
        and timed(Work("training", 1.0, 32), "squeezenet1_1") > 0
        and len(runs) == 3
    )
    assert timed(Work("network", 1.0, 32), "no_such_network") is None and "could not be timed" in said[0]


def test_more_threads_are_faster_but_not_in_proportion(tmp_path):
    work = Work("network", 1.0, 64)
    one, four = (timer(CPU, threads, tmp_path, print)(work, "resnet18") for threads in (1, 4))
    assert one / 8 < four < one  # timed apart, so within a factor of two


def test_a_larger_network_takes_longer(tmp_path):
    timed = timer(CPU, 1, tmp_path, print)
    small, large = (timed(Work("network", 1.0, 64), arch) for arch in ("squeezenet1_1", "resnet50"))
    assert large > small and timed(Work("training", 1.0, 64), "squeezenet1_1") > small
    assert rates.not_timed(Work("network", 1.0, 64), "resnet18") is None
