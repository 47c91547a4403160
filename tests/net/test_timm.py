"""Networks of timm: cut, frozen and loaded as torchvision's are; skipped where the package is missing, but for its refusal."""

import json
import subprocess
import sys
from pathlib import Path

import miniatures
import numpy as np
import pytest
import torch
from inprocess import TINY, run_in_this_process
from safetensors.torch import save_file
from torch import nn

from eightfold.config import plan
from eightfold.config.resolve import resolve
from eightfold.core.files import UserError
from eightfold.net import folding, heads, nets, starting_weights, timm_nets, trunks
from eightfold.review import insight

ROOT = Path(__file__).parents[2]
SMALL = "timm/test_resnet"  # 0.4 million parameters, made for tests
CUTS = {SMALL: "layer3", "timm/test_efficientnet": "blocks.3", "timm/test_convnext": "stages.2"}  # where `late` begins
timm = pytest.mark.skipif(not plan.installed("timm"), reason="timm (envs/requirements-extra.txt) is not installed")


def test_without_timm_the_list_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"needs the package timm.*envs/requirements-extra\.txt"):
        starting_weights.pretrained(SMALL, "none", 0)


def test_timm_is_imported_only_where_it_is_used():
    code = "import sys; from eightfold.net import trunks; trunks.trunk_of('squeezenet1_1'); sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT / "scripts").returncode == 0


def test_the_version_of_timm_is_part_of_what_weights_are(monkeypatch):
    ours, theirs = (plan.Plan(resolve({"model": {"arch": arch, "weights": "none"}})) for arch in ("resnet18", SMALL))
    folder = theirs.weights_folder
    monkeypatch.setattr(plan, "installed", lambda package: "0.0.1")
    again = plan.Plan(theirs.config)
    assert next(iter(again.starting_weights.values()))["timm"] == "0.0.1" and again.weights_folder != folder
    assert "timm" not in next(iter(ours.starting_weights.values()))


@timm
@pytest.mark.parametrize("arch", CUTS)
def test_a_trunk_is_the_network_s_own_last_map_in_three_groups(arch):
    import timm

    trunk, mean, std = starting_weights.pretrained(arch, "none", 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = timm.create_model(arch.removeprefix("timm/"), num_classes=0, global_pool="").eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    caught = []  # what the network's own forward gives to its pool
    pool = model.head if arch.endswith("convnext") else model.global_pool
    pool.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    with torch.inference_mode():
        model(x)
        expected, found = caught[0], trunk.eval()(x)
    pools = [expected.amax((2, 3), keepdim=True), expected.mean((2, 3), keepdim=True)]
    if arch.endswith("convnext"):
        pools = [model.head.norm(pool) for pool in pools]
    torch.testing.assert_close(found, torch.cat(pools, 1).flatten(1))
    with torch.inference_mode():
        torch.testing.assert_close(folding.folded(trunk)(x), found, rtol=1e-4, atol=1e-4)  # as predictions are made
    assert found.shape[1] == trunk.width
    assert (mean, std) == (tuple(model.pretrained_cfg["mean"]), tuple(model.pretrained_cfg["std"]))
    early, late = ({id(p) for p in group} for group in trunk.groups())
    assert not early & late and early | late == {id(p) for p in trunk.parameters()}
    first_late = next(name for name, p in trunk.model.named_parameters() if id(p) in late)
    assert first_late.startswith(CUTS[arch])
    net = nets.Net(trunk, heads.head(trunk.width, 2, 0))
    assert len(nets.rate_groups(net, {})) == 3 and insight.grad_cam(net, x, [0, 1]).shape == (2, 64, 64)
    outline = trunks.trunk_outline(arch)
    outline.load_state_dict(trunk.state_dict(), strict=True, assign=True)
    with torch.inference_mode():
        assert torch.equal(outline.eval()(x), found)


@timm
def test_freezing_and_batchnorm_are_as_for_every_network():
    net = nets.Net(trunks.trunk_of(SMALL), heads.head(192, 2, 0))
    norms = [module for module in net.trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    nets.set_training(net, bn_freeze=True)
    assert norms and not any(norm.training for norm in norms) and net.trunk.training
    nets.set_training(net)
    assert all(norm.training for norm in norms)
    for parameter in net.trunk.parameters():
        parameter.requires_grad = False
    nets.set_training(net)
    before = [value.clone() for value in net.trunk.state_dict().values()]
    assert torch.equal(net.trunk(torch.ones(2, 3, 48, 48)), net.trunk(torch.ones(2, 3, 48, 48)))
    assert all(torch.equal(a, b) for a, b in zip(before, net.trunk.state_dict().values(), strict=True))


@timm
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_file_with_or_without_a_classifier(tmp_path, suffix):
    import timm

    model, path = timm.create_model("test_resnet", num_classes=5), str(tmp_path / f"weights{suffix}")
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    trunk = starting_weights.pretrained(SMALL, path, 0)[0]
    assert all(torch.equal(value, state[name.removeprefix("model.")]) for name, value in trunk.state_dict().items())
    with pytest.raises(UserError, match=r"does not fit model\.arch timm/test_efficientnet"):
        starting_weights.pretrained("timm/test_efficientnet", path, 0)


@timm
def test_what_timm_lacks_or_cannot_serve_is_refused(monkeypatch):
    import timm

    with pytest.raises(UserError, match=r"timm has no network 'resnet35'; it has resnet"):
        trunks.trunk_of("timm/resnet35")
    with pytest.raises(UserError, match=r"timm/test_resnet has no weights 'IMAGENET1K_V1'; it has DEFAULT"):
        starting_weights.pretrained(SMALL, "IMAGENET1K_V1", 0)
    create = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise ConnectionError("no route to the hub")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"weights of 'test_resnet' could not be had \(no route.*give its path"):
        starting_weights.pretrained(SMALL, "DEFAULT", 0)


@timm
def test_default_weights_are_asked_of_timm_by_name(monkeypatch):
    import timm

    asked, create = [], timm.create_model

    def hub(name, pretrained=False, **options):
        asked.append((name, pretrained))
        model = create(name, **options)
        if pretrained:
            nn.init.constant_(model.conv1[0].weight, 0.5)
        return model

    monkeypatch.setattr(timm, "create_model", hub)
    trunk, *_ = starting_weights.pretrained("timm/test_resnet.r160_in1k", "DEFAULT", 0)
    assert ("test_resnet.r160_in1k", True) in asked
    assert (trunk.model.conv1[0].weight == 0.5).all()


@timm
def test_the_workflow_trains_and_predicts_with_a_network_of_timm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    miniatures.write("dogs_vs_cats", tmp_path / "data")
    config = {**TINY, "run": "timm", "data": {"source": "folders", "root": "data"}}
    config |= {"model": {"arch": SMALL, "weights": "none"}, "split": {"use": [0]}}
    head = {"name": "head", "size": 32, "train": "head", "augment": False}
    both = [head, {"name": "all", "size": 32, "train": "all", "lr": 0.01, "lr_ratio": 3, "snapshots": True}]
    config |= {"recipe": both, "predict": {"images": "data/test"}}
    targets = ["results/timm/submission.csv", "results/timm/predict/test/predictions.csv"]
    ran = run_in_this_process(config, *targets)
    assert {"activations.py", "find_lr.py", "train.py", "predict.py", "predict_new.py"} <= set(ran)
    told = json.loads((tmp_path / "results/timm/fold0/all/stage.json").read_text())
    assert np.allclose(told["lr"], [0.01 / 9, 0.01 / 3, 0.01])
    weights = next((tmp_path / "results/cache").glob("weights-*/weights.json"))
    assert json.loads(weights.read_text())["timm"] == plan.installed("timm") and timm_nets.PREFIX in weights.read_text()
