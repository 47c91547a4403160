"""Folds: every labelled row in exactly one, classes even, fastai 0.7's permutation bit for bit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold import folds
from eightfold.files import UserError, write_table

STRATIFIED = {"method": "stratified", "folds": 5}
FASTAI = {"method": "fastai07", "folds": 5}


def table(labels: list[str], splits: list[str] | None = None) -> pd.DataFrame:
    ids = [f"{number:03d}" for number in range(len(labels))]
    return pd.DataFrame({"id": ids, "split": splits or ["train"] * len(labels), "labels": labels})


def info(labels: list[str], separator: str | None = None, valid: int = 0) -> dict:
    names = sorted({name for label in labels for name in (label.split(separator) if separator else [label])} - {""})
    task = "multi" if separator else "single"
    return {"task": task, "classes": names, "separator": separator, "digest": "d", "counts": {"valid": valid}}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from("abcdef"), max_size=200), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_stratified_is_even_in_each_class_and_altogether(labels, count, seed):
    result = folds.stratified(labels, count, seed)
    assert result.shape == (len(labels),)
    for chosen in [np.ones(len(labels), bool), *(np.array(labels) == name for name in set(labels))]:
        sizes = np.bincount(result[chosen], minlength=count)
        assert len(sizes) == count and sizes.max() - sizes.min() <= 1


def test_stratified_depends_on_the_seed_and_on_nothing_else():
    labels = list("aabbbcccc" * 9)
    np.random.seed(1)
    first = folds.stratified(labels, 5, 7)
    np.random.seed(2)
    np.testing.assert_array_equal(first, folds.stratified(labels, 5, 7))
    assert (first != folds.stratified(labels, 5, 8)).any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=120), st.integers(2, 6))
def test_multi_spreads_the_rarest_label_evenly(hot, count):
    hot = np.array(hot)
    result = folds.stratified_multi(hot, count, 3)
    sizes = np.bincount(result, minlength=count)
    assert len(sizes) == count and sizes.max() - sizes.min() <= 1
    rarest = hot.sum(0).argsort(kind="stable")[0]
    if hot[:, rarest].any():
        sizes = np.bincount(result[hot[:, rarest]], minlength=count)
        assert sizes.max() - sizes.min() <= 1


def test_multi_keeps_every_label_near_its_share():
    hot = np.random.default_rng(0).random((2000, 8)) < [0.9, 0.5, 0.4, 0.3, 0.1, 0.05, 0.02, 0.01]
    result = folds.stratified_multi(hot, 5, 0)
    for label in hot.T:
        sizes = np.bincount(result[label], minlength=5)
        assert np.abs(sizes - label.sum() / 5).max() <= 2 + 0.05 * label.sum() / 5


@pytest.mark.parametrize("n", [5, 7, 10, 23, 2000, 10_222])
def test_fastai07_is_the_permutation_sliced(n):
    result = folds.fastai07(n, 5)
    order, held_out = np.random.RandomState(42).permutation(n), int(0.2 * n)
    for fold in range(5):
        expected = order[fold * held_out : (fold + 1) * held_out if fold < 4 else None]
        assert set(np.flatnonzero(result == fold)) == set(expected)


def test_a_fifth_of_n_is_the_same_whichever_way_it_is_computed():
    assert all(int(0.2 * n) == n // 5 for n in range(100_000))


def test_given_valid_folder_is_fold_0():
    frame = table(["a", "b", "a", "b", ""], ["train", "train", "valid", "valid", "test"])
    result = folds.assign(frame, info(["a", "b"], valid=2), STRATIFIED, 0)
    assert result["fold"].tolist() == [-1, -1, 0, 0]
    expected = {"method": "given", "folds": 1, "counts": {"-1": 2, "0": 2}}
    assert folds.summary(result, info(["a", "b"], valid=2), STRATIFIED).items() >= expected.items()
    train, valid = folds.train_valid_rows(result, 0)
    assert (train.tolist(), valid.tolist()) == ([0, 1], [2, 3])


@pytest.mark.parametrize("split", [STRATIFIED, FASTAI])
def test_folds_part_the_labelled_rows_in_the_order_of_the_file(split, tmp_path):
    labels = list("ab" * 12) + [""] * 3
    frame = table(labels, ["train"] * 24 + ["test"] * 3)
    write_table(tmp_path / "folds.csv", folds.assign(frame, info(labels), split, 0))
    result = folds.read_folds(tmp_path / "folds.csv")
    assert result["id"].tolist() == [f"{row:03d}" for row in range(24)]
    held_out = []
    for fold in range(5):
        train, valid = folds.train_valid_rows(result, fold)
        assert (np.diff(train) > 0).all() and (np.diff(valid) > 0).all()
        assert sorted([*train, *valid]) == list(range(24))
        held_out += valid.tolist()
    assert sorted(held_out) == list(range(24))
    train, valid = folds.train_valid_rows(result, "all")
    assert train.tolist() == list(range(24)) and len(valid) == 0
    facts = folds.summary(result, info(labels), split)
    assert facts["folds"] == 5 and sum(facts["counts"].values()) == 24 and facts["method"] == split["method"]


def test_rows_are_those_of_the_manifest_even_if_test_rows_come_first():
    frame = table(["", "", *"ababababab"], ["test"] * 2 + ["train"] * 10)
    assert folds.assign(frame, info(["a", "b"]), FASTAI, 0)["row"].tolist() == list(range(2, 12))


def test_the_digest_follows_folds_and_data():
    labels = list("ab" * 12)
    facts = info(labels)
    first, other = (folds.assign(table(labels), facts, STRATIFIED, seed) for seed in (0, 1))
    digests = [folds.summary(f, i, STRATIFIED)["digest"] for f, i in [(first, facts), (other, facts)]]
    digests.append(folds.summary(first, facts | {"digest": "e"}, STRATIFIED)["digest"])
    assert len(set(digests)) == 3
    assert folds.summary(first, facts, STRATIFIED)["digest"] == digests[0]


def test_class_with_one_picture_is_named_unless_the_method_does_not_look():
    labels = ["a"] * 9 + ["rare class"]
    with pytest.raises(UserError, match=r"(?s)1 classes have one picture.*fastai07.*rare class"):
        folds.assign(table(labels), info(labels), STRATIFIED, 0)
    assert len(folds.assign(table(labels), info(labels), FASTAI, 0)) == 10
    several = ["a", "a b", "a", "a", "a"]
    assert len(folds.assign(table(several), info(several, " "), STRATIFIED, 0)) == 5


def test_more_folds_than_pictures_and_an_unknown_fold_are_errors():
    with pytest.raises(UserError, match=r"split.folds is 5, but there are 4"):
        folds.assign(table(list("aabb")), info(list("ab")), FASTAI, 0)
    result = folds.assign(table(list("aabbb")), info(list("ab")), FASTAI, 0)
    with pytest.raises(UserError, match=r"fold 7 holds out no picture; .*0, 1, 2, 3, 4"):
        folds.train_valid_rows(result, 7)
