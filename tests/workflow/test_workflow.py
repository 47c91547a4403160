"""The workflow as a user runs it: real Snakemake on tiny images, and what each change makes it do again."""

import csv
import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from pipeline import CONFIG, Checkout, changed, changed_stage, draw_image

RUN = "results/tiny"
# What follows from new predictions, from a new network of the last stage, from any training.
AFTER_PREDICT = {"choose", "score", "write_submission", "review", "timings", "report"}
AFTER_TRAINING = {"draw", "predict", "insight", *AFTER_PREDICT}
OF_A_RUN = {
    "folds",
    "check_job",
    "check_submission",
    "duplicates",
    "explore_data",
    "show_augmentation",
}  # before any training


@pytest.fixture(scope="module")
def copy(finished, tmp_path_factory) -> Checkout:
    """A copy of the finished checkout; whoever edits it puts it back."""
    return finished.copy(tmp_path_factory.mktemp("copy") / "checkout")


# ---- the first run


def test_the_submission_is_the_samples_and_the_rest_is_there(finished):
    with open(finished[f"{RUN}/submission.csv"], newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["image", "rings", "bars"]
    assert [row[0] for row in rows] == ["t4", "t3", "t2", "t1", "t0"]
    for _, *chances in rows:
        assert all(0 <= float(p) <= 1 for p in chances) and sum(map(float, chances)) == pytest.approx(1, abs=1e-6)
    figures = json.loads(finished[f"{RUN}/metrics.json"].read_text())
    assert [stage["stage"] for stage in figures["stages"]] == [stage["name"] for stage in CONFIG["recipe"]]
    assert {"accuracy", "log_loss"} <= set(figures["final"]) and figures["final"]["images"] == 6
    assert "<html" in finished[f"{RUN}/report.html"].read_text(encoding="utf-8")
    named, *_ = zip(*(line.split(",") for line in finished[f"{RUN}/timings.csv"].read_text().splitlines()), strict=True)
    measured = {path.stem for path in finished["results"].rglob("*.jsonl") if path.parent.suffix != ".parts"}
    assert named[0] == "job" and set(named[1:]) == measured - {
        "timings",
        "report",
    }  # every job, but what comes after it
    assert finished.leftovers() == [] and not list(finished[f"{RUN}/.resume"].glob("*"))


def test_every_rule_has_a_log_and_a_benchmark(finished):
    logs = {path.name for path in finished["results"].rglob("*.log")}
    assert {
        "manifest.log",
        "folds.log",
        "explore_data.log",
        "pixels.log",
        "weights.log",
        "write_submission.log",
    } <= logs
    assert {"plain.find_lr.log", "plain.draw_lr_find.log", "predict_valid.log", "predict_test.log"} <= logs
    assert {f"{stage['name']}.train.log" for stage in CONFIG["recipe"]} <= logs
    measured = {path.stem for path in finished["results"].rglob("*.jsonl")}
    assert {Path(name).stem for name in logs} <= measured
    epochs = finished[f"{RUN}/logs/fold0/whole.train.log"].read_text()
    assert "epoch 1: train loss" in epochs and "epoch 2: train loss" in epochs


def test_the_rate_of_every_mini_batch_is_the_recipes(finished):
    for stage, lr in (("moving", 0.02), ("whole", 0.003)):  # 18 images in batches of 6: 3 a cycle
        with open(finished[f"{RUN}/fold0/{stage}/batches.csv"], newline="") as file:
            rates = [float(row["lr"]) for row in csv.DictReader(file)]
        cosine = [lr / 2 * (1 + math.cos(math.pi * i / 3)) for i in range(3)]
        assert rates == pytest.approx([lr / 100, *cosine[1:], *cosine]), stage


# ---- the second run


def test_a_second_run_does_nothing(finished):
    assert "Nothing to be done" in finished.run("submission")
    assert finished.planned("report") == finished.planned("evaluate") == {}


CHANGES = {
    "TTA views": (changed(tta={"views": 2}), {"predict", *AFTER_PREDICT}),
    "TTA average": (changed(tta={"average": "geometric"}), {"predict", *AFTER_PREDICT}),
    "clip": (changed(submission={"clip": 0.01}), {"write_submission", "timings", "report"}),
    "separator": (
        changed(submission={"separator": "|"}),
        {"check_submission", "write_submission", "timings", "report"},
    ),
    "positive class": (changed(submission={"positive": "bars"}), {"check_submission", "predict", *AFTER_PREDICT}),
    "separator and rate of the last stage": (  # a check that is planned hides no other change
        changed(submission={"separator": "|"}, recipe=changed_stage("again", lr=0.002)["recipe"]),
        {"check_submission", "train", *AFTER_TRAINING},
    ),
    "gzip": (changed(submission={"gzip": True}), {"gzip_submission", "timings", "report"}),
    "gzip and clip": (
        changed(submission={"gzip": True, "clip": 0.01}),
        {"gzip_submission", "write_submission", "timings", "report"},
    ),
    "rate of the last stage": (changed_stage("again", lr=0.002), {"train", *AFTER_TRAINING}),
    "length of the first stage's cycle": (
        changed_stage("plain", cycle_len=2),
        {"find_lr", "draw_lr_find", "train", "activations_tuned", *AFTER_TRAINING},
    ),
    "snapshots of the last stage": (changed_stage("again", snapshots=False), {"train", *AFTER_TRAINING}),
    "epochs of the second stage": (
        changed_stage("moving", cycles=3),
        {"activations", "train", "activations_tuned", *AFTER_TRAINING},
    ),
    "augmentation": (
        changed(augmentation={"preset": "top_down"}),
        {"show_augmentation", "activations", "train", "activations_tuned", *AFTER_TRAINING},
    ),
    "batch size": (
        changed(batch_size=9),
        {"find_lr", "draw_lr_find", "train", "activations_tuned", *AFTER_TRAINING},
    ),
    "rule of the finder": (
        changed(lr_find={"rule": "steepest"}),
        {"find_lr", "draw_lr_find", "train", "activations_tuned", *AFTER_TRAINING},
    ),
    "split": (
        changed(split={"folds": 3}),
        {"folds", "check_job", "find_lr", "draw_lr_find", "train", "activations_tuned", *AFTER_TRAINING},
    ),
    "another run": (
        changed(run="second"),
        {*OF_A_RUN, "find_lr", "draw_lr_find", "train", "activations_tuned", *AFTER_TRAINING},
    ),
}
NUMBERS = {  # how many jobs of a rule, where it is not all of them
    "rate of the last stage": {"train": 1},
    "epochs of the second stage": {"activations": 1, "train": 3},
    "augmentation": {"activations": 1, "train": 3},
    "snapshots of the last stage": {"train": 1},
    "separator and rate of the last stage": {"train": 1},
}


@pytest.fixture(scope="module")
def plans(copy) -> dict[str, dict[str, int]]:
    """What a dry run plans for each of CHANGES; two at a time, since each takes seconds of start-up."""

    def plan(key: str) -> dict[str, int]:
        name = f"{key.replace(' ', '_')}.yaml"
        copy[name].write_text(yaml.safe_dump(CHANGES[key][0]), encoding="utf-8")
        return copy.planned("submission", "--configfile", name)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CHANGES, pool.map(plan, CHANGES), strict=True))


@pytest.mark.parametrize("key", CHANGES)
def test_a_key_changed_in_the_config_reruns_what_depends_on_it(plans, key):
    found, expected = plans[key], CHANGES[key][1]
    assert set(found) == expected
    assert {rule: found[rule] for rule in NUMBERS.get(key, {})} == NUMBERS.get(key, {})


def test_a_comment_in_the_library_reruns_nothing_and_a_function_what_calls_it(copy):
    library = copy["scripts/eightfold/inputs/views.py"]
    source = library.read_text(encoding="utf-8")
    try:
        library.write_text(
            "# A remark.\n" + source.replace("PLAIN = 0\n", "PLAIN = 0  # the first\n"), encoding="utf-8"
        )
        assert copy.planned() == {}
        library.write_text(source.replace("_CHANCE = 0.75", "_CHANCE = 0.7"), encoding="utf-8")
        seeing = {
            "show_augmentation",
            "activations",
            "activations_tuned",
            "find_lr",
            "draw_lr_find",
            "train",
            *AFTER_TRAINING,
        }
        assert set(copy.planned()) == seeing
    finally:
        library.write_text(source, encoding="utf-8")
    assert copy.planned() == {}


def test_an_edited_plot_retrains_nothing(copy):
    library = copy["scripts/eightfold/review/plots.py"]
    source = library.read_text(encoding="utf-8")
    try:
        library.write_text(source + "\nNEW = 1\n", encoding="utf-8")
        found = set(copy.planned())
    finally:
        library.write_text(source, encoding="utf-8")
    assert {"draw", "report"} <= found <= {"draw", "draw_lr_find", "explore_data", "review", "timings", "report"}


def test_touched_files_rerun_nothing(finished, tmp_path):
    """A fresh clone, an unpacked archive of results: all times differ, and in no order that means anything."""
    touched = finished.copy(tmp_path / "touched")
    files = sorted(path for path in touched.folder.rglob("*") if path.is_file() and ".snakemake" not in path.parts)
    now = time.time()
    for number, path in enumerate(files):
        os.utime(path, (now - number * 37 % 10_000,) * 2)
    assert touched.planned() == {}
    for number, path in enumerate(files):
        os.utime(path, (now - (len(files) - number) * 37 % 10_000,) * 2)
    assert touched.planned() == {}


def test_a_reader_whose_manifest_stays_as_it_was_retrains_nothing(finished, tmp_path):
    edited = finished.copy(tmp_path / "edited")
    reader = edited["scripts/eightfold/raw/tables.py"]
    source = reader.read_text(encoding="utf-8")
    assert "known, 1, 0.5)" in source  # how near a name has to be, to be suggested
    reader.write_text(source.replace("known, 1, 0.5)", "known, 1, 0.45)"), encoding="utf-8")
    assert {"manifest", "folds", "train"} <= set(edited.planned())
    edited.run("look")  # as make does
    assert set(edited.planned()) == {"timings", "report"}


def test_one_more_image_reruns_all_but_the_weights(copy):
    path = copy["pictures/train/bars/one_more.png"]
    draw_image("bars", 50).save(path)
    try:
        found = copy.planned()
    finally:
        path.unlink()
    everything = {"manifest", *OF_A_RUN, "pixels", "activations", "activations_tuned", "find_lr"}
    assert set(found) == everything | {"draw_lr_find", "train", *AFTER_TRAINING}
    assert copy.planned() == {}


# ---- failed, refused (killed: test_kills.py)


def test_a_failing_job_says_why_and_leaves_nothing_half_written(finished, tmp_path):
    failing = finished.copy(tmp_path / "failing")
    failing.configure(changed_stage("again", lr=1e30))
    output = failing.run("submission", ok=False)
    assert "stage again: the loss is" in output and "ower this stage's lr" in output
    assert "look at the images of this batch: ['" in output and "Traceback" not in output
    made = {path.name for path in failing[f"{RUN}/fold0/again"].iterdir() if path.is_file()}
    assert not failing[f"{RUN}/fold0/again/.made/checkpoint.safetensors.json"].exists()
    error, log = output.splitlines()[-2:]  # below all that Snakemake has to say
    assert error.startswith("Error: stage again: the loss is") and log == f"Log: {RUN}/logs/fold0/again.train.log"
    assert made <= {"loss.svg", "lr.svg"}  # of the run before, and stale: what trained them is gone
    assert "stage again: the loss is" in failing[f"{RUN}/logs/fold0/again.train.log"].read_text()
    assert failing.leftovers() == []
    failing.configure(CONFIG)
    failing.run("submission")
    assert failing[f"{RUN}/submission.csv"].read_bytes() == finished[f"{RUN}/submission.csv"].read_bytes()


def test_without_test_images_a_run_ends_at_evaluate(tmp_path):
    checkout = Checkout.new(tmp_path / "checkout", test=0)
    config = changed(recipe=[{"name": "head", "size": 32, "train": "head", "augment": False, "lr": 0.02}])
    del config["data"]["sample_submission"]
    checkout.configure(config)
    output = checkout.run("submission", ok=False)
    assert "has no test images" in output and "ask for `evaluate` instead" in output
    assert not checkout["results"].exists()
    checkout.run("evaluate")
    assert json.loads(checkout[f"{RUN}/metrics.json"].read_text())["final"]["images"] == 6
    assert checkout[f"{RUN}/report.html"].exists() and not checkout[f"{RUN}/submission.csv"].exists()
    assert checkout.planned("evaluate") == {}


def test_a_wrong_config_is_refused_before_anything_runs(copy):
    wrong = {**CONFIG, "tta": {"veiws": 2}}
    copy["other.yaml"].write_text(yaml.safe_dump(wrong), encoding="utf-8")
    output = copy.run("submission", "--dry-run", "--configfile", "other.yaml", ok=False)
    assert "other.yaml: tta.veiws" in output and "did you mean views" in output and "Traceback" not in output
