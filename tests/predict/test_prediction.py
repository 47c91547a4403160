"""Prediction: views and members averaged into probabilities."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from eightfold.core import shards, tensors
from eightfold.core.devices import Device
from eightfold.core.files import UserError, file_digest, write_json
from eightfold.inputs import activations, pixels
from eightfold.net import heads, inference, nets, starting_weights
from eightfold.net.scoring import probabilities_of
from eightfold.predict import finished, prediction

CPU = Device(torch.device("cpu"), torch.float32)


def logits(seed=0, views=3, n=6, classes=4):
    return np.random.default_rng(seed).normal(0, 3, (views, n, classes))


@pytest.mark.parametrize("views", [0, 1, 4, 9])
def test_weights_of_views(views):
    equal = prediction.view_weights(views, "equal")
    assert equal == pytest.approx([1 / (1 + views)] * (1 + views))
    quarter = prediction.view_weights(views, "plain_quarter")
    assert quarter.sum() == pytest.approx(1)
    if views:
        assert quarter == pytest.approx([0.25, *[0.75 / views] * views])


@pytest.mark.parametrize("weights", ["equal", "plain_quarter"])
def test_arithmetic_and_geometric_means_by_hand(weights):
    z, w = logits(), prediction.view_weights(2, weights)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    expected = sum(weight * of_view for weight, of_view in zip(w, p, strict=True))
    np.testing.assert_allclose(prediction.mean_members(p, w, "arithmetic", True), expected)
    expected = np.prod([of_view**weight for weight, of_view in zip(w, p, strict=True)], axis=0)
    expected /= expected.sum(-1, keepdims=True)
    found = prediction.mean_members(p, w, "geometric", True)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found.sum(-1), 1)


def test_labels_of_a_multi_label_job_are_averaged_each_for_itself():
    z, w = logits(), np.full(3, 1 / 3)
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(prediction.mean_members(p, w, "arithmetic", False), p.mean(0))
    # Geometric: the mean of the log odds, which is what a label and its absence scaled to 1 come to.
    expected = 1 / (1 + np.exp(-z.mean(0)))
    np.testing.assert_allclose(prediction.mean_members(p, w, "geometric", False), expected)


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
@pytest.mark.parametrize("single", [True, False])
def test_extreme_logits_stay_probabilities(average, single):
    z = np.array([[[900.0, -900.0, 0.0]], [[-900.0, 900.0, 0.0]]])
    found = prediction.mean_members(probabilities_of(z, not single), np.full(2, 0.5), average, single)
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()
    if single:
        assert found.sum() == pytest.approx(1)


def images(rows, view):
    make = torch.Generator()
    return torch.stack([torch.randn(3, 32, 32, generator=make.manual_seed(int(row) * 10 + view)) for row in rows])


def test_heads_on_one_trunk_see_each_view_once_and_say_what_each_whole_network_says(monkeypatch):
    trunk, _, _ = starting_weights.pretrained("shufflenet_v2_x0_5", "none", 2)
    several, rows = [heads.head(trunk.width, 3, seed) for seed in (1, 2)], np.array([7, 3, 9, 1, 4])
    seen = []

    def source(rows, view):
        assert not torch.is_grad_enabled()
        seen.append((view, len(rows)))
        return images(rows, view)

    found = prediction.logits_of_heads(trunk, several, source, rows, 3, CPU)
    assert seen == [(0, 5), (1, 5), (2, 5)]
    for head, of_head in zip(several, found, strict=True):
        assert of_head.shape == (3, 5, 3) and of_head.dtype == torch.float32
        net = nets.Net(trunk, head).eval()
        with torch.no_grad():
            expected = torch.stack([net(images(rows, view)) for view in range(3)])
        torch.testing.assert_close(of_head, expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(inference, "BATCH", 2)
    monkeypatch.setattr(prediction, "BATCH", 2)
    for of_head, again in zip(found, prediction.logits_of_heads(trunk, several, images, rows, 3, CPU), strict=True):
        torch.testing.assert_close(again, of_head)


@pytest.fixture
def fold(tmp_path):
    """The files of a fold: a head on the starting trunk, all layers with a snapshot, a linear head on the trunk of those."""
    trunks = [starting_weights.pretrained("shufflenet_v2_x0_5", "none", seed)[0] for seed in range(3)]
    width = trunks[0].width
    made = [heads.head(width, 2, 1), heads.head(width, 2, 2), heads.head(width, 2, 3)]
    made.append(torch.nn.Linear(width, 2))

    def named(part, module):
        return {f"{part}.{name}": value for name, value in module.state_dict().items()}

    files = {
        "start": named("trunk", trunks[0]),
        "head/checkpoint": named("head", made[0]),
        "all/snapshots": {
            f"snapshot1.{name}": value for name, value in (named("trunk", trunks[1]) | named("head", made[1])).items()
        },
        "all/checkpoint": named("trunk", trunks[2]) | named("head", made[2]),
        "last/checkpoint": named("head", made[3]),
    }
    for name, state in files.items():
        tensors.save(tmp_path / f"{name}.safetensors", state, "id")
    for stage in ("head", "all", "last"):
        told = {"digest": file_digest(tmp_path / stage / "checkpoint.safetensors")}
        if stage == "all":
            told["snapshots_digest"] = file_digest(tmp_path / "all" / "snapshots.safetensors")
        write_json(tmp_path / stage / "stage.json", told)
    candidates = [
        {"stage": "head", "size": 32, "train": "head", "trunk": None, "networks": ["end"]},
        {"stage": "all", "size": 32, "train": "all", "trunk": None, "networks": ["cycle1", "end"]},
        {"stage": "last", "size": 48, "train": "head", "trunk": "all", "networks": ["end"]},
    ]
    nets_of = {"head.end": (0, 0), "all.cycle1": (1, 1), "all.end": (2, 2), "last.end": (2, 3)}
    whole = {key: nets.Net(trunks[trunk], made[head]).eval() for key, (trunk, head) in nets_of.items()}
    checkpoints = {name: str(tmp_path / name / "checkpoint.safetensors") for name in ("head", "all", "last")}
    snapshots = {"all": str(tmp_path / "all" / "snapshots.safetensors")}
    return candidates, checkpoints, snapshots, str(tmp_path / "start.safetensors"), whole


def every(candidates):
    """All that may answer."""
    return [(stage["stage"], name) for stage in candidates for name in stage["networks"]]


def test_each_network_that_may_answer_has_its_own_trunk_and_head(fold):
    *files, whole = fold
    networks, rows = finished.find_in_fold(*files, every(files[0])), np.arange(4)
    assert [network.key for network in networks] == list(whole)
    kind = finished.Kind("shufflenet_v2_x0_5", 2, whole["all.end"].trunk.width, 0)
    views = dict.fromkeys(every(files[0]), 2) | {("head", "end"): 1}

    def source_of(size):
        return lambda rows, view: torch.nn.functional.interpolate(images(rows, view), (size, size))

    found = prediction.logits_of_networks(networks, kind, views, source_of, rows, CPU)
    for network, net in zip(networks, whole.values(), strict=True):
        with torch.no_grad():
            expected = torch.stack([net(source_of(network.size)(rows, view)) for view in range(views[network[:2]])])
        torch.testing.assert_close(found[network.key], expected, rtol=1e-4, atol=1e-5)
    none = prediction.logits_of_networks(networks, kind, views, source_of, rows[:0], CPU)
    assert {key: tuple(value.shape) for key, value in none.items()} == {
        ".".join(k): (n, 0, 2) for k, n in views.items()
    }
    (only,) = finished.find_in_fold(*files, {("all", "cycle1")})
    assert only.key == "all.cycle1"


def test_a_damaged_checkpoint_or_snapshot_of_a_network_that_answers_is_refused(fold):
    candidates, checkpoints, snapshots, start, _ = fold
    with open(snapshots["all"], "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert len(finished.find_in_fold(candidates, checkpoints, snapshots, start, {("all", "end"), ("last", "end")})) == 2
    with pytest.raises(UserError, match=r"snapshots.safetensors: damaged"):
        finished.find_in_fold(candidates, checkpoints, snapshots, start, every(candidates))


def test_files_of_several_folds_are_dealt_to_each_and_a_damaged_starting_trunk_is_refused(fold, tmp_path):
    candidates, checkpoints, snapshots, start, whole = fold
    write_json(tmp_path / "weights.json", {"digest": file_digest(start)})
    other = tmp_path / "fold1"
    shutil.copytree(tmp_path, other, ignore=shutil.ignore_patterns("fold1"))
    names = list(checkpoints)
    given = SimpleNamespace(
        trunk=start,
        weights_identity=tmp_path / "weights.json",
        checkpoints=[f"{folder}/{name}/checkpoint.safetensors" for folder in (tmp_path, other) for name in names],
        snapshots=[f"{folder}/all/snapshots.safetensors" for folder in (tmp_path, other)],
    )
    settings = {"candidates": candidates, "answering": names, "answering_snapshots": list(snapshots)}
    found = finished.find_networks(given, settings, every(candidates))
    assert [[network.key for network in networks] for networks in found] == [list(whole)] * 2
    for folder, networks in zip((tmp_path, other), found, strict=True):
        assert {network.head for network in networks if network.name == "cycle1"} == {
            f"{folder}/all/snapshots.safetensors"
        }
        assert networks[0].trunk == start and networks[-1].trunk == f"{folder}/all/checkpoint.safetensors"
    write_json(tmp_path / "weights.json", {"digest": "of another trunk"})
    with pytest.raises(UserError, match=r"start.safetensors: damaged"):
        finished.find_networks(given, settings, every(candidates))


def test_a_fold_predicts_what_it_holds_out_or_the_test_images_that_can_be_read(tmp_path):
    table = pd.DataFrame({"split": ["train", "test", "train", "test"], "status": ["ok", "ok", "ok", "unreadable"]})
    (tmp_path / "folds.csv").write_text("row,id,fold\n0,a,1\n2,b,0\n")
    assert prediction.choose_rows(table, tmp_path / "folds.csv", "test", "0").tolist() == [1]
    assert prediction.choose_rows(table, tmp_path / "folds.csv", "valid", "0").tolist() == [2]
    assert prediction.choose_rows(table, tmp_path / "folds.csv", "valid", "1").tolist() == [0]


def test_views_of_each_size_come_from_the_pixels_for_it(tmp_path):
    for side in (8, 16):
        pixels.pack(tmp_path / str(side), iter([np.full((side, side, 3), side, np.uint8)]))
    weights = {"mean": [0.5, 0.25, 0.0], "std": [0.5, 1.0, 2.0]}
    folders, plain = {4: tmp_path / "8", 12: tmp_path / "16"}, {"preset": "none", "crop": "center"}
    source_of = prediction.get_views(folders, plain, 0, weights, CPU)
    mean, std = (np.reshape(weights[name], (3, 1, 1)) for name in ("mean", "std"))
    for size, side in ((4, 8), (12, 16)):
        found = source_of(size)(np.array([0]), 0)
        expected = np.broadcast_to((side / 255 - mean) / std, (1, 3, size, size))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_activations_are_computed_batch_by_batch_when_they_are_written(tmp_path):
    trunk, _, _ = starting_weights.pretrained("shufflenet_v2_x0_5", "none", 2)
    asked, rows = [], np.arange(2 * shards.BATCH + 7)

    def source(some, view):
        asked.append((view, len(some)))
        return images(some, view)

    computed = activations.compute(trunk, source, rows, [0, 3], CPU)
    assert asked == []
    assert next(iter(computed[3].pieces)).shape == (shards.BATCH, trunk.width)
    assert asked == [(3, shards.BATCH)]
    activations.write(tmp_path / "a", rows, activations.compute(trunk, images, rows, [0, 3], CPU), "me")
    held, found = activations.read(tmp_path / "a", "me")
    assert held.tolist() == rows.tolist()
    for view in (0, 3):
        whole = inference.outputs(trunk, images, rows, view, CPU)
        assert torch.equal(found[view], whole) and len(whole) == len(rows)


def test_class_prior():
    np.testing.assert_allclose(prediction.class_prior(np.array([0, 2, 2, 2]), 4), [0.25, 0, 0.75, 0])
    np.testing.assert_allclose(prediction.class_prior(np.array([[1, 0], [1, 1]]), 2), [1, 0.5])
