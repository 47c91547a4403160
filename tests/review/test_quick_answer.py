"""The first answer from the linear stage's files: who held out what, what the training rows alone would say, and the test images."""

import numpy as np
import pandas as pd
import pytest
import torch

from eightfold.core import tensors
from eightfold.core.files import UserError
from eightfold.inputs import activations
from eightfold.net import scoring
from eightfold.predict import metrics
from eightfold.predict.evaluation import Job
from eightfold.review import quick

CLASSES = ["ant", "bee", "cat"]
FOLDS = pd.DataFrame({"row": [0, 2, 3, 5, 6], "id": list("acdfg"), "fold": [0, 1, 0, 1, 2]})


def job_of(multi_label=False):
    """Rows 0, 2, 3, 5 and 6 are labelled; 1 and 7 are to predict, and 4, which cannot be read."""
    test, n = [1, 4, 7], 8
    table = pd.DataFrame({"id": list("abcdefgh"), "split": ["test" if i in test else "train" for i in range(n)]})
    table["status"] = ["unreadable" if i == 4 else "ok" for i in range(n)]
    targets = np.array([0, -1, 1, 1, -1, 2, 1, -1])
    if multi_label:
        targets = np.eye(4, 3, dtype=np.float32)[targets]
    judge = metrics.Judge("log_loss", "multi" if multi_label else "single", CLASSES)
    return Job(table, "digest", targets, CLASSES, multi_label, judge)


@pytest.fixture
def stages(tmp_path):
    """Folds 1 and 0, in this order: (records, paths, logits of rows 2, 5, 0, 3)."""
    logits = np.random.default_rng(0).normal(0, 1, (4, 3)).astype(np.float32)
    records, paths = [], []
    for fold, rows, of_rows in (("1", [2, 5], logits[:2]), ("0", [0, 3], logits[2:])):
        paths.append(tmp_path / f"{fold}.safetensors")
        tensors.save(paths[-1], {"rows": torch.tensor(rows), "logits": torch.tensor(of_rows)}, f"made of {fold}")
        records.append({"fold": fold, "made_from": f"made of {fold}", "strength": {"chosen": 10.0 ** -int(fold)}})
    return records, paths, logits


def test_each_held_out_image_has_its_folds_answer_and_the_shares_of_what_that_fold_trained_on(stages):
    records, paths, logits = stages
    found = quick.read_held_out(records, paths, FOLDS, job_of())
    np.testing.assert_allclose(found.probabilities, scoring.softmax(logits))
    assert found.targets.tolist() == [1, 2, 0, 1] and found.fold.tolist() == [0, 0, 1, 1]
    # Fold 1 trained on classes 0, 1, 1; fold 0 on 1, 2, 1; half an image is added to each class.
    np.testing.assert_allclose(found.prior, np.repeat([[1.5, 2.5, 0.5], [0.5, 2.5, 1.5]], 2, 0) / 4.5)
    with pytest.raises(UserError):
        quick.read_held_out([{**records[0], "made_from": "something else"}], paths[:1], FOLDS, job_of())


@pytest.mark.parametrize("multi_label", [False, True])
def test_test_images_get_the_mean_of_the_heads_and_what_cannot_be_read_the_prior(tmp_path, multi_label):
    random, heads = torch.Generator().manual_seed(0), []
    pooled = torch.randn(7, 4, generator=random)  # of all rows that can be read
    rows = np.array([0, 1, 2, 3, 5, 6, 7])
    activations.write(tmp_path / "plain", rows, {0: pooled}, "id")
    layers = [(torch.randn(3, 4, generator=random), torch.randn(3, generator=random)) for _ in range(2)]
    for number, (weight, bias) in enumerate(layers):
        heads.append(tmp_path / f"head{number}")
        tensors.save(heads[-1], {"head.weight": weight, "head.bias": bias}, "id")
    job = job_of(multi_label)
    found = quick.answer_test_images(job, heads, tmp_path / "plain")
    assert found.rows.tolist() == [1, 4, 7] and found.unreadable == ["e"]
    of_heads = [pooled[[1, 6]].numpy() @ weight.numpy().T + bias.numpy() for weight, bias in layers]
    p = np.mean([1 / (1 + np.exp(-z)) if multi_label else np.exp(z) / np.exp(z).sum(1)[:, None] for z in of_heads], 0)
    np.testing.assert_allclose(found.probabilities[[0, 2]], p, rtol=1e-5)
    np.testing.assert_allclose(found.probabilities[1], [0.2, 0.6, 0.2])


def test_without_test_images_no_file_is_read():
    job = job_of()
    job = job._replace(table=job.table.assign(split="train"), targets=np.zeros(8, int))
    found = quick.answer_test_images(job, [], "not there")
    assert found.probabilities.shape == (0, 3) and found.unreadable == []


def test_the_record_names_the_data_the_strengths_and_the_unreadable_test_images(stages):
    records, paths, logits = stages
    held_out = quick.read_held_out(records, paths, FOLDS, job_of())
    answer = quick.Answer(np.array([4]), np.ones((1, 3)), ["e"])
    found = quick.collect(job_of(), "linear", records, held_out, answer)
    assert found["strengths"] == [0.1, 1.0] and found["unreadable_test_images"] == ["e"]
    assert (found["manifest"], found["stage"], found["task"], found["metric"]) == (
        "digest",
        "linear",
        "single",
        "log_loss",
    )
    losses = -np.log(scoring.softmax(logits)[range(4), [1, 2, 0, 1]])
    assert found["final"]["log_loss"] == pytest.approx(losses.mean())
    assert [fold["log_loss"] for fold in found["folds"]] == pytest.approx([losses[:2].mean(), losses[2:].mean()])
    none = answer._replace(rows=np.empty(0, int), unreadable=[])
    assert "unreadable_test_images" not in quick.collect(job_of(), "linear", records, held_out, none)
