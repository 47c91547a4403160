"""Parts of the work: borders at multiples of the batch, and the same bytes for any number of them."""

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eightfold.config.plan import Plan
from eightfold.config.resolve import resolve
from eightfold.core import devices, shards, tensors
from eightfold.core.files import UserError, write_json
from eightfold.inputs import activations, pixels
from eightfold.predict import prediction


@given(st.integers(0, 5000), st.integers(1, 40))
def test_parts_are_the_rows_in_order_and_their_batches_are_those_of_the_whole(rows, parts):
    cuts = [shards.borders(rows, part, parts) for part in range(1, parts + 1)]
    assert [first for first, _ in cuts] == [0, *(last for _, last in cuts[:-1])] and cuts[-1][1] == rows
    assert all(first % shards.BATCH == 0 or first == rows for first, _ in cuts)
    batches = [-(-(last - first) // shards.BATCH) for first, last in cuts]
    assert max(batches) - min(batches) <= 1


def test_one_shard_makes_no_parts_and_no_settings_know_of_any():
    base = {"data": {"source": "demo"}, "model": {"weights": "none"}}
    one, eight = Plan(resolve(base)), Plan(resolve({**base, "shards": 8}))
    assert one.parts("a/b", "{part}.x") == [] and Plan(resolve({**base, "shards": "auto"})).shards == 1
    assert eight.parts("a/b", "{part}.x")[2] == "a/b.parts/3_of_8.x" and len(eight.parts("a/b", "{part}.x")) == 8
    assert one.predict_settings() == eight.predict_settings()
    assert one.pixels_folder(224) == eight.pixels_folder(224)
    assert [shards.parts_for(files) for files in (0, 60_000, 1_000_000, 10**9)] == [1, 1, 20, 1000]


def test_joined_pixels_are_the_bytes_of_one_pack(tmp_path):
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (h, w, 3), np.uint8) for h, w in random.integers(0, 9, (150, 2))]
    whole = pixels.pack(tmp_path / "whole", images)
    names = shards.names(5)  # more parts than batches: some are empty
    for name in names:
        pixels.pack(tmp_path / name, shards.rows_of(images, name))
    joined = pixels.join(tmp_path / "joined", [tmp_path / name for name in names])
    assert joined.dtype == whole.dtype and (joined == whole).all()
    for file in ("pixels.u8", "index.npy"):
        assert (tmp_path / "joined" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_joined_activations_and_logits_are_the_whole_and_alien_parts_are_refused(tmp_path):
    rows, values = np.arange(3, 203), torch.randn(200, 4)
    logits = {"head.end": torch.randn(3, 200, 2), "all.cycle1": torch.randn(1, 200, 2)}  # (views, rows, classes)
    names = shards.names(6)  # of four batches: two parts are empty
    for name in names:
        mine = shards.rows_of(rows, name)
        activations.write(tmp_path / f"a{name}", mine, {0: values[mine - 3], 4: -values[mine - 3]}, "made of this")
        part = {key: value[:, mine - 3] for key, value in logits.items()}
        tensors.save(tmp_path / f"p{name}", {"rows": torch.tensor(mine), **part}, "made of this")
    parts = [tmp_path / f"a{name}" for name in names], [tmp_path / f"p{name}" for name in names]
    found = activations.join(parts[0], rows, "made of this")
    assert torch.equal(torch.cat(found[0].pieces), values) and torch.equal(torch.cat(found[4].pieces), -values)
    joined = prediction.join(parts[1], rows, "made of this")
    assert set(joined) == set(logits) and all(torch.equal(joined[key], logits[key]) for key in logits)
    for join, paths in zip((activations.join, prediction.join), parts, strict=True):
        with pytest.raises(UserError, match="not those of these images"):
            join(paths[::-1], rows, "made of this")
        with pytest.raises(UserError, match="other inputs"):
            join(paths, rows, "made of that")


def test_parts_of_unlike_number_formats_are_not_joined(tmp_path):
    paths = [str(tmp_path / f"{name}.json") for name in shards.names(3)]
    for path, precision in zip(paths, ["bfloat16", "float32", "bfloat16"], strict=True):
        write_json(path, {"precision": precision})
    with pytest.raises(UserError, match="precision: float32") as caught:
        shards.one_format(paths)
    assert f"bfloat16: 2 ({paths[0]}, ...)" in str(caught.value) and f"float32: 1 ({paths[1]}, ...)" in str(
        caught.value
    )
    assert shards.one_format([paths[0], paths[2]]) == "bfloat16"


def test_the_format_of_a_part_is_known_before_a_device_is_taken(monkeypatch):
    for native in (False, True):
        monkeypatch.setattr(devices, "computes_bfloat16", lambda device, native=native: native)
        for asked in ("auto", "float32", "bfloat16"):
            with devices.device("cpu", asked) as here:
                assert devices.precision_of("cpu", asked) == here.precision


def test_a_wrong_number_of_shards_is_refused():
    for wrong in (0, 1001, "many"):
        with pytest.raises(UserError, match="shards"):
            resolve(yaml.safe_load(yaml.safe_dump({"data": {"source": "demo"}, "shards": wrong})))
