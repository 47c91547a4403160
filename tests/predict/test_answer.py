"""The answer for images to predict: folds combined by hand, a row for what cannot be read, columns by position."""

import numpy as np
import pandas as pd
import pytest
import torch

from eightfold.core import tensors
from eightfold.core.files import UserError, file_digest, write_json, write_text
from eightfold.net import scoring
from eightfold.predict import answer, metrics
from eightfold.predict.ensembles import Blend, Member
from eightfold.predict.evaluation import Job

CLASSES = ["ant", "id"]
TTA = {"average": "arithmetic", "weights": "plain_quarter"}
NETWORKS = [("head", "end"), ("all", "cycle1")]
VIEWS, READABLE = 3, np.array([1, 4])


def blend_of(average="arithmetic", multi_label=False):
    """The first network by its plain view, 0.25; the second by the mean of its views, 0.75; and one that does not answer."""
    members = [Member(*NETWORKS[0]), Member(*NETWORKS[1], VIEWS), Member(*NETWORKS[0], VIEWS)]
    return Blend(members, np.array([0.25, 0.75, 0.0]), average, multi_label)


def logits_of(seed, n=2):
    random = np.random.default_rng(seed)
    return {".".join(name): random.normal(0, 2, (VIEWS, n, 2)).astype(np.float32) for name in NETWORKS}


def by_hand(logits):
    """What `blend_of` answers of a fold's logits, by the definition of each mean."""
    plain = scoring.softmax(logits["head.end"][0])
    views = scoring.softmax(logits["all.cycle1"])
    return 0.25 * plain + 0.75 * (0.25 * views[0] + 0.375 * views[1] + 0.375 * views[2])


def job_of(multi_label=False):
    """Rows 1, 3 and 4 of six are to predict; the others are two of "ant" and one of "id"."""
    splits = ["train", "test", "train", "test", "test", "train"]
    table = pd.DataFrame({"id": list("abcdef"), "split": splits})
    hot = np.array([[1, 0], [0, 0], [1, 1], [0, 0], [0, 0], [0, 1]], np.float32)
    targets = hot if multi_label else np.array([0, -1, 0, -1, -1, 1])
    judge = metrics.Judge("log_loss", "multi" if multi_label else "single", CLASSES)
    return Job(table, "digest", targets, CLASSES, multi_label, judge)


def predicted(folder, number):
    """A fold's file of predictions, and its logits."""
    path, logits = folder / f"{number}.safetensors", logits_of(number)
    tensors.save(path, {"rows": torch.tensor(READABLE), **{k: torch.tensor(v) for k, v in logits.items()}}, "id")
    write_json(path.with_suffix(".json"), {"digest": file_digest(path)})
    return path, logits


# ---- folds


def test_networks_of_folds_are_combined_as_their_means_are_defined():
    folds = [logits_of(seed) for seed in range(3)]
    expected = np.mean([by_hand(logits) for logits in folds], 0)
    np.testing.assert_allclose(answer.combine_networks(folds, blend_of().used(), TTA, 1.0), expected)
    cooled = answer.combine_networks(folds, blend_of().used(), TTA, 2.0)
    np.testing.assert_allclose(cooled, expected**0.5 / (expected**0.5).sum(1, keepdims=True))
    np.testing.assert_allclose(answer.combine_networks(folds[:1], blend_of().used(), TTA, 1.0), by_hand(folds[0]))


@pytest.mark.parametrize("multi_label", [False, True])
def test_no_images_have_an_answer_without_rows(multi_label):
    none = [logits_of(seed, 0) for seed in range(2)]
    found = answer.combine_networks(none, blend_of("geometric", multi_label).used(), TTA, 2.0)
    assert found.shape == (0, 2)
    assert metrics.decide(found, CLASSES, multi_label).shape == ((0, 2) if multi_label else (0,))


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_geometric_mean_of_folds_is_the_mean_of_the_log_odds(multi_label):
    p = np.random.default_rng(0).uniform(0.05, 0.95, (3, 5, 1))
    folds = [np.concatenate([column, 1 - column], 1) for column in p]  # of two classes either rule gives the same
    odds = np.mean([np.log(fold / (1 - fold)) for fold in folds], 0)
    found = answer.combine_folds(folds, blend_of("geometric", multi_label), 1.0)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-odds)))


# ---- rows


def test_what_cannot_be_read_gets_the_shares_of_the_classes_among_the_labelled():
    found = answer.answer_every_row(job_of(), READABLE, np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert found.rows.tolist() == [1, 3, 4] and found.unreadable == ["d"]
    np.testing.assert_allclose(found.probabilities, [[0.9, 0.1], [2 / 3, 1 / 3], [0.2, 0.8]])
    tags = answer.answer_every_row(job_of(multi_label=True), READABLE[:0], np.empty((0, 2)))
    assert tags.unreadable == ["b", "d", "e"] and tags.probabilities.dtype == np.float64
    np.testing.assert_allclose(tags.probabilities, np.full((3, 2), 2 / 3))


def test_test_images_get_the_mean_of_the_folds_and_of_the_runs_that_answer(tmp_path):
    paths, folds = zip(*(predicted(tmp_path, number) for number in range(2)), strict=True)
    expected = np.mean([by_hand(logits) for logits in folds], 0)
    settings = {"tta": TTA, "runs": [str(tmp_path / "other"), str(tmp_path / "idle")]}
    found = answer.answer_test_images(job_of(), blend_of(), paths, settings, 1.0)
    np.testing.assert_allclose(found.probabilities[[0, 2]], expected, rtol=1e-6)
    assert found.unreadable == ["d"]
    # With a run of weight; the idle one has none, so that its files are not asked for.
    write_text(tmp_path / "other" / "predictions" / "test.csv", "id,ant,id\ne,0.5,0.5\nd,0,1\nb,1,0\n")
    write_json(tmp_path / "other" / "metrics.json", {"manifest": "digest"})
    three = blend_of()
    members = [*three.members, Member(None, "other"), Member(None, "idle")]
    wider = Blend(members, np.array([0.125, 0.375, 0, 0.5, 0]), "arithmetic", False)
    found = answer.answer_test_images(job_of(), wider, paths, settings, 1.0)
    other = np.array([[1, 0], [0.5, 0.5]])
    np.testing.assert_allclose(found.probabilities[[0, 2]], (expected + other) / 2, rtol=1e-6)
    paths[1].write_bytes(paths[0].read_bytes())
    with pytest.raises(UserError, match=r"1\.safetensors: damaged"):
        answer.answer_test_images(job_of(), blend_of(), paths, settings, 1.0)


def test_without_test_images_there_is_an_answer_without_rows():
    job = job_of()
    job = job._replace(table=job.table.assign(split="train"), targets=np.zeros(6, int))
    found = answer.answer_test_images(job, blend_of(), [], {"tta": TTA, "runs": []}, 1.0)
    assert found.probabilities.shape == (0, 2) and found.unreadable == [] and not len(found.rows)


# ---- the table


def test_columns_stand_by_position_whatever_the_classes_are_called():
    table = answer.tabulate({"id": ["x", "y"], "label": ["id", "ant"]}, np.array([[0.25, 0.75], [1, 0]]), CLASSES)
    assert table.to_csv(index=False) == "id,label,ant,id\nx,id,0.25,0.75\ny,ant,1.0,0.0\n"
    empty = answer.tabulate({"id": []}, np.empty((0, 2)), CLASSES)
    assert empty.to_csv(index=False) == "id,ant,id\n"
