"""Networks compared, and a run of several networks put together, through the real rules."""

import json
from pathlib import Path

import miniatures
import numpy as np
import pandas as pd
import pytest
from inprocess import TINY, run_in_this_process

from eightfold.core import tensors

HEAD = {"name": "head", "size": 64, "train": "head", "augment": False}
ALL = {"name": "all", "size": 64, "train": "all", "lr": 0.01}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    miniatures.write("dogs_vs_cats", tmp_path / "data")
    model = {"arch": "squeezenet1_1", "weights": "none"}
    linear = {"name": "linear", "size": 64, "train": "linear", "augment": False}
    return {**TINY, "run": "race", "data": {"source": "folders", "root": "data"}, "model": model} | {
        "split": {"use": [0]},
        "recipe": [linear, HEAD],
    }


def test_networks_are_compared_by_what_a_run_of_each_would_fit(config, tmp_path):
    compared = {**config, "trunks": ["shufflenet_v2_x0_5=none", "squeezenet1_1+shufflenet_v2_x0_5"]}
    run_in_this_process(compared, "results/race/trunks.html")
    rows = pd.read_csv("results/race/trunks.csv")
    assert set(rows["network"]) == {"squeezenet1_1", "shufflenet_v2_x0_5", "squeezenet1_1+shufflenet_v2_x0_5"}
    assert list(rows["log_loss"]) == sorted(rows["log_loss"])
    width = rows.set_index("network")["width"]
    assert width["squeezenet1_1+shufflenet_v2_x0_5"] == width["squeezenet1_1"] + width["shufflenet_v2_x0_5"]
    assert "the best in a config: model:" in (tmp_path / "results/race/trunks.txt").read_text()
    alone = {**config, "run": "other", "model": {"arch": "shufflenet_v2_x0_5", "weights": "none"}}
    run_in_this_process(alone, "results/other/fold0/linear/stage.json")
    own, other = (
        tensors.load(path)["logits"]
        for path in (
            "results/race/trunks/shufflenet_v2_x0_5/fold0/valid.safetensors",
            "results/other/fold0/linear/valid.safetensors",
        )
    )
    assert np.array_equal(own, other)


def test_a_run_of_several_networks_trains_predicts_and_explains(config):
    together = {**config, "model": {"arch": ["squeezenet1_1", "shufflenet_v2_x0_5"], "weights": "none"}}
    together |= {"recipe": [*config["recipe"], ALL], "predict": {"images": "data/test"}}
    targets = [
        "results/race/submission.csv",
        "results/race/predict/test/predictions.csv",
        "results/race/review/map.json",
    ]
    ran = run_in_this_process(together, *targets)
    assert {"activations.py", "train.py", "predict.py", "insight.py", "predict_new.py"} <= set(ran)
    record = json.loads(next(Path("results/cache").glob("weights-*/weights.json")).read_text())
    assert record["arch"] == "squeezenet1_1+shufflenet_v2_x0_5" and record["width"] == 2 * (512 + 1024)
