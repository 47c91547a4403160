"""Verdicts on stages, and what they are drawn from: against numpy's own means and errors, and on planted cases."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eightfold.core import tensors
from eightfold.core.files import UserError, write_json
from eightfold.net import scoring
from eightfold.predict import evaluation, evidence, metrics
from eightfold.review import report_stages
from eightfold.review.verdicts import TITLES, stage_of, verdict, verdicts, weights_by_stage

N = 400


def stage(name="all", fold="0", rows=None, logits=None, epochs=(), train=0.1, train_se=0.01, **more):
    """A stage as `evidence.read_stage` gives it; epochs: the losses of the rows after each."""
    rows = np.arange(N) if rows is None else rows
    logits = np.zeros((len(rows), 2), np.float32) if logits is None else logits
    losses = np.stack(epochs).astype(np.float32) if len(epochs) else np.empty((0, len(rows)), np.float32)
    told = {
        "stage": name,
        "fold": fold,
        "train": "all",
        "epochs": len(losses),
        "cycle_ends": [],
        "train_loss_eval": train,
    }
    told |= {"train_loss_eval_se": train_se, "train_images_evaluated": 1000, "train_view_evaluated": 0}
    return told | {"rows": rows, "logits": logits, "losses": losses} | more


def logits_for(losses, targets):
    """Two-class logits whose losses are these: log(1 + exp(-margin)) = loss."""
    margin = -np.log(np.expm1(losses))
    return np.where(np.eye(2)[targets] > 0, margin[:, None], 0.0)


def row(loss, train, epochs=3, error=0.01, train_error=0.01, since=None, last=None, before=None, images=1000):
    """A row of `evidence.of_run`, of losses alone. since, last, before: (by, error)."""
    pair = {
        name: value and dict(zip(("by", "error"), value, strict=True))
        for name, value in (("since", since), ("last", last))
    }
    return {
        "stage": "all",
        "epochs": epochs,
        "images": images,
        "figures": {"log_loss": loss},
        "errors": {"log_loss": error},
        "training": train and {"log_loss": train, "error": train_error, "images": 1000, "view": 0},
        "since_best": pair["since"] and pair["since"] | {"epochs": [1]},
        "last_cycle": pair["last"],
        "before": before and {"stage": "head", "log_loss": dict(zip(("by", "error"), before, strict=True))},
    }


@pytest.mark.parametrize(
    ("case", "history", "kind", "says"),
    [
        # The two are alike and the loss still fell.
        (row(0.50, 0.50, last=(-0.05, 0.01)), [0.8, 0.6], "under-fitting", "fell by 0.05 ± 0.01"),
        # Known images cost a fifth of new ones.
        (row(0.30, 0.06), [0.5, 0.2], "over-fitting", "more than half"),
        # The same, but new images still gain: it was not trained too much.
        (row(0.30, 0.06, last=(-0.05, 0.01)), [0.5, 0.2], "balanced", "fell by 0.05 ± 0.01"),
        # It has been better, and its own images are known better.
        (row(0.30, 0.20, since=(0.1, 0.02)), [0.5, 0.3], "over-fitting", "after epoch 1 and has risen by 0.1 ± 0.02"),
        # It has been better, and its own images are not better known: the steps were too large.
        (row(0.65, 0.64, since=(0.4, 0.05)), [0.9, 0.8], "diverged", "too large"),
        # Gone astray: worse on plain training images without dropout than in training.
        (row(0.90, 0.42, since=(0.4, 0.05)), [0.5, 0.2], "diverged", "too large"),
        (row(0.90, 0.42), [0.5, 0.2], "unknown", "BatchNorm"),
        # The best epoch is chosen afterwards: two errors are not enough.
        (row(0.30, 0.29, since=(0.05, 0.02)), [0.4, 0.35], "balanced", "small gap"),
        (row(0.30, 0.25), [0.4, 0.35], "balanced", "small gap"),
        # Too few images for either word.
        (row(0.30, 0.15, error=0.1, images=20), [0.5, 0.3], "unknown", "20 validation images are too few"),
        # Next to nothing, however many times the other.
        (row(0.012, 0.002, error=0.001, train_error=0.001), [0.1, 0.05], "balanced", "small gap"),
        (row(0.30, 0.05, epochs=1), [0.3], "unknown", "One epoch"),
        (row(0.30, None), [0.3, 0.2], "unknown", "not measured"),
        (row(float("inf"), 0.1), [0.3, 0.2], "diverged", "not a number"),
        # Worse than the class shares on its own images.
        (row(3.3, 3.2, error=0.1, train_error=0.1), [0.6, 0.4], "diverged", "lower learning rate"),
        (row(3.3, 3.2, epochs=1, error=0.1, train_error=0.1), [0.4], "diverged", "lower learning rate"),
        (row(0.80, 0.78), [0.95, 0.9], "under-fitting", "hardly begun"),
        # The stage before was better: whatever else there is to say, that comes first.
        (row(0.20, 0.02, before=(0.05, 0.02)), [0.3, 0.1], "worse", "0.05 ± 0.02 more than after head"),
        (row(0.20, 0.18, before=(0.02, 0.05)), [0.3, 0.25], "balanced", "small gap"),
        (row(0.20, 0.18, epochs=1, before=(0.05, 0.02)), [0.3], "worse", "more than after head"),
    ],
)
def test_a_planted_case_gets_its_verdict(case, history, kind, says):
    found = verdict(case, None, history, baseline=0.69)
    assert found["kind"] == kind and says in found["text"] and found["text"].endswith(".")
    assert found["title"] == TITLES[kind] and not found["undone"]


def test_a_stage_that_selection_left_out_is_undone_only_where_it_did_harm():
    case = row(0.20, 0.10, before=(0.05, 0.02))
    undone = verdict(case, None, [0.3, 0.2], 0.69, undone=True)
    assert undone["title"] == "Worse than the stage before, undone" and "none of its networks" in undone["text"]
    good = verdict(row(0.30, 0.25), None, [0.4, 0.35], 0.69, undone=True)
    assert not good["undone"] and "none of its" not in good["text"]
    rows = [row(0.15, 0.1) | {"stage": "head"}, case]
    weighed = {
        weight: verdicts(rows, {}, 0.69, {"head": 1 - weight, "all": weight})["all"]["undone"] for weight in (0, 0.4)
    }
    assert weighed == {0: True, 0.4: False} and not verdicts(rows, {}, 0.69, None)["all"]["undone"]


@pytest.mark.parametrize(
    ("train", "says"),
    [(0.02, "learns its images by heart"), (0.3, "steps were too large"), (0.1, "better than head")],
)
def test_a_worse_stage_says_which_way_its_training_loss_went(train, says):
    found = verdict(row(0.4, train, before=(0.2, 0.02)), row(0.2, 0.1), [0.3, 0.2], 0.69)
    assert found["kind"] == "worse" and says in found["text"]


@settings(max_examples=200, deadline=None)
@given(
    loss=st.floats(0.001, 20),
    train=st.floats(0.001, 20),
    by=st.floats(-2, 2),
    rise=st.floats(0, 5),
    last=st.floats(0.001, 5),
    epochs=st.integers(1, 9),
)
def test_what_diverged_is_never_called_over_fitting(loss, train, by, rise, last, epochs):
    """A network that does worse on its own training images than before or than in training has not learned them by heart."""
    case = row(loss, train, epochs, since=(rise, 0.02) if epochs > 1 else None, last=(by, 0.02), before=(by, 0.02))
    found = verdict(case, row(0.2, 0.1), [1.0, last], 0.69)
    if found["kind"] == "over-fitting":
        assert epochs > 1 and train < loss and train <= last + 0.02 and train <= 0.69 + 0.02
    if epochs == 1:
        assert found["kind"] in ("worse", "diverged", "unknown")


# ---- what they are drawn from


def test_a_difference_between_stages_is_paired_as_scipy_has_it():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, N)
    hard = rng.gamma(1.0, 0.3, N) + 0.01  # what an image costs either network
    first, second = hard, hard * 0.9 + rng.normal(0, 0.01, N).clip(-0.005)
    stages = [stage("head", logits=logits_for(first, targets)), stage("all", logits=logits_for(second, targets))]
    head, whole = evidence.of_run(stages, targets)
    test = stats.ttest_rel(second, first)
    change = whole["before"]["log_loss"]
    assert head["before"] is None and whole["before"]["stage"] == "head"
    assert change["by"] == pytest.approx((second - first).mean(), rel=1e-6)
    assert change["by"] / change["error"] == pytest.approx(test.statistic, rel=1e-6)
    assert change["error"] < np.hypot(head["errors"]["log_loss"], whole["errors"]["log_loss"]) / 5
    assert whole["errors"]["log_loss"] == pytest.approx(stats.sem(second))
    assert whole["figures"]["log_loss"] == pytest.approx(second.mean())


def test_folds_count_together_each_row_once():
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, N)
    losses, parts = rng.gamma(1.0, 0.3, N) + 0.01, np.array_split(rng.permutation(N), 5)
    logits = logits_for(losses, targets)
    folds = [
        stage(fold=str(k), rows=part, logits=logits[part], epochs=[losses[part] + 1, losses[part]], train=0.1 * k)
        for k, part in enumerate(parts)
    ]
    everything = stage(fold="all", rows=np.arange(0))
    (found,) = evidence.of_run([*folds, everything], targets)
    assert found["images"] == N and found["folds"] == list("01234")
    assert found["figures"]["log_loss"] == pytest.approx(losses.mean())
    assert found["errors"]["log_loss"] == pytest.approx(stats.sem(losses))
    assert found["training"]["log_loss"] == pytest.approx(0.2) and found["training"]["error"] == pytest.approx(0.01)
    assert found["last_cycle"]["by"] == pytest.approx(-1) and found["since_best"]["by"] == pytest.approx(0, abs=1e-6)


def test_inside_a_stage_the_best_epoch_and_the_cycle_before_are_found():
    rng = np.random.default_rng(2)
    targets, base = rng.integers(0, 2, N), rng.gamma(1.0, 0.3, N) + 0.3
    epochs = [base + level for level in (0.5, -0.2, 0.4, 0.1)]  # cycles end after epochs 1, 2 and 4
    final = stage(logits=logits_for(epochs[-1], targets), epochs=epochs, cycle_ends=[1, 2, 4])
    (found,) = evidence.of_run([final], targets)
    assert found["since_best"]["epochs"] == [2] and found["since_best"]["by"] == pytest.approx(0.3)
    assert found["last_cycle"]["by"] == pytest.approx(0.3)
    (of_one_cycle,) = evidence.of_run([final | {"cycle_ends": [4]}], targets)
    assert of_one_cycle["last_cycle"]["by"] == pytest.approx(-0.3)
    (of_one_epoch,) = evidence.of_run([final | {"losses": final["losses"][:1], "epochs": 1}], targets)
    assert of_one_epoch["last_cycle"] is None and of_one_epoch["since_best"] is None


def test_other_rows_are_not_compared_and_nothing_measured_is_none():
    targets = np.arange(N) % 2
    stages = [stage("head"), stage("all", rows=np.arange(N - 1), train=None)]
    assert evidence.of_run(stages, targets)[1]["before"] is None
    assert evidence.of_run(stages, targets)[1]["training"] is None
    assert evidence.of_run([stage(rows=np.arange(0))], targets) == []
    assert scoring.mean_and_error(np.array([2.0])) == (2.0, None)


@pytest.mark.parametrize("several", [False, True])
def test_losses_and_right_answers_of_rows_have_the_means_that_are_reported(several):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (50, 4))
    targets = rng.integers(0, 2, (50, 4)).astype(np.float32) if several else rng.integers(0, 4, 50)
    chances = scoring.probabilities_of(logits, several)
    tensor, truth = torch.tensor(logits), torch.tensor(targets)
    of_torch = torch.nn.functional.binary_cross_entropy_with_logits if several else torch.nn.functional.cross_entropy
    expected = of_torch(tensor, truth.double() if several else truth, reduction="none").numpy()
    np.testing.assert_allclose(scoring.losses(chances, targets), expected.mean(1) if several else expected, rtol=1e-9)
    assert evidence.correct(chances, targets).mean() == pytest.approx(scoring.accuracy(chances, targets))


def test_a_stage_is_read_with_its_predictions_and_those_of_another_are_refused(tmp_path):
    tensors.save(
        tmp_path / "v", {"rows": torch.arange(3), "logits": torch.zeros(3, 2), "losses": torch.ones(2, 3)}, "me"
    )
    write_json(tmp_path / "s.json", {"stage": "head", "made_from": "me"})
    found = evidence.read_stage(tmp_path / "s.json", tmp_path / "v")
    assert found["stage"] == "head" and found["losses"].shape == (2, 3)
    write_json(tmp_path / "s.json", {"stage": "head", "made_from": "other"})
    with pytest.raises(UserError):
        evidence.read_stage(tmp_path / "s.json", tmp_path / "v")


# ---- what selection gave a stage


def test_a_member_belongs_to_the_stage_that_its_name_begins_with():
    stages = ["all", "all_224", "head"]
    assert stage_of("all_224, snapshot 2", stages) == "all_224" and stage_of("all", stages) == "all"
    assert stage_of("all snapshot 1", stages) == "all" and stage_of("allspice, view 1", stages) is None
    names = {"head, view 1": 0.25, "head": 0.25, "run b": 0.5, "all, plain view": 0.0}
    members = [{"member": name, "weight": weight} for name, weight in names.items()]
    assert weights_by_stage(members, stages) == {"all": 0, "all_224": 0, "head": 0.5}
    assert weights_by_stage(members[:3], stages) is None  # of one stage alone: nothing was chosen among stages
    assert weights_by_stage([{"member": "snapshot 1, plain view", "weight": 1}], stages) is None


# ---- the baseline


def test_the_baseline_answers_each_row_with_what_its_fold_trained_on():
    rng = np.random.default_rng(4)
    targets = rng.choice(3, 60, p=[0.6, 0.3, 0.1])
    labelled, rows = np.arange(60), np.arange(40)  # the last twenty always train
    fold = rows % 4
    judge = metrics.Judge("roc_auc", "single", ["a", "b", "c"])
    found = evaluation.baseline(targets, labelled, rows, fold, judge)
    losses, hits = [], []
    for place, number in zip(rows, fold, strict=True):
        trained_on = [targets[other] for other in labelled if other >= 40 or other % 4 != number]
        losses.append(-np.log(trained_on.count(targets[place]) / len(trained_on)))
        hits.append(targets[place] == max(set(trained_on), key=trained_on.count))
    assert found["log_loss"] == pytest.approx(np.mean(losses)) and found["accuracy"] == pytest.approx(np.mean(hits))
    assert found["class"] == "a" and found["images"] == 40 and "roc_auc" in found


def test_the_baseline_of_several_labels_takes_each_for_itself_and_names_no_class():
    rng = np.random.default_rng(5)
    targets = (rng.random((80, 3)) < [0.8, 0.5, 0.1]).astype(np.float32)
    rows = np.arange(20)
    judge = metrics.Judge("log_loss", "multi", ["a", "b", "c"])
    found = evaluation.baseline(targets, np.arange(80), rows, np.zeros(20, int), judge)
    share, truth = targets[20:].mean(0), targets[:20]
    assert found["log_loss"] == pytest.approx(-(truth * np.log(share) + (1 - truth) * np.log(1 - share)).mean())
    assert found["accuracy"] == pytest.approx(((share > 0.5) == truth).mean()) and found["class"] is None


def test_folds_whose_commonest_classes_differ_name_none():
    targets = np.array([0, 0, 1, 1])
    found = evaluation.baseline(
        targets, np.arange(4), np.arange(4), np.array([0, 0, 1, 1]), metrics.Judge("log_loss", "single", ["a", "b"])
    )
    assert found["class"] is None and found["accuracy"] == 0


def test_the_report_draws_its_verdicts_from_what_was_measured():
    done = [
        {
            "name": name,
            "fold": "0",
            "metrics": {},
            "size": 64,
            "train": "all",
            "epochs": 3,
            "rates": "0.01",
            "history": [{"train_loss": 0.5}, {"train_loss": 0.2}],
        }
        for name in ("head", "all")
    ]
    rows = [row(0.2, 0.15) | {"stage": "head"}, row(0.3, 0.1, before=(0.1, 0.02))]
    members = [{"member": "head, plain view", "weight": 1.0}, {"member": "all, plain view", "weight": 0.0}]
    told = {"final": {"accuracy": 0.9}, "by_stage": rows, "ensemble": {"members": members}}
    found = report_stages.stage_rows(done, json.loads(json.dumps(told)))
    assert [stage["verdict"]["title"] for stage in found] == ["Balanced", "Worse than the stage before, undone"]
    assert [stage["weight"] for stage in found] == [1, 0]
    assert [ending["stage"] for ending in report_stages.endings(found)] == ["all"]
    astray = row(0.9, 0.42, since=(0.4, 0.05)) | {"stage": "head"}
    kinds = [
        report_stages.judged(done, {"by_stage": [astray]}, [{"name": "head", **options}])["head"]["kind"]
        for options in ({}, {"sampler": "balanced"})
    ]
    assert kinds == ["diverged", "over-fitting"]  # of other images than it is evaluated on, a loss says nothing
    assert report_stages.stage_rows(done, {"final": {"accuracy": 0.9}})[0]["verdict"]["text"] == "It was not measured."


@pytest.mark.parametrize(("last", "shown"), [(0.1, ["last"]), (0.25, ["last", "middle"])])
def test_harm_that_a_later_stage_made_good_is_not_on_the_first_page(last, shown):
    kinds = [("first", "balanced", 0.2), ("middle", "worse", 0.4), ("last", "balanced", last)]
    rows = [{"name": name, "verdict": {"kind": kind}, "figures": {"log_loss": loss}} for name, kind, loss in kinds]
    assert [ending["stage"] for ending in report_stages.endings(rows)] == shown


def test_the_same_network_computed_twice_is_not_worse():
    assert verdict(row(0.3, 0.25, before=(2e-9, 1e-9)), None, [0.4, 0.35], 0.69)["kind"] == "balanced"
