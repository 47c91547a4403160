"""What a run will cost, from what earlier jobs took."""

import json
from collections import Counter
from pathlib import Path

import pytest

from eightfold.config.plan import Plan
from eightfold.config.resolve import resolve
from eightfold.upkeep import disk_space, forecast

OUTPUTS = forecast.first_outputs(Path(__file__).parents[2] / "rules")
HEADER = "output_file\tdate\trule\tlog-file(s)\tstatus\tplan\n"


def summary(*rows: tuple[str, str, str]) -> list[str]:
    return ["not a row\n", HEADER, *(f"{path}\t-\t{rule}\t-\tmissing\t{plan}\n" for path, rule, plan in rows)]


def plan() -> Plan:
    recipe = [
        {"name": "head", "size": 64, "train": "head", "augment": False},
        {"name": "all", "size": 128, "train": "all", "cycles": 2, "gpus": 2},
    ]
    return Plan(
        resolve({"data": {"source": "demo"}, "model": {"arch": "resnet18", "weights": "none"}, "recipe": recipe})
    )


def benchmark(folder: Path, name: str, rule: str, seconds: float, settings: dict, **wildcards: str) -> None:
    data, weights = folder / "cache/data-1/manifest.json", folder / "cache/weights-1/weights.json"
    for path in (data, weights):
        path.parent.mkdir(parents=True, exist_ok=True)
    data.write_text(json.dumps({"counts": {"train": 80, "valid": 20, "test": 50}}))
    weights.write_text(json.dumps({"arch": "resnet18"}))
    record = {"rule_name": rule, "s": seconds, "params": {"settings": settings}, "wildcards": wildcards}
    (folder / name).write_text(json.dumps({**record, "input_size_mb": {str(data): 0.1, str(weights): 0.1}}) + "\n")


def test_jobs_are_counted_once_and_finished_ones_not_at_all():
    found = forecast.planned(
        summary(
            ("r/x/fold0/head/stage.json", "train", "update pending"),
            ("r/x/fold0/head/checkpoint.safetensors", "train", "update pending"),
            ("r/x/fold1/head/checkpoint.safetensors", "train", "update pending"),
            ("r/x/fold0/predictions/test.parts/2_of_8.safetensors", "predict_part", "update pending"),
            ("r/x/folds.csv", "folds", "no update"),
            ("r/x/metrics.json", "score", "update pending"),
            ("r/x/predictions/valid.csv", "score", "update pending"),
            ("r/x/tensorboard/fold0/events.out.tfevents.0", "track_tensorboard", "update pending"),
            ("r/x/tensorboard/fold1/events.out.tfevents.0", "track_tensorboard", "update pending"),
        ),
        OUTPUTS,
    )
    assert [(job.rule, list(job.wildcards.values())) for job in found] == [
        ("train", ["0", "head"]),
        ("train", ["1", "head"]),
        ("predict_part", ["0", "test", "2_of_8"]),
        ("score", []),
        ("track_tensorboard", []),
    ]


def test_the_work_of_a_job_is_its_images_through_the_network():
    images = Counter(labelled=100, test=50)

    def amount(rule, settings, **wildcards):
        return forecast.work_of(rule, settings, wildcards, images).amount

    assert amount("pixels", {}) == 150 and amount("pixels_part", {}, part="1_of_3") == 50
    assert amount("activations", {"size": 200, "first": 1, "last": 3}) == pytest.approx(100 * 3 * 0.04)
    # The starting trunk sees the test images in the plain view too, a tuned one never.
    assert amount("activations", {"size": 200, "first": 0, "last": 0}) == pytest.approx(150 * 0.04)
    assert amount("activations_tuned", {"size": 200, "first": 0, "last": 0}) == pytest.approx(100 * 0.04)
    assert amount("fit_linear", {"views": [1, 2]}) == 300
    assert amount("predict", {"size": 100, "views": 4}, split="test") == pytest.approx(50 * 5 * 0.01)
    settings = plan().train_settings("all")  # 1 + 2 cycles of one epoch, on two GPUs
    assert amount("train", settings) == pytest.approx(100 * 2 * 3 * 128**2 / 1e6 / 2)
    assert amount("train", plan().train_settings("head")) == 100 * 50  # 100 steps at least, in epochs of 2
    # A stage of all layers of 4 steps has no sweep; a head has one of 100 steps, and trials: 5 rates on 5 splits.
    assert amount("find_lr", plan().find_lr_settings("all")) == 0
    assert amount("find_lr", plan().find_lr_settings("head")) == (100 + 25 * 100) * 50
    assert amount("score", {}) is None


def test_rates_are_those_of_earlier_jobs_and_stated_where_there_were_none(tmp_path):
    settings = plan().train_settings("all")
    benchmark(tmp_path, "a.jsonl", "train", 3 + 20, settings, fold="0", stage="all")
    benchmark(tmp_path, "b.jsonl", "score", 7, {})
    (tmp_path / "broken.jsonl").write_text("{")
    rates = forecast.Rates(tmp_path)
    work = forecast.work_of("train", settings, {"stage": "all"}, Counter(labelled=100))
    twice = work._replace(amount=2 * work.amount)
    assert rates.seconds("train", twice, "resnet18", False) == (pytest.approx(3 + 40), "measured")
    assert rates.seconds("train", work, "resnet50", False)[1] == "stated"  # another network tells nothing
    assert rates.seconds("score", forecast.Work("score", None), "resnet18", False) == (7, "measured")
    assert rates.seconds("report", forecast.Work("report", None), "resnet18", False) == (forecast.OTHERS, "stated")


def test_activations_tell_of_the_network_whose_weights_they_read(tmp_path):
    settings = {"size": 200, "first": 1, "last": 3}
    benchmark(tmp_path, "a.jsonl", "activations", 3 + 24, settings, kind="augmented", key="1", first="1", last="3")
    rates = forecast.Rates(tmp_path)
    work = forecast.work_of("activations", settings, {}, Counter(labelled=50))
    assert rates.seconds("activations", work, "resnet18", False) == (pytest.approx(3 + 12), "measured")
    assert rates.seconds("activations", work, "mobilenet_v2", False)[1] == "stated"


def test_the_table_counts_jobs_hours_and_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ("r/x/fold0/all/checkpoint.safetensors", "train", "update pending")
    jobs = forecast.planned(summary(rows), OUTPUTS)
    text = forecast.table(plan(), jobs, tmp_path)
    assert "train                        1" in text and "disk when all is there" in text and "0 GPU-hours" in text
    assert "not known" not in text
    disk: Counter = Counter()
    for large in disk_space.needed(plan(), Counter(labelled=1000, test=0), width=1024, trunk=10**6):
        disk[large.kind] += large.bytes
    assert disk["activations"] == 1000 * 1024 * 4  # one view of the head stage, max and mean of each feature
    assert disk["pixels"] == 1000 * sum(side**2 * 1.5 * 3 for side in plan().short_sides.values())
    assert disk["checkpoints"] > 5 * 10**6  # the start, the stage of all layers, and while it runs momentum and a state


def test_what_nobody_can_count_yet_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {"source": "kaggle", "competition": "c", "layout": "folders"}
    config = resolve({"data": data, "model": {"arch": "resnet18", "weights": "none"}})
    assert "not known yet" in forecast.table(Plan(config), [], tmp_path)


def test_every_rule_of_many_jobs_is_known(finished):
    lines = finished.run("submission", "--summary", "--quiet", "all").splitlines(keepends=True)
    pending = [line.rpartition("\t")[0] + "\tupdate pending\n" if line.count("\t") == 5 else line for line in lines]
    header = next(line for line in lines if line.startswith("output_file"))
    pending = [header, *(line for line in pending if not line.startswith("output_file"))]
    found = Counter(job.rule for job in forecast.planned(pending, OUTPUTS))
    assert found["train"] == 4 and found["predict"] == 2 and found["activations"] == 2 and found["find_lr"] == 1
    assert sum(found.values()) == len(list(finished["results"].rglob("*.jsonl")))
