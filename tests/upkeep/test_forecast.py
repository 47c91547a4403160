"""What a run will cost, from what earlier jobs took."""

from collections import Counter
from pathlib import Path

import pytest

from eightfold.config.jobs import jobs_of
from eightfold.config.plan import Plan
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.upkeep import disk_space, forecast
from eightfold.upkeep.rates import Rates

ROOT = Path(__file__).parents[2]
OUTPUTS = forecast.first_outputs(ROOT / "rules")
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


def test_a_run_of_the_demo_is_forecast_whole():
    """Every job of `jobs_of` has a rule and settings whose work is known, or a stated time."""
    demo = Plan(resolve(check_yaml_file(ROOT / "config.yaml")))
    images, rates = Counter(labelled=1437, test=360), Rates(ROOT / "no such folder")
    jobs = jobs_of(demo)
    found = forecast.expected(demo, jobs, images, rates)
    assert [one.job for one in found] == jobs and all(one.estimate.seconds > 0 for one in found)
    assert {one.estimate.source for one in found} == {"stated"}
    total = sum(one.estimate.seconds for one in found)
    assert forecast.run_seconds(found, 1) == pytest.approx(forecast.SNAKEMAKE + total)
    longest = max(one.estimate.seconds for one in found if not one.alone)
    alone = sum(one.estimate.seconds for one in found if one.alone)
    assert forecast.run_seconds(found, 1000) == pytest.approx(forecast.SNAKEMAKE + alone + longest)


def test_the_table_counts_jobs_hours_and_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ("r/x/fold0/all/checkpoint.safetensors", "train", "update pending")
    jobs = forecast.planned(summary(rows), OUTPUTS)
    text = forecast.table(plan(), jobs, Rates(tmp_path), 2)
    assert (
        "train                        1" in text
        and "on 2 cores" in text
        and "disk when all is there" in text
        and "0 GPU-hours" in text
    )
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
    assert "not known yet" in forecast.table(Plan(config), [], Rates(tmp_path), 2)


def test_every_rule_of_many_jobs_is_known(finished):
    lines = finished.run("submission", "--summary", "--quiet", "all").splitlines(keepends=True)
    pending = [line.rpartition("\t")[0] + "\tupdate pending\n" if line.count("\t") == 5 else line for line in lines]
    header = next(line for line in lines if line.startswith("output_file"))
    pending = [header, *(line for line in pending if not line.startswith("output_file"))]
    found = Counter(job.rule for job in forecast.planned(pending, OUTPUTS))
    assert found["train"] == 4 and found["predict"] == 2 and found["activations"] == 2 and found["find_lr"] == 1
    assert sum(found.values()) == len(list(finished["results"].rglob("*.jsonl")))
