"""Folds: every labelled row in exactly one, classes even, fastai 0.7's permutation bit for bit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.core.files import UserError, write_table
from eightfold.inputs import dataset, stratify
from eightfold.raw import folds

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
    result = stratify.stratified(labels, count, seed)
    assert result.shape == (len(labels),)
    for chosen in [np.ones(len(labels), bool), *(np.array(labels) == name for name in set(labels))]:
        sizes = np.bincount(result[chosen], minlength=count)
        assert len(sizes) == count and sizes.max() - sizes.min() <= 1


def test_stratified_depends_on_the_seed_and_on_nothing_else():
    labels = list("aabbbcccc" * 9)
    np.random.seed(1)
    first = stratify.stratified(labels, 5, 7)
    np.random.seed(2)
    np.testing.assert_array_equal(first, stratify.stratified(labels, 5, 7))
    assert (first != stratify.stratified(labels, 5, 8)).any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=120), st.integers(2, 6))
def test_multi_spreads_the_rarest_label_evenly(hot, count):
    hot = np.array(hot)
    result = stratify.stratified_multi(hot, count, 3)
    sizes = np.bincount(result, minlength=count)
    assert len(sizes) == count and sizes.max() - sizes.min() <= 1
    rarest = hot.sum(0).argsort(kind="stable")[0]
    if hot[:, rarest].any():
        sizes = np.bincount(result[hot[:, rarest]], minlength=count)
        assert sizes.max() - sizes.min() <= 1


def test_multi_keeps_every_label_near_its_share():
    hot = np.random.default_rng(0).random((2000, 8)) < [0.9, 0.5, 0.4, 0.3, 0.1, 0.05, 0.02, 0.01]
    result = stratify.stratified_multi(hot, 5, 0)
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
    train, valid = dataset.train_valid_rows(result, 0)
    assert (train.tolist(), valid.tolist()) == ([0, 1], [2, 3])


@pytest.mark.parametrize("split", [STRATIFIED, FASTAI])
def test_folds_part_the_labelled_rows_in_the_order_of_the_file(split, tmp_path):
    labels = list("ab" * 12) + [""] * 3
    frame = table(labels, ["train"] * 24 + ["test"] * 3)
    write_table(tmp_path / "folds.csv", folds.assign(frame, info(labels), split, 0))
    result = dataset.read_folds(tmp_path / "folds.csv")
    assert result["id"].tolist() == [f"{row:03d}" for row in range(24)]
    held_out = []
    for fold in range(5):
        train, valid = dataset.train_valid_rows(result, fold)
        assert (np.diff(train) > 0).all() and (np.diff(valid) > 0).all()
        assert sorted([*train, *valid]) == list(range(24))
        held_out += valid.tolist()
    assert sorted(held_out) == list(range(24))
    train, valid = dataset.train_valid_rows(result, "all")
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


def test_class_with_one_image_is_named_unless_the_method_does_not_look():
    labels = ["a"] * 9 + ["rare class"]
    with pytest.raises(UserError, match=r"(?s)1 classes have one image.*fastai07.*rare class"):
        folds.assign(table(labels), info(labels), STRATIFIED, 0)
    assert len(folds.assign(table(labels), info(labels), FASTAI, 0)) == 10
    several = ["a", "a b", "a", "a", "a"]
    assert len(folds.assign(table(several), info(several, " "), STRATIFIED, 0)) == 5


def test_more_folds_than_images_and_an_unknown_fold_are_errors():
    with pytest.raises(UserError, match=r"split.folds is 5, but there are 4"):
        folds.assign(table(list("aabb")), info(list("ab")), FASTAI, 0)
    result = folds.assign(table(list("aabbb")), info(list("ab")), FASTAI, 0)
    with pytest.raises(UserError, match=r"fold 7 holds out no image; .*0, 1, 2, 3, 4"):
        dataset.train_valid_rows(result, 7)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 14), min_size=30, max_size=150), st.integers(2, 5), st.integers(0, 99), st.booleans())
def test_a_group_never_straddles_folds_and_no_fold_is_empty(groups, count, seed, by_class):
    groups = np.array([*range(15), *groups])
    hot = np.random.default_rng(seed).random((len(groups), 3)) < [0.5, 0.3, 0.1] if by_class else None
    result = stratify.grouped(groups, count, seed, hot)
    assert all(len(set(result[groups == group])) == 1 for group in set(groups))
    assert sorted(set(result)) == list(range(count))


def test_grouped_folds_are_as_even_as_the_groups_allow():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    classes = rng.integers(0, 3, 60)[groups]  # a group is of one class
    sizes = np.bincount(stratify.grouped(groups, 5, 0), minlength=5)
    assert sizes.max() - sizes.min() <= 2
    even = stratify.grouped(groups, 5, 0, np.eye(3)[classes])
    for c in range(3):
        share = np.bincount(even[classes == c], minlength=5) / (classes == c).sum()
        assert np.abs(share - 0.2).max() < 0.06


def test_stratified_groups_are_no_worse_than_scikit_learn_s():
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(3)
    groups = rng.integers(0, 80, 600)
    classes = (rng.random(600) < rng.random(80)[groups]).astype(int)
    theirs = np.empty(600, int)
    for fold, (_, held) in enumerate(
        StratifiedGroupKFold(5, shuffle=True, random_state=0).split(groups, classes, groups)
    ):
        theirs[held] = fold

    def unevenness(result):
        return np.std([[np.sum(classes[result == f] == c) for c in (0, 1)] for f in range(5)], axis=0).sum()

    assert unevenness(stratify.grouped(groups, 5, 0, np.eye(2)[classes])) <= unevenness(theirs) + 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=6, max_size=80), st.integers(2, 5))
def test_iterative_stratification_deals_out_every_row_and_its_rarest_label_evenly(hot, count):
    hot = np.array(hot)
    result = stratify.multilabel_stratified(hot, count, 1)
    assert set(result) <= set(range(count)) and len(result) == len(hot)
    present = hot[:, hot.any(0)]
    if present.size:
        rarest = present[:, present.sum(0).argmin()]
        sizes = np.bincount(result[rarest], minlength=count)
        assert sizes.max() - sizes.min() <= 1
    np.testing.assert_array_equal(result, stratify.multilabel_stratified(hot, count, 1))


def test_iterative_stratification_keeps_every_label_nearer_its_share_than_chance_does():
    rng = np.random.default_rng(0)
    hot = rng.random((1500, 8)) < [0.9, 0.5, 0.4, 0.3, 0.1, 0.05, 0.02, 0.01]

    def worst(result):
        return max(np.abs(np.bincount(result[label], minlength=5) - label.sum() / 5).max() for label in hot.T)

    result = stratify.multilabel_stratified(hot, 5, 0)
    sizes = np.bincount(result)
    assert worst(result) < worst(rng.permutation(1500) % 5) / 3
    assert sizes.max() - sizes.min() <= 8


@settings(deadline=None)
@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=12))
def test_linked_rows_are_named_after_the_first_that_any_chain_reaches(n, pairs):
    pairs = [(a % n, b % n) for a, b in pairs]
    reached = np.eye(n, dtype=bool)
    for a, b in pairs:
        reached[a, b] = reached[b, a] = True
    for _ in range(n):
        reached = reached @ reached
    found = stratify.merged(n, pairs)
    assert found.dtype == np.int64 and found.tolist() == [int(row.argmax()) for row in reached]
    assert stratify.merged(0, []).shape == (0,)


GROUPED = {"method": "grouped", "folds": 3}


def test_images_of_the_same_bytes_share_a_fold_and_join_their_groups():
    labels = list("ab" * 30)
    frame = table(labels).assign(sha256=[f"s{row % 25}" for row in range(60)])
    for method in ("stratified", "multilabel_stratified"):
        result = folds.assign(frame, info(labels), {"method": method, "folds": 5}, 0)
        assert all(len(set(of["fold"])) == 1 for _, of in result.groupby(frame["sha256"].to_numpy()))
        assert set(result["fold"]) == set(range(5))
    groups = [f"g{row // 4}" for row in range(60)]
    frame = frame.assign(group=groups, sha256=["twin" if row in (0, 59) else f"s{row}" for row in range(60)])
    result = folds.assign(frame, info(labels), GROUPED, 0)
    assert all(len(set(of["fold"])) == 1 for _, of in result.groupby(groups))
    assert result["fold"][0] == result["fold"][59]


def test_look_alikes_share_a_fold_and_a_chain_through_a_class_does_not():
    labels = list("ab" * 30)
    near = np.array([[0, 5], [5, 11], [20, 21], [2, 99]])  # 99 is a test image
    frame = pd.concat([table(labels), table([""] * 40, ["test"] * 40)], ignore_index=True)
    groups = [f"g{row // 3}" for row in range(60)] + [""] * 40
    for method in ("stratified", "multilabel_stratified", "grouped", "stratified_grouped"):
        for seed in range(3):
            made = folds.assign(frame.assign(group=groups), info(labels), {"method": method, "folds": 5}, seed, near)
            fold = made["fold"].to_numpy()
            assert fold[0] == fold[5] == fold[11] and fold[20] == fold[21], method
            assert sorted(set(fold)) == list(range(5)) and folds.straddling(made, near) == []
    plain, alike = (folds.assign(frame, info(labels), STRATIFIED, 0, pairs)["fold"] for pairs in (None, near[:0]))
    assert plain.equals(alike)
    chain = np.array([[row, row + 2] for row in range(0, 58, 2)])  # all of class a
    chained = folds.assign(frame, info(labels), STRATIFIED, 0, chain)
    assert chained["fold"].equals(plain)
    told = folds.straddling(chained, chain)
    assert told and " (fold " in told[0]
    few = table(list("aabbbbbbbbbbbb"))  # two of a class that are alike are still two
    made = folds.assign(few, info(list("ab")), {"method": "stratified", "folds": 2}, 0, np.array([[0, 1]]))
    assert made["fold"][0] != made["fold"][1]


def test_exact_folds_are_not_changed_by_look_alikes_but_they_are_told():
    frame, near = table(list("ab" * 6)), np.array([[row, row + 1] for row in range(11)])
    made = folds.assign(frame, info(list("ab")), {"method": "fastai07", "folds": 3}, 0, near)
    assert made["fold"].tolist() == folds.fastai07(12, 3).tolist()
    fold = made["fold"].tolist()
    assert len(folds.straddling(made, near)) == sum(fold[row] != fold[row + 1] for row in range(11)) > 0


def test_groups_that_given_folds_tear_are_named():
    frame = table(list("abab")).assign(group=["north", "south", "north", ""], fold_given=list("0101"))
    split = {"method": "given", "folds": 2}
    assert folds.assign(frame, info(list("ab")), split, 0)["fold"].tolist() == [0, 1, 0, 1]
    for torn in ("0110", "01-10"):
        cells = ["0", "1", "-1", "0"] if "-" in torn else list(torn)
        with pytest.raises(UserError, match=r"(?s)1 groups .data.group. straddle.*data.group away.*north: folds"):
            folds.assign(frame.assign(fold_given=cells), info(list("ab")), split, 0)
    frame = table(list("abab"), ["train", "train", "valid", "valid"]).assign(group=["p", "q", "q", "r"])
    with pytest.raises(UserError, match=r"q: folds -1, 0"):
        folds.assign(frame, info(list("ab"), valid=2), STRATIFIED, 0)
    assert folds.torn_groups(["p", "q", "q", "", ""], np.array([0, 0, 1, 0, 1])) == ["q: folds 0, 1"]


def test_a_users_own_folds_are_taken_as_they_are_or_refused_by_name():
    labels = list("aabbab")
    frame = table(labels).assign(fold_given=["0", "1", "1", "0", "-1", "2"])
    split = {"method": "given", "folds": 5}
    assert folds.assign(frame, info(labels), split, 0)["fold"].tolist() == [0, 1, 1, 0, -1, 2]
    with pytest.raises(UserError, match=r"(?s)1 cells that are not folds.*003: 'train'"):
        folds.assign(frame.assign(fold_given=["0", "1", "1", "train", "-1", "2"]), info(labels), split, 0)
    with pytest.raises(UserError, match="no image is in fold 1"):
        folds.assign(frame.assign(fold_given=list("002220")), info(labels), split, 0)
    with pytest.raises(UserError, match=r"set data\.fold"):
        folds.assign(table(labels), info(labels), split, 0)


def test_groups_that_make_folds_impossible_are_named():
    labels = list("ab" * 10)
    with pytest.raises(UserError, match=r"(?s)split.folds is 3.*2 groups.*north"):
        folds.assign(table(labels).assign(group=["north", "south"] * 10), info(labels), GROUPED, 0)
    with pytest.raises(UserError, match=r"(?s)1 images lack it:.*004"):
        folds.assign(table(labels).assign(group=["g"] * 4 + [""] + ["h"] * 15), info(labels), GROUPED, 0)
    with pytest.raises(UserError, match=r"set data\.group"):
        folds.assign(table(labels), info(labels), GROUPED, 0)


def test_a_class_that_no_fold_in_use_trains_on_is_named():
    labels = ["a"] * 6 + ["b"] * 4 + ["whole class in one patient"] * 2
    frame = table(labels).assign(fold_given=list("010101010100")).assign(fold_given=[*"0101010101", "0", "0"])
    result = folds.assign(frame, info(labels), {"method": "given", "folds": 2}, 0)
    with pytest.raises(UserError, match=r"(?s)1 classes have no image to train on in fold 0.*whole class"):
        folds.check_learned(result, frame, info(labels), ["0"])
    folds.check_learned(result, frame, info(labels), ["0", "1"])
    folds.check_learned(result, frame, info(labels), [])


def test_rare_classes_may_always_train():
    labels = ["a"] * 9 + ["b"] * 9 + ["once", "lone"]
    result = folds.assign(table(labels), info(labels), STRATIFIED | {"rare": "train"}, 0)
    assert result["fold"].tolist()[-2:] == [-1, -1] and (result["fold"][:18] >= 0).all()
