"""Twins by bytes and by eye, with leaks and contradictions, against brute force."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import TINY, run_in_this_process
from PIL import Image

from eightfold.inputs import dataset
from eightfold.raw import duplicates
from eightfold.raw.images import thumbnail


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(2, 60), st.integers(0, 8))
def test_pairs_are_those_of_a_comparison_of_all(seed, n, most):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2**63, 5, dtype=np.uint64)
    hashes = base[rng.integers(0, 5, n)]
    for _ in range(3):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, n).astype(np.uint64))
    found = {(a, b): apart for a, b, apart in duplicates.near_pairs(hashes, most)}
    first = {value: row for row, value in reversed(list(enumerate(hashes.tolist())))}
    expected = {}
    for a in range(n):
        for b in range(a + 1, n):
            apart = (int(hashes[a]) ^ int(hashes[b])).bit_count()
            both_first = first[int(hashes[a])] == a and first[int(hashes[b])] == b
            if apart <= most and (both_first or (apart == 0 and first[int(hashes[a])] == a)):
                expected[a, b] = apart
    assert found == expected


def draw_image(seed: int, side: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def test_twins_leaks_and_contradictions_are_listed_and_others_are_not():
    again = np.asarray(Image.fromarray(draw_image(0)).resize((48, 40)).resize((64, 64)))  # as saved again, smaller
    brighter = np.clip(draw_image(1).astype(int) + 3, 0, 255).astype(np.uint8)
    images = [draw_image(0), draw_image(1), draw_image(2), draw_image(3), again, brighter, draw_image(2)]
    images += [
        np.full((8, 8, 3), 10, np.uint8),
        np.full((8, 8, 3), 200, np.uint8),
    ]  # plain: equal hashes, unlike to the eye
    table = pd.DataFrame(
        {
            "id": list("abcdefghi"),
            "split": ["train"] * 4 + ["test", "train", "train", "train", "train"],
            "labels": ["x", "x", "y", "y", "", "y", "y", "x", "y"],
            "sha256": ["0", "1", "2", "3", "4", "5", "2", "7", "8"],
            "status": "ok",
        }
    )
    small = np.stack([thumbnail(Image.fromarray(one)) for one in images])
    pairs = duplicates.find(table, small, 4)
    told = {(row.id_a, row.id_b): (row.kind, row.conflict, row.leak) for row in pairs.itertuples()}
    assert told == {
        ("c", "g"): ("identical", False, False),
        ("a", "e"): ("near", False, True),
        ("b", "f"): ("near", True, False),
    }
    assert duplicates.summary(pairs) == {"identical": 1, "near": 2, "conflict": 1, "leak": 1}
    assert duplicates.find(table.assign(status="unreadable"), small, 4).empty


def test_an_image_saved_again_is_in_the_fold_of_the_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(12):
        image = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((60, 50))
        for quality in (95, 40):
            path = tmp_path / "data" / "train" / "ab"[number % 2] / f"{number}-{quality}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=quality)
    config = {**TINY, "run": "twice", "data": {"source": "folders", "root": "data"}}
    ran = run_in_this_process(config, "results/twice/folds.csv")
    assert ran == ["manifest.py", "duplicates.py", "folds.py"]
    found = dataset.read_folds("results/twice/folds.csv")
    pairs = found.groupby(found["id"].str.extract(r"(\d+)-", expand=False))["fold"]
    assert len(pairs) == 12 and (pairs.nunique() == 1).all() and set(found["fold"]) == {0, 1, 2}
    told = json.loads(Path("results/twice/folds.json").read_text())
    assert told["pairs_apart"] == 0 and json.loads(Path("results/twice/duplicates.json").read_text())["near"] == 12
