"""How much work a job is."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightfold.config.plan import Plan
from eightfold.config.resolve import resolve
from eightfold.config.schedules import batches_of, repeats, stage_epochs, trial_steps
from eightfold.train import lr_finder
from eightfold.upkeep import work
from eightfold.upkeep.work import learned, settings_of, work_of

IMAGES = Counter(labelled=100, test=50)


def plan(**config) -> Plan:
    recipe = [
        {"name": "head", "size": 64, "train": "head", "augment": False},
        {"name": "all", "size": 128, "train": "all", "cycles": 2, "gpus": 2, "snapshots": True},
        {"name": "after", "size": 100, "train": "head", "cycles": 3},
    ]
    model = {"arch": "resnet18", "weights": "none"}
    return Plan(resolve({"data": {"source": "demo"}, "model": model, "recipe": recipe, **config}))


def amount(rule: str, settings: dict, images: Counter = IMAGES, **wildcards: str) -> float:
    return work_of(rule, settings, wildcards, images).amount


def test_pixels_are_counted_as_they_are_packed_and_by_parts():
    whole = 150 * 256**2 * 1.5 / 1e6
    assert amount("pixels", {"short_side": 256}) == pytest.approx(whole)
    assert amount("pixels_part", {"short_side": 256}, part="1_of_3") == pytest.approx(whole / 3)
    assert amount("manifest", {}) == 150 and amount("score", {}) is None


def test_activations_are_the_views_of_the_rows_that_the_rule_computes():
    settings = {"size": 200, "first": 1, "last": 3}
    assert amount("activations", {**settings, "rows": "trainable"}) == pytest.approx(100 * 3 * 0.04)
    given_valid = Counter(labelled=100, test=50, valid=30)
    assert amount("activations", {**settings, "rows": "trainable"}, given_valid) == pytest.approx(70 * 3 * 0.04)
    # The starting trunk sees the test images in the plain view too, a tuned one its own fold's.
    plain = {"size": 200, "first": 0, "last": 0}
    assert amount("activations", {**plain, "rows": "readable"}) == pytest.approx(150 * 0.04)
    assert amount("activations_tuned", {**plain, "rows": "valid"}, fold="0") == pytest.approx(20 * 0.04)
    assert amount("activations_tuned", {**settings, "rows": "train"}, fold="all") == pytest.approx(100 * 3 * 0.04)


def test_a_fold_learns_from_what_it_does_not_hold_out():
    assert learned(IMAGES, "0", 4) == 75 and learned(IMAGES, "all", 4) == 100
    assert learned(Counter(labelled=100, valid=30), "0", 4) == 70


def test_a_prediction_is_a_pass_for_each_trunk_and_view():
    settings = (
        plan().predict_settings()
    )  # the head on the start at 64, two snapshots at 128, the head on the second at 100
    seen = 5 * (64**2 + 2 * 128**2 + 100**2) / 1e6
    assert amount("predict", settings, split="test") == pytest.approx(50 * seen)
    assert amount("predict", settings, split="valid", fold="0") == pytest.approx(20 * seen)


def test_a_stage_is_its_epochs_and_what_judges_each():
    settings = plan().train_settings("all")  # two cycles of one epoch, on two GPUs; 80 images learn and 20 judge
    assert amount("train", settings) == pytest.approx(2 * (80 + 20 / work.BACKWARD) * 128**2 / 1e6 / 2)
    # 80 images in batches of 64 are two, so the least of 100 steps is 50 epochs; a batch is counted whole.
    assert amount("train", plan().train_settings("head")) == 100 * 64


def test_a_finder_is_its_sweep_and_its_trials():
    assert amount("find_lr", plan().find_lr_settings("all")) == 0  # of 4 steps: no sweep
    assert amount("find_lr", plan().find_lr_settings("head")) == (100 + 25 * 100) * 64
    assert work.TRIAL_IMAGES == lr_finder.MOST_TRIAL_IMAGES


def test_a_linear_stage_is_fitted_on_each_view():
    assert amount("fit_linear", {"views": [1, 2]}) == 80 * 3


@given(st.integers(2, 100_000), st.sampled_from(["head", "all", "after"]), st.sampled_from(["train", "find_lr"]))
def test_more_images_are_never_less_work_and_a_stage_of_a_head_is_never_counted_short(labelled, stage, rule):
    made = plan()
    settings = made.train_settings(stage) if rule == "train" else made.find_lr_settings(stage)
    found = [amount(rule, settings, Counter(labelled=n)) for n in (labelled, labelled + 1, 2 * labelled)]
    assert found == sorted(found)
    train = learned(Counter(labelled=labelled), "0")
    batches = batches_of(train, settings["batch_size"])
    if stage != "all" and rule == "train":
        assert found[0] >= train * stage_epochs(settings["stage"]) * repeats(settings["stage"], batches)
    if stage == "head" and rule == "find_lr":
        assert found[0] >= trial_steps(settings["stage"], min(batches, batches_of(work.TRIAL_IMAGES, 64)))


def test_settings_are_those_that_the_rules_depend_on():
    """What `work_of` reads of a planned job is there: nothing is a key that the plan does not have."""
    from eightfold.config.jobs import jobs_of

    made = plan()
    for job in jobs_of(made):
        assert work_of(job.rule, settings_of(made, job), job.wildcards, IMAGES).kind
