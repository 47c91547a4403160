"""Linear stages in a recipe, and the first answer: planned, run for real on tiny images, and its figures."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from inprocess import run_in_this_process
from pipeline import changed, write_images
from sklearn.metrics import log_loss

from eightfold.config.plan import Plan
from eightfold.config.resolve import resolve
from eightfold.core import tensors
from eightfold.core.files import read_json
from eightfold.net import checkpoint_parts, heads, nets, trunks
from eightfold.predict import metrics
from eightfold.review import quick, report_stages

pytestmark = pytest.mark.slow
LINEAR = {"name": "linear", "size": 32, "train": "linear", "augment": False}
HEAD = {"name": "head", "size": 32, "train": "head", "augment": False, "lr": 0.01}
ALL = {"name": "all", "size": 32, "train": "all", "lr": 1e-4}
TINY = changed(recipe=[LINEAR, HEAD])


def plan(*recipe: dict, **keys) -> Plan:
    return Plan(resolve({"data": {"source": "demo"}, "recipe": list(recipe), **keys}))


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A working folder with a few images."""
    write_images(tmp_path / "pictures", each=8, test=3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- the plan


def test_a_stage_goes_on_from_the_nearest_one_that_is_not_linear_or_from_the_one_it_names():
    planned = plan(HEAD, ALL, LINEAR, HEAD | {"name": "later"}, ALL | {"name": "lpft", "from": "linear"})
    assert [planned.previous(name) for name in planned.stages] == [None, "head", None, "all", "linear"]
    assert [planned.trunk_stage(name) for name in planned.stages] == [None, None, "all", "all", "all"]
    back = plan(HEAD, ALL, HEAD | {"name": "back", "from": "head"}, LINEAR | {"from": "head"})
    assert [back.previous(name) for name in back.stages] == [None, "head", "head", None]
    assert [back.trunk_stage(name) for name in back.stages] == [None, None, None, None]


def test_a_linear_stage_has_no_rate_to_find_and_only_its_own_settings():
    planned = plan(LINEAR, LINEAR | {"name": "wide", "augment": True, "cycles": 3, "first_view": 4}, HEAD)
    assert planned.trained_stages == ["head"] and planned.linear_stages == ["linear", "wide"]
    assert planned.fit_linear_settings("linear") == {
        "holds_back": False,
        "device": {"kind": "auto", "precision": "auto"},
        "seed": 0,
        "stage": {"augment": False, "name": "linear", "size": 32, "train": "linear"},
        "views": [],
    }
    assert planned.fit_linear_settings("wide")["views"] == [4, 5, 6]


def test_where_a_stage_goes_on_from_is_none_of_its_settings():
    named = plan(HEAD, ALL | {"from": "head"})
    assert plan(HEAD, ALL).train_settings("all") == named.train_settings("all")


@pytest.mark.parametrize(
    ("stage", "change", "read"),
    [
        (HEAD, {"lr_ratio": 3.0}, False),
        (HEAD, {"ema_decay": 0.5}, False),
        (HEAD, {"ema_decay": 0.5, "averaging": "ema"}, True),
        (ALL, {"lr_ratio": 3.0}, True),
        (ALL, {"ema_decay": 0.5}, False),
    ],
)
def test_what_a_stage_does_not_read_is_none_of_its_settings(stage, change, read):
    before, after = (
        plan(HEAD | {"name": "first"}, {**stage, **keys}).train_settings(stage["name"]) for keys in ({}, change)
    )
    assert (before != after) == read


def test_quick_takes_the_first_linear_stage_on_plain_activations_of_the_starting_trunk_or_plans_one():
    assert plan(HEAD, LINEAR).quick_stage == "linear" and list(plan(HEAD, LINEAR).known) == ["head", "linear"]
    for recipe in ([HEAD, ALL], [HEAD, ALL, LINEAR]):
        planned = plan(*recipe)
        assert planned.quick_stage == "quick" and "quick" not in planned.stages
        assert planned.fit_linear_settings("quick")["stage"]["size"] == 32 and planned.trunk_stage("quick") is None
        # The head reads the very same file.
        assert planned.activations("quick", "0") == planned.activations("head", "0")
    assert plan(HEAD | {"name": "quick"}).quick_stage == "quick_"
    # Random views would take most of the time: it makes the plain one alone, which the stage that learns on them needs too.
    moving = plan(LINEAR | {"augment": True, "cycles": 7}, HEAD)
    assert moving.quick_stage == "quick" and moving.activations("quick", "0") == moving.activations("linear", "0")[:1]


def test_the_plain_activations_of_the_starting_trunk_hold_the_test_images_too():
    planned = plan(HEAD, ALL, LINEAR)
    assert planned.activations_settings(32, 0, 0)["rows"] == "readable"
    assert planned.activations_settings(32, 1, 3)["rows"] == "trainable"
    assert planned.activations_settings(32, 0, 0, "all")["rows"] == "labelled"  # the linear stage trains on it


# ---- a real run


def read(path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_quick_answers_the_samples_rows_and_the_run_goes_on_from_its_files(images):
    scripts = run_in_this_process(TINY, "quick")
    assert scripts.count("activations.py") == scripts.count("fit_linear.py") == 1 and "train.py" not in scripts
    run = images / "results/tiny"
    head, *rows = read(run / "submission_quick.csv")
    assert head == ["image", "rings", "bars"] and [row[0] for row in rows] == ["t2", "t1", "t0"]
    for _, *chances in rows:
        assert sum(map(float, chances)) == pytest.approx(1, abs=1e-6)
    told = read_json(run / "metrics_quick.json")
    assert told["final"]["images"] == 4 and told["stage"] == "linear" and len(told["strengths"]) == 1
    stage = read_json(run / "fold0/linear/stage.json")
    assert told["final"]["log_loss"] == pytest.approx(stage["metrics"]["log_loss"])
    assert stage["strength"]["chosen"] in stage["strength"]["tried"] and stage["snapshots"] == 0
    assert set(tensors.load(run / "fold0/linear/checkpoint.safetensors")) == {"head.weight", "head.bias"}
    assert isinstance(checkpoint_parts.load_head(run / "fold0/linear/checkpoint.safetensors"), heads.LinearHead)
    history = pd.read_csv(run / "fold0/linear/history.csv")
    assert len(history) == 1 and history["valid_loss"][0] == pytest.approx(told["final"]["log_loss"])
    assert len(pd.read_csv(run / "fold0/linear/batches.csv")) == 0
    page = (run / "report_quick.html").read_text(encoding="utf-8")
    assert "the first answer" in page and "submission_quick.csv" in page and "rings" in page
    before = {path: path.read_bytes() for path in (images / "results/cache").rglob("*.safetensors")}
    # The whole recipe needs no other activations of the starting trunk at this size.
    after = run_in_this_process(TINY, "results/tiny/fold0/head/stage.json")
    assert "train.py" in after and before == {
        path: path.read_bytes() for path in (images / "results/cache").rglob("*.safetensors")
    }


def test_a_fit_made_again_is_the_same_bytes(images):
    run_in_this_process(TINY, "results/tiny/fold0/linear/stage.json")
    path = images / "results/tiny/fold0/linear/checkpoint.safetensors"
    first = path.read_bytes()
    path.unlink()
    run_in_this_process(TINY, "results/tiny/fold0/linear/stage.json")
    assert path.read_bytes() == first


def test_all_layers_from_a_linear_stage_keep_a_linear_head_that_has_moved(images):
    lpft = ALL | {"from": "linear"}
    # A random trunk in training mode gives activations a million times as large as those that the layer was fitted to.
    still = changed(recipe=[LINEAR, HEAD, lpft], model={"bn_freeze": True})
    run_in_this_process(still, "results/tiny/fold0/all/stage.json")
    start = tensors.load(images / "results/tiny/fold0/linear/checkpoint.safetensors")
    end = tensors.load(images / "results/tiny/fold0/all/checkpoint.safetensors")
    assert {name for name in end if name.startswith("head.")} == {"head.weight", "head.bias"}
    assert 0 < (end["head.weight"] - start["head.weight"]).abs().max() < 0.1
    assert not (images / "results/tiny/fold0/head").exists()  # which it does not need


def test_a_recipe_for_fine_tuning_that_stops_by_itself_and_ends_with_a_linear_stage(tmp_path, monkeypatch):
    write_images(tmp_path / "pictures", each=16, test=3)
    monkeypatch.chdir(tmp_path)
    until = {"cycles": 3, "until": "over_fitting"}
    options = {"layer_decay": 0.7, "warmup": 0.2, "grad_clip": 1.0, "weight_decay": 0.01, "weight_decay_on": "weights"}
    last = LINEAR | {"name": "last"}
    before = HEAD | {"name": "before"}  # it holds the images back for the two that go on from it
    recipe = [LINEAR, before, HEAD | {"augment": True} | until, ALL | {"optimizer": "adamw"} | options | until, last]
    job = changed(recipe=recipe)
    run_in_this_process(job, "results/tiny/submission.csv", "results/tiny/review/cam_most_incorrect.svg")
    run = tmp_path / "results/tiny/fold0"
    told = {name: read_json(run / name / "stage.json") for name in ("linear", "before", "head", "all", "last")}
    # 24 train images: the stages that `until` concerns learn from nine in ten of them, the linear ones from all.
    assert told["before"]["images"]["train"] == 21 and told["before"]["held_back"]["losses"] == []
    for name in ("head", "all"):
        losses, epochs = told[name]["held_back"]["losses"], told[name]["epochs"]
        assert told[name]["held_back"]["images"] == 3 and told[name]["images"] == {"train": 21, "valid": 8}
        assert len(losses) in (2, 3) and len(told[name]["cycle_ends"]) == np.argmin(losses) + 1
        assert epochs == told[name]["cycle_ends"][-1] <= len(pd.read_csv(run / name / "history.csv"))
    assert told["linear"]["images"]["train"] == told["last"]["images"]["train"] == 24
    blocks = len(
        nets.rate_groups(nets.Net(trunks.trunk_outline("shufflenet_v2_x0_5"), heads.head(2048, 2, 0)), options)
    )
    assert told["all"]["lr"] == pytest.approx([1e-4 * 0.7 ** (blocks - 1 - i) for i in range(blocks)]) and blocks > 10
    # The last one looks through the trunk that was tuned.
    wide = [tensors.load(run / name / "checkpoint.safetensors")["head.weight"] for name in ("linear", "last")]
    assert not np.array_equal(*wide)
    head, kept = told["head"], len(told["head"]["cycle_ends"])
    assert (
        f"The network of cycle {kept} is kept." in report_stages.ending_text(head)
        and report_stages.ending_text(told["last"]) == ""
    )
    assert {row["stage"] for row in read_json(run.parent / "metrics.json")["by_stage"]} == set(told)


def test_a_job_of_several_folds_without_test_images_ends_with_figures(tmp_path, monkeypatch):
    write_images(tmp_path / "pictures", each=8, test=0)
    monkeypatch.chdir(tmp_path)
    job = changed(recipe=[HEAD], split={"use": [0, 1, 2, 3]}, data={"sample_submission": None})
    scripts = run_in_this_process(job, "quick")
    assert "write_submission.py" not in scripts and scripts.count("fit_linear.py") == 4
    run = tmp_path / "results/tiny"
    told = read_json(run / "metrics_quick.json")
    assert told["final"]["images"] == 16 and len(told["folds"]) == 4 and told["stage"] == "quick"
    of_folds = [read_json(run / f"fold{fold}/quick/stage.json") for fold in range(4)]
    losses, counts = zip(*((stage["metrics"]["log_loss"], stage["images"]["valid"]) for stage in of_folds), strict=True)
    assert told["final"]["log_loss"] == pytest.approx(np.average(losses, weights=counts))
    assert not (run / "submission_quick.csv").exists() and "evaluate" in (run / "report_quick.html").read_text()


def test_a_job_that_trains_on_all_images_has_an_answer_and_no_figure(images):
    run_in_this_process(changed(recipe=[LINEAR], split={"use": "all"}), "quick")
    told = json.loads((images / "results/tiny/metrics_quick.json").read_text())
    assert told["final"] == told["baseline"] == {} and len(read(images / "results/tiny/submission_quick.csv")) == 4
    assert "no figure" in (images / "results/tiny/report_quick.html").read_text()


# ---- its figures


def test_the_figures_are_scikit_learns_and_the_baseline_knows_the_shares_alone():
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1], [30, 10])
    chances = random.dirichlet([2, 2], 40)
    prior = np.tile(quick.shares(targets, 2), (40, 1))
    judge = metrics.Judge("log_loss", "single", ["a", "b"])
    told = quick.figures(chances, prior, targets, np.arange(40) % 2, judge)
    assert told["final"]["log_loss"] == pytest.approx(log_loss(targets, chances))
    assert told["final"]["accuracy"] == (chances.argmax(1) == targets).mean()
    assert told["baseline"]["accuracy"] == 0.75
    losses = -np.log(chances[np.arange(40), targets])
    assert told["errors"]["log_loss"] == pytest.approx(losses.std(ddof=1) / 40**0.5)
    assert told["errors"]["accuracy"] == pytest.approx(
        (told["final"]["accuracy"] * (1 - told["final"]["accuracy"]) / 40) ** 0.5
    )
    assert np.mean([fold["log_loss"] for fold in told["folds"]]) == pytest.approx(told["final"]["log_loss"])


def test_a_share_is_never_none_and_sums_to_one():
    assert quick.shares(np.array([0, 0, 2]), 4).tolist() == [2.5 / 5, 0.5 / 5, 1.5 / 5, 0.5 / 5]
    hot = np.array([[1, 0], [1, 0], [1, 1]], np.float32)
    assert quick.shares(hot, 2).tolist() == [3.5 / 4, 1.5 / 4]


def test_the_worst_class_comes_first_with_what_it_is_taken_for():
    targets = np.array([0, 0, 1, 1, 1])
    chances = np.eye(3)[[0, 0, 2, 2, 1]]
    rows = quick.class_rows(chances, targets, ["a", "b", "c"])
    assert [(row["name"], row["images"], row["right"]) for row in rows] == [("b", 3, 1), ("a", 2, 2)]
    assert [row["taken_for"] for row in rows] == [("c", 2), None]
    hot = np.array([[1, 0], [1, 1]], np.float32)
    multi_label = quick.class_rows(np.array([[0.9, 0.8], [0.2, 0.7]]), hot, ["x", "y"])
    assert [(row["name"], row["images"], row["right"]) for row in multi_label] == [("x", 2, 1), ("y", 1, 1)]


def test_a_page_shows_names_as_text():
    evil = "<script>alert(1)</script>"
    told = {"stage": "linear", "task": "single", "final": {}, "errors": {}, "baseline": {}, "folds": []}
    figure = {"accuracy": 0.5, "log_loss": 0.7, "images": 2}
    told |= {"final": figure, "baseline": figure, "errors": {"accuracy": 0.1, "log_loss": 0.1}, "folds": [figure]}
    row = {"name": evil, "images": 2, "right": 1, "share": 0.5, "taken_for": (evil, 1)}
    page = quick.page(evil, told, [row], True)
    assert evil not in page and page.count("&lt;script&gt;") >= 3
