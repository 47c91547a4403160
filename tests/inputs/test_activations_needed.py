"""Which activations a rule computes: of which rows, in which views, and only those that no file holds yet."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from eightfold.core import tensors
from eightfold.core.devices import Device
from eightfold.core.files import UserError, file_digest, write_json, write_table
from eightfold.inputs import activations, activations_needed
from eightfold.inputs.activations_needed import choose_rows, compute_missing, read_earlier
from eightfold.inputs.pixels import Pixels, pack
from eightfold.inputs.sources import Views
from eightfold.net import inference, starting_weights

CPU = Device(torch.device("cpu"), torch.float32)
SETTINGS = {"size": 32, "device": {"kind": "cpu", "precision": "float32"}}
AUGMENTATION = {"preset": "side_on", "crop": "random", "max_zoom": 1.1, "max_rotate": 10, "max_light": 0.05}


@pytest.mark.parametrize(
    ("which", "rows"),
    [
        ("labelled", [0, 1, 2, 3]),
        ("trainable", [0, 1, 3]),
        ("readable", [0, 1, 2, 3, 5]),
        ("train", [0, 3]),
        ("valid", [1, 2]),
    ],
)
def test_the_rows_are_those_that_the_readers_of_the_file_ask_for(tmp_path, which, rows):
    split = ["train", "train", "valid", "train", "test", "test"]
    status = ["ok", "ok", "ok", "ok", "unreadable", "ok"]
    folds = pd.DataFrame({"row": [0, 1, 2, 3], "id": list("abcd"), "fold": [0, 1, 1, -1]})
    write_table(tmp_path / "folds.csv", folds)
    found = choose_rows(which, pd.DataFrame({"split": split, "status": status}), tmp_path / "folds.csv", "1")
    assert found.dtype == np.int64 and found.tolist() == rows


# ---- views that are there already


def written(folder, name, views, identity="me", precision="float32"):
    found = {view: torch.full((3, 4), float(view)) for view in views}
    activations.write(folder / name, np.arange(3), found, identity)
    write_json((folder / name).with_suffix(".json"), {"precision": precision})


def test_views_of_shorter_and_longer_runs_are_taken_and_no_others(tmp_path, caplog):
    written(tmp_path, "32px_views_1-2.safetensors", [1, 2])
    written(tmp_path, "32px_views_4-9.safetensors", range(4, 10))
    written(tmp_path, "64px_views_1-9.safetensors", range(1, 10))  # of another size
    found = read_earlier(tmp_path / "32px_views_1-5.safetensors", range(1, 6), "me", "float32")
    assert sorted(found) == [1, 2, 4, 5]
    assert all((values == view).all() for view, values in found.items())


def test_files_of_another_identity_and_damaged_ones_are_left_alone(tmp_path):
    written(tmp_path, "views_1-1.safetensors", [1], "someone else")
    written(tmp_path, "views_2-2.safetensors", [2])
    (tmp_path / "views_3-3.safetensors").write_bytes(b"half")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(read_earlier(tmp_path / "views_1-3.safetensors", range(1, 4), "me", "float32")) == [2]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_files_of_another_number_format_are_left_alone(tmp_path, caplog):
    written(tmp_path, "views_1-1.safetensors", [1], precision="bfloat16")
    written(tmp_path, "views_2-2.safetensors", [2])
    with caplog.at_level("INFO", "eightfold"):
        found = read_earlier(tmp_path / "views_1-3.safetensors", range(1, 4), "me", "float32")
        assert sorted(found) == [2] and "views_1-1.safetensors was computed in bfloat16" in caplog.text
    assert sorted(read_earlier(tmp_path / "views_1-3.safetensors", range(1, 4), "me", "bfloat16")) == [1]


def test_where_nothing_lies_nothing_is_found(tmp_path):
    assert read_earlier(tmp_path / "not there" / "views_1-3.safetensors", range(1, 4), "me", "float32") == {}


# ---- what is missing


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The inputs of the rule: packed pixels of five images, and a trunk."""
    folder = tmp_path_factory.mktemp("given")
    random = np.random.default_rng(0)
    pack(folder / "pixels", [random.integers(0, 256, (36, 36 + n, 3), np.uint8) for n in range(5)])
    trunk, mean, std = starting_weights.pretrained("shufflenet_v2_x0_5", "none", seed=2)
    state = {f"trunk.{name}": value for name, value in trunk.state_dict().items()}
    tensors.save(folder / "trunk.safetensors", state, "made by this test")
    record = {
        "digest": file_digest(folder / "trunk.safetensors"),
        "arch": "shufflenet_v2_x0_5",
        "mean": mean,
        "std": std,
    }
    write_json(folder / "weights.json", record)
    names = {"trunk": folder / "trunk.safetensors", "pixels": folder / "pixels" / "pixels.json"}
    return SimpleNamespace(weights_identity=folder / "weights.json", trunk_identity=folder / "weights.json", **names)


@pytest.mark.parametrize(
    ("settings", "augmentation", "views"),
    [
        ({}, {"preset": "none", "crop": "center"}, [0]),
        ({"crop": "squish"}, {"preset": "none", "crop": "squish"}, [0]),
        ({"augmentation": AUGMENTATION, "seed": 7}, AUGMENTATION, [3, 4]),
    ],
    ids=["plain", "squished", "augmented"],
)
def test_they_are_the_trunks_outputs_on_these_views(given, settings, augmentation, views):
    rows = np.array([4, 0, 2])
    with compute_missing(given, SETTINGS | settings, rows, views) as computed:
        found = {view: torch.cat(list(pieces.pieces)) for view, pieces in computed.items()}
    trunk, mean, std = starting_weights.pretrained("shufflenet_v2_x0_5", "none", seed=2)
    pixels = Pixels(given.pixels.parent)
    source = Views(pixels, 32, augmentation, settings.get("seed", 0), mean, std, CPU)
    assert sorted(found) == views
    for view, values in found.items():
        torch.testing.assert_close(
            values, inference.outputs(trunk.eval(), source, rows, view, CPU), rtol=1e-4, atol=1e-10
        )


def test_where_nothing_is_missing_no_device_is_taken_and_no_trunk_read(monkeypatch):
    monkeypatch.setattr(activations_needed, "device", None)
    with compute_missing(SimpleNamespace(), {}, np.arange(3), []) as computed:
        assert computed == {}


def test_a_damaged_trunk_is_refused(given, tmp_path):
    content = bytearray(given.trunk.read_bytes())
    content[-1] ^= 1
    (tmp_path / "trunk.safetensors").write_bytes(content)
    damaged = SimpleNamespace(**{**vars(given), "trunk": tmp_path / "trunk.safetensors"})
    with (
        pytest.raises(UserError, match=r"trunk\.safetensors: damaged"),
        compute_missing(damaged, SETTINGS, np.arange(2), [0]),
    ):
        pass
