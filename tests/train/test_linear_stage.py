"""A linear stage from its files to its record: whose rows it takes, what it answers, and what is said of the choice."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from eightfold.core.files import UserError, file_digest, write_json, write_table
from eightfold.inputs import activations, dataset
from eightfold.train import linear, linear_stage
from eightfold.train.linear_stage import (
    LinearSetting,
    describe_epoch,
    describe_fit,
    fit_layer,
    judge_layer,
    open_linear,
)
from eightfold.train.stage_record import describe_judged

CPU = torch.device("cpu")
CLASSES = ["cat", "dog"]
IMAGES = 40
SETTINGS = {"stage": {"name": "linear"}, "seed": 3, "holds_back": False, "views": [2]}


def values(view):
    """Activations of every image in a view, float32 (images, 6): two clouds that can nearly be told apart."""
    random = np.random.default_rng(view)
    return torch.from_numpy((random.normal(size=(IMAGES, 6)) + (np.arange(IMAGES) % 2)[:, None]).astype(np.float32))


@pytest.fixture
def given(tmp_path):
    """The inputs of the rule: a manifest of 40 images, four folds, and a file of activations in views 0 and 2."""
    columns = {name: [""] * IMAGES for name in dataset.COLUMNS} | {
        name: np.ones(IMAGES, int) for name in dataset.NUMBERS
    }
    columns |= {name: [f"{name}{row}" for row in range(IMAGES)] for name in ("id", "path", "sha256")}
    columns |= {"split": ["train"] * IMAGES, "status": ["ok"] * IMAGES}
    table = pd.DataFrame(columns | {"labels": [CLASSES[row % 2] for row in range(IMAGES)]})[dataset.COLUMNS]
    write_table(tmp_path / "manifest.csv", table)
    info = {"classes": CLASSES, "task": "single", "separator": None, "ordered": False, "reading": {}}
    info["digest"] = dataset.identity(table, info)
    write_json(tmp_path / "manifest.json", info | {"table": file_digest(tmp_path / "manifest.csv")})
    rows = np.arange(IMAGES)
    write_table(tmp_path / "folds.csv", pd.DataFrame({"row": rows, "id": table["id"], "fold": rows // 2 % 4}))
    path = tmp_path / "views_0-2.safetensors"
    activations.write(path, rows, {0: values(0), 2: values(2)}, "made by this test")
    write_json(path.with_suffix(".json"), {"digest": file_digest(path)})
    names = {"manifest": tmp_path / "manifest.csv", "folds": tmp_path / "folds.csv"}
    return SimpleNamespace(activations=[path], activations_identities=[path.with_suffix(".json")], **names)


def opened(train=range(30), valid=range(30, 40), views=(2,), hot=False):
    """A setting without files: inner folds of every fifth row."""
    train, valid, y = np.array(train), np.array(valid, np.int64), np.arange(IMAGES) % 2
    targets = np.eye(2, dtype=np.float32)[y] if hot else y

    def source(rows, view):
        return values(view)[torch.from_numpy(rows)]

    return LinearSetting(source, targets, train, valid, CLASSES, np.arange(len(train)) % 5, views)


def test_the_rows_are_those_of_the_fold_and_the_inner_folds_are_the_jobs_others(given):
    setting = open_linear(given, SETTINGS, "1")
    fold = np.arange(IMAGES) // 2 % 4
    assert setting.valid_rows.tolist() == np.flatnonzero(fold == 1).tolist()
    assert setting.train_rows.tolist() == np.flatnonzero(fold != 1).tolist()
    groups = {tuple(setting.train_rows[setting.inner == inner]) for inner in range(3)}
    assert groups == {tuple(np.flatnonzero(fold == other)) for other in (0, 2, 3)}
    assert setting.targets.tolist() == (np.arange(IMAGES) % 2).tolist() and list(setting.classes) == CLASSES
    assert torch.equal(setting.source(setting.valid_rows, 2), values(2)[setting.valid_rows]) and setting.views == [2]


def test_what_a_later_stage_holds_back_is_not_learned_here_either(given):
    setting, whole = (open_linear(given, SETTINGS | {"holds_back": held}, "all") for held in (True, False))
    assert len(whole.train_rows) == 40 and len(setting.train_rows) == 36 == len(setting.inner)
    assert set(setting.train_rows) < set(whole.train_rows) and len(setting.valid_rows) == 0


def test_damaged_activations_and_a_single_training_image_are_refused(given):
    folds = dataset.read_folds(given.folds)
    write_table(given.folds, folds.assign(fold=np.where(folds["row"] == 7, 0, 1)))
    with pytest.raises(UserError, match="fold 1: 1 training images; at least 2"):
        open_linear(given, SETTINGS, "1")
    write_json(given.activations_identities[0], {"digest": "another"})
    with pytest.raises(UserError, match=r"views_0-2\.safetensors: damaged"):
        open_linear(given, SETTINGS, "0")


def test_the_layer_is_the_fit_to_the_train_rows_in_all_views():
    setting = opened()
    fitted = fit_layer(setting, "linear", CPU)
    views = [values(view)[:30] for view in (0, 2)]
    layer, path = linear.fit(views, setting.targets[:30], 2, setting.inner)
    assert torch.equal(fitted.layer.weight, layer.weight) and fitted.path == path and fitted.seconds > 0


@pytest.mark.parametrize("hot", [False, True])
def test_the_answers_are_those_of_the_plain_view(hot):
    setting = opened(hot=hot)
    layer = fit_layer(setting, "linear", CPU).layer
    judged = judge_layer(setting, layer)
    with torch.no_grad():
        logits = layer(values(0)).double()
    np.testing.assert_allclose(judged.valid_logits, logits[30:], rtol=1e-5, atol=1e-6)
    wanted = torch.from_numpy(setting.targets[:30])
    if hot:
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            logits[:30], wanted.double(), reduction="none"
        ).mean(1)
    else:
        expected = torch.nn.functional.cross_entropy(logits[:30], wanted, reduction="none")
    np.testing.assert_allclose(judged.training_losses, expected, rtol=1e-5, atol=1e-6)
    assert judged.training_view == 0


def test_without_validation_rows_the_loss_on_training_images_is_measured_all_the_same():
    setting = opened(valid=())
    judged = judge_layer(setting, fit_layer(setting, "linear", CPU).layer)
    assert judged.valid_logits.shape == (0, 2) and len(judged.training_losses) == 30
    row = describe_epoch(describe_judged(judged, setting.targets[setting.valid_rows]), 2.5)
    assert row["train_loss"] == pytest.approx(judged.training_losses.mean())
    assert (row["valid_loss"], row["accuracy"], row["seconds"]) == (None, None, 2.5)
    assert list(row) == ["epoch", "cycle", "train_loss", "valid_loss", "accuracy", "seconds"]


def test_the_choice_of_the_strength_is_described():
    setting = opened(train=range(30))._replace(inner=np.array([-1] * 10 + [0, 1, 2, 1] * 5))
    found = describe_fit(setting, linear.Path([1e-3, 1e-2], [0.5, 0.25], 1e-2))
    assert found["lr_source"] == "no rate: fitted to its minimum, C = 0.01 by 3 inner folds" and found["lr"] == []
    assert found["strength"] == {"chosen": 1e-2, "tried": [1e-3, 1e-2], "log_loss": [0.5, 0.25]}
    assert (found["epochs"], found["snapshots"]) == (1, 0)
    unheld = describe_fit(setting, linear.Path([], [], linear.DEFAULT_C))
    assert unheld["lr_source"].endswith("C = 0.001 by no inner folds, so the usual strength")


def test_the_log_has_each_strength_and_the_figures(monkeypatch):
    said = []
    monkeypatch.setattr(linear_stage, "log", SimpleNamespace(info=lambda text, *values: said.append(text % values)))
    fitted = linear_stage.Fitted(None, linear.Path([1e-3, 1e-2], [0.5, 0.25], 1e-2), 1.25)
    judged = {"train_loss_eval": 0.125, "metrics": {"accuracy": 0.75, "log_loss": 0.5}}
    linear_stage.log_fit(fitted, judged)
    linear_stage.log_fit(fitted._replace(path=linear.Path([], [], 1e-3)), judged | {"metrics": {}})
    assert said == [
        "strength C and log loss of inner folds: 1.0e-03 0.5000, 1.0e-02 0.2500; chosen: 1.0e-02",
        "train loss 0.1250, held out: accuracy 0.7500, log_loss 0.5000, 1.2 s",
        "strength C and log loss of inner folds: none could be tried; chosen: 1.0e-03",
        "train loss 0.1250, 1.2 s",
    ]
