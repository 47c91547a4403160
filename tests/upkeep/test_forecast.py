"""What a run will cost, from what earlier jobs took."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eightfold.config import jobs as job_list
from eightfold.config.guess import infer
from eightfold.config.jobs import jobs_of
from eightfold.config.plan import Plan
from eightfold.config.quality import QUALITIES, Budget, Job, choose
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.upkeep import disk_space, forecast
from eightfold.upkeep.rates import START, Rates

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


def test_a_view_that_two_files_hold_is_computed_once():
    recipe = [
        {"name": "linear", "size": 64, "train": "linear", "cycles": 7},
        {"name": "head", "size": 64, "train": "head", "cycles": 3},
    ]
    made = Plan(resolve({"data": {"source": "demo"}, "model": {"weights": "none"}, "recipe": recipe}))
    jobs = [job for job in jobs_of(made) if job.rule == "activations"]
    assert [int(job.wildcards["last"]) for job in jobs] == [0, 7, 3]
    found = forecast.expected(
        made, jobs, Counter(labelled=1000), Rates(ROOT / "no such folder", lambda work, arch: 1.0)
    )
    seconds = [one.estimate.seconds - START for one in found]
    assert seconds == pytest.approx([1000 * 64**2 / 1e6 * views for views in (1, 7, 0)])


COSTS = {"mobilenet_v2": 1.0, "resnet18": 2.0, "resnet34": 3.0, "resnext50_32x4d": 5.0, "resnext101_64x4d": 15.0}


@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 40_000),
    st.integers(2, 40_000),
    st.sampled_from(QUALITIES),
    st.sampled_from([None, 30, 100, 400]),
    st.sampled_from(["side_on", "top_down"]),
    st.booleans(),
)
def test_more_images_never_make_the_forecast_shorter(one, other, quality, short_side, preset, gpu):
    few, many = sorted([one, other])
    rates = Rates(ROOT / "no such folder", lambda work, arch: COSTS[arch] * (3 if work.kind == "training" else 1) / 100)

    def seconds(labelled: int) -> float:
        job = Job(labelled, 2, short_side, preset, gpu)
        return choose(job, Budget(quality), lambda recipe: cost_of(recipe, job, rates)).seconds

    assert seconds(few) <= seconds(many) * (1 + 1e-9)


def cost_of(recipe, job: Job, rates: Rates) -> float:
    config = {"data": {"source": "demo"}, "model": {"arch": recipe.arch}, "recipe": recipe.stages}
    config |= {"split": {"use": recipe.folds}, "tta": {"views": recipe.views}}
    config["augmentation"] = {"preset": job.preset}
    made = Plan(resolve(config))
    images = Counter(labelled=job.labelled, test=job.labelled // 2)
    return forecast.run_seconds(forecast.expected(made, jobs_of(made), images, rates), 2)


def test_a_forecast_for_a_new_config_counts_the_images_that_validate(tmp_path):
    """train/ and valid/ are both labelled; what is forecast is the run of the config that `make new` writes."""
    for part, number in (("train", 6), ("valid", 3)):
        for kind in "ab":
            (tmp_path / part / kind).mkdir(parents=True)
            for n in range(number):
                Image.new("RGB", (60, 40)).save(tmp_path / part / kind / f"{n}.png")
    layout = infer(tmp_path)
    config = resolve({"data": layout.data})
    cost = forecast.forecaster(Rates(tmp_path), 2)(config, layout)
    whole = {**layout.data, "root": str(tmp_path)}
    made = Plan(resolve({"data": whole}))
    images = Counter(labelled=18, test=0, valid=6)
    assert disk_space.images_of(made) == images
    assert cost.megabytes == pytest.approx(forecast.disk_of(made, images).total() / 1e6)
    jobs = [*jobs_of(made), job_list.Job("timings", {}), job_list.Job("report", {})]
    assert cost.seconds == pytest.approx(
        forecast.run_seconds(forecast.expected(made, jobs, images, Rates(tmp_path)), 2)
    )
    assert "2 cores" in cost.on and "stated" in cost.on


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
