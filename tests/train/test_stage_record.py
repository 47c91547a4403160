"""The keys of stage.json that stages of every kind have."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from eightfold.core import software
from eightfold.core.devices import Device
from eightfold.train.stage_record import Judged, describe_judged, describe_stage


def test_a_stage_is_named_with_its_images_and_what_computed_it():
    stage = {"name": "whole", "size": 224, "train": "all", "cycles": 3}
    assert describe_stage(stage, "2", Device(torch.device("cpu"), torch.bfloat16), range(40), range(10)) == {
        "stage": "whole",
        "fold": "2",
        "size": 224,
        "train": "all",
        "precision": "bfloat16",
        "device": "cpu",
        "versions": software.versions(),
        "images": {"train": 40, "valid": 10},
    }


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_figures_are_scikit_learns(multi_label):
    random = np.random.default_rng(0)
    logits, losses = random.normal(size=(30, 3)).astype(np.float32), random.random(8)
    if multi_label:
        wanted = (random.random((30, 3)) < 0.4).astype(np.float32)
        p = 1 / (1 + np.exp(-logits.astype(float)))
        expected = np.mean([log_loss(wanted[:, i], p[:, i]) for i in range(3)])
        right = accuracy_score(wanted.ravel(), (p > 0.5).ravel())
    else:
        wanted = np.arange(30) % 3
        p = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(1, keepdims=True)
        expected, right = log_loss(wanted, p), accuracy_score(wanted, p.argmax(1))
    found = describe_judged(Judged(logits, losses, 3), wanted)
    assert found["metrics"] == pytest.approx({"accuracy": right, "log_loss": expected}, rel=1e-5)
    assert found["train_loss_eval"] == pytest.approx(losses.mean())
    assert found["train_loss_eval_se"] == pytest.approx(losses.std(ddof=1) / 8**0.5)
    assert (found["train_images_evaluated"], found["train_view_evaluated"]) == (8, 3)


def test_what_is_not_measured_is_empty():
    nothing = Judged(np.empty((0, 3), np.float32), np.empty(0), None)
    assert describe_judged(nothing, np.empty(0, np.int64)) == {
        "train_loss_eval": None,
        "train_loss_eval_se": None,
        "train_images_evaluated": 0,
        "train_view_evaluated": None,
        "metrics": {},
    }
