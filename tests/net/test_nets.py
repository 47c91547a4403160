"""The network: where torchvision's classifiers are cut, the head on top, and the weights they start from."""

import functools
import http.server
import os
import pickle
import threading
import urllib.error

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from eightfold.config.schema import load_schema
from eightfold.core.files import UserError
from eightfold.net import nets

SMALL = [
    "resnet18",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "densenet121",
    "vgg11_bn",
    "squeezenet1_1",
    "mobilenet_v2",
    "efficientnet_b0",
    "convnext_tiny",
    "regnet_y_400mf",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "swin_t",
    "googlenet",
]
ARCHITECTURES = load_schema()["properties"]["model"]["properties"]["arch"]["anyOf"][1]["enum"]
ARCH = "squeezenet1_1"  # small, for the tests of weights


def classifier(arch, seed=0):
    """An untrained torchvision classifier, and nothing drawn from the global random numbers."""
    options = {"init_weights": False, "aux_logits": False} if arch in ("googlenet", "inception_v3") else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torchvision.models.get_model(arch, weights=None, **options).eval()


def last_map(arch, model, x):
    """The map that the classifier's own forward gives to its pool: caught there, not computed by us."""
    caught = []
    pool = {
        "squeezenet1_1": lambda m: m.classifier,
        # These pool by functions, so the map is caught where it is made; densenet's goes through a ReLU first.
        "densenet121": lambda m: m.features,
        "shufflenet_v2_x0_5": lambda m: m.conv5,
        "mnasnet0_5": lambda m: m.layers,
        "mobilenet_v2": lambda m: m.features,
    }.get(arch, lambda m: m.avgpool)(model)
    made_there = arch in ("densenet121", "shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v2")
    hook = pool.register_forward_hook(lambda _, given, made: caught.append(made if made_there else given[0]))
    model(x)
    hook.remove()
    return caught[0].relu() if arch == "densenet121" else caught[0]


@pytest.mark.parametrize("arch", SMALL)
def test_a_trunk_gives_the_classifiers_own_last_map_pooled_both_ways(arch):
    model, x = classifier(arch), torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = last_map(arch, model, x)
        trunk = nets.trunk_of(arch, model).eval()
        assert torch.equal(trunk.late(trunk.early(x)), expected)
        found = trunk(x)
    assert found.shape == (2, 2 * trunk.features) and expected.shape[1] == trunk.features
    torch.testing.assert_close(found[:, : trunk.features], expected.flatten(2).max(2).values)
    torch.testing.assert_close(found[:, trunk.features :], expected.flatten(2).mean(2))


@pytest.mark.parametrize("arch", SMALL)
def test_the_groups_part_the_networks_parameters(arch):
    model = classifier(arch)
    trunk = nets.trunk_of(arch, model)
    parts = [{id(p) for p in group.parameters()} for group in (trunk.early, trunk.late)]
    assert all(parts) and not parts[0] & parts[1]
    assert parts[0] | parts[1] == {id(p) for p in trunk.parameters()}
    # What the trunk lacks is the classifier, and nothing else.
    left = {name.split(".")[0] for name, p in model.named_parameters() if id(p) not in parts[0] | parts[1]}
    assert left and left <= {"fc", "classifier", "head"}


@pytest.mark.parametrize("arch", ["resnet18", "resnext50_32x4d", "wide_resnet50_2"])
def test_a_resnet_is_cut_as_in_07(arch):
    """children[:6] (stem, layer1, layer2) and children[6:] (layer3, layer4)."""
    model = classifier(arch)
    trunk, children = nets.trunk_of(arch, model), list(model.children())
    assert list(trunk.early.children()) == children[:6]
    assert list(trunk.late.children()) == children[6:8]


# One of a family that differs in depth or width only; all of them where EIGHTFOLD_ALL_ARCHITECTURES is set.
FEW = [
    *("alexnet", "convnext_small", "densenet161", "efficientnet_b3", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("mnasnet1_0", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_400mf", "resnet34", "resnet50", "resnet101"),
    *("resnext101_64x4d", "shufflenet_v2_x1_0", "squeezenet1_0", "swin_v2_t", "vgg13", "vgg16_bn", "wide_resnet101_2"),
]


@pytest.mark.parametrize("arch", ARCHITECTURES if os.environ.get("EIGHTFOLD_ALL_ARCHITECTURES") else FEW)
def test_an_architecture_that_the_config_takes_has_a_trunk(arch):
    assert arch in ARCHITECTURES
    trunk = nets.trunk_outline(arch)
    assert trunk.features >= 256
    assert all(any(True for _ in group.parameters()) for group in (trunk.early, trunk.late))


def test_the_config_takes_every_architecture_that_has_a_trunk():
    others = sorted(set(nets.architectures()) - set(ARCHITECTURES))
    assert others and all("vit" in name for name in others), others


@pytest.mark.parametrize("size", [33, 64, 97])
def test_any_size_of_picture_works(size):
    trunk = nets.trunk_of("resnet18").eval()
    with torch.inference_mode():
        assert trunk(torch.zeros(1, 3, size, size)).shape == (1, 1024)


def test_unknown_and_unfit_architectures_are_refused():
    with pytest.raises(UserError, match=r"model\.arch: torchvision has no classifier 'resnet35'; it has .*resnet34"):
        nets.trunk_of("resnet35")
    with pytest.raises(UserError, match=r"'vit_b_16' has no convolutional trunk"):
        nets.trunk_of("vit_b_16")


# ---- the head


def test_the_head_of_resnet34_has_528_898_parameters():
    head = nets.head(512, 2, 0)
    assert sum(p.numel() for p in head.parameters()) == 528_898
    assert nets._cut("resnet34")[1] == 512
    kinds = [nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout, nets.Float32Linear]
    assert [type(layer) for layer in head] == kinds
    assert [head[1].p, head[5].p] == [0.25, 0.5]


def test_the_heads_weights_are_kaiming_normal_of_its_seed_alone():
    torch.manual_seed(5)  # the global numbers, which have gone on when the second head is made
    head, again, other = nets.head(512, 10, 3), nets.head(512, 10, 3), nets.head(512, 10, 4)
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(head[2].weight, other[2].weight)
    for layer, inputs in ((head[2], 1024), (head[6], 512)):
        assert layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.03)
        assert abs(layer.weight.mean().item()) < 0.005 and not layer.bias.any()


# ---- training mode


def modes(net):
    return {name: module.training for name, module in net.named_modules() if not list(module.children())}


@pytest.mark.parametrize("bn_freeze", [False, True])
def test_what_is_frozen_is_in_eval_mode(bn_freeze):
    net = nets.Net(nets.trunk_of("resnet18"), nets.head(512, 2, 0))
    bn = {name for name, module in net.trunk.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(nets.groups(net)) == 3 and nets.groups(net.head) == [net.head]
    nets.set_training(net, bn_freeze)
    for name, training in modes(net).items():
        assert training == (name.startswith("head") or not (bn_freeze and name.removeprefix("trunk.") in bn)), name
    for parameter in net.trunk.parameters():
        parameter.requires_grad = False
    nets.set_training(net, bn_freeze)
    assert all(training == name.startswith("head") for name, training in modes(net).items())
    x = torch.randn(2, 3, 64, 64)
    before = {name: value.clone() for name, value in net.trunk.state_dict().items()}
    assert torch.equal(net.trunk(x), net.trunk(x))
    assert all(torch.equal(value, before[name]) for name, value in net.trunk.state_dict().items())


# ---- weights


@functools.cache
def state():
    return {name: value.clone() for name, value in classifier(ARCH, seed=9).state_dict().items()}


def trunk_equals(trunk, model_state):
    """Whether the trunk holds the convolutions of a squeezenet's state dict."""
    wanted = [value for name, value in model_state.items() if name.startswith("features")]
    found = list(trunk.state_dict().values())
    return len(wanted) == len(found) and all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_random_weights_are_of_the_seed_and_leave_the_global_numbers_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    trunks = [nets.pretrained(ARCH, "none", seed)[0].state_dict() for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(trunks[0][name], trunks[1][name]) for name in trunks[0])
    assert any(not torch.equal(trunks[0][name], trunks[2][name]) for name in trunks[0])


@pytest.mark.parametrize(
    "wrapper", ["plain", "state_dict", "model", "module.", "five classes", "no classifier", "safetensors"]
)
def test_weights_from_a_file(tmp_path, wrapper):
    content, path = dict(state()), tmp_path / "weights.pth"
    if wrapper == "module.":
        content = {"state_dict": {f"module.{name}": value for name, value in content.items()}}
    elif wrapper == "five classes":
        content |= {"classifier.1.weight": torch.zeros(5, 512, 1, 1), "classifier.1.bias": torch.zeros(5)}
    elif wrapper == "no classifier":
        content = {name: value for name, value in content.items() if name.startswith("features")}
    elif wrapper in ("state_dict", "model"):
        content = {wrapper: content, "epoch": 3}
    if wrapper == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(content, path)
    else:
        torch.save(content, path)
    trunk, mean, std = nets.pretrained(ARCH, str(path), seed=0)
    assert trunk_equals(trunk, state())
    assert (mean, std) == (nets.IMAGENET_MEAN, nets.IMAGENET_STD)


def test_weights_of_another_architecture_are_refused_by_their_keys(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(state(), path)
    with pytest.raises(UserError) as refusal:
        nets.pretrained("resnet18", str(path), seed=0)
    for part in (str(path), "does not fit model.arch resnet18", "bn1.bias: not in the file", "and "):
        assert part in str(refusal.value)
    torch.save(state() | {"features.0.weight": torch.zeros(64, 3, 5, 5)}, path)
    with pytest.raises(
        UserError, match=r"features\.0\.weight: \(64, 3, 5, 5\) in the file, \(64, 3, 3, 3\) in squeezenet1_1"
    ):
        nets.pretrained(ARCH, str(path), seed=0)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_is_not_run(tmp_path):
    path, harm = tmp_path / "weights.pth", tmp_path / "harm"
    for write in (
        lambda: torch.save({"features.0.weight": Evil(str(harm))}, path),
        lambda: path.write_bytes(pickle.dumps(Evil(str(harm)))),
    ):
        write()
        with pytest.raises(UserError, match=r"model\.weights: .*weights\.pth is not a plain file of weights"):
            nets.pretrained(ARCH, str(path), seed=0)
        assert not harm.exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 torn"])
def test_a_file_of_something_else_is_named(tmp_path, content):
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            nets.pretrained(ARCH, str(tmp_path / name), seed=0)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        nets.pretrained(ARCH, str(tmp_path / "list.pth"), seed=0)


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"missing\.pth does not exist"):
        nets.pretrained(ARCH, str(tmp_path / "missing.pth"), seed=0)
    with pytest.raises(UserError, match="has no weights 'IMAGENET1K_V2'; it has IMAGENET1K_V1"):
        nets.pretrained(ARCH, "IMAGENET1K_V2", seed=0)


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError) as refusal:
        nets.pretrained(ARCH, "DEFAULT", seed=0)
    url = torchvision.models.get_model_weights(ARCH).DEFAULT.url
    for part in ("model.weights: DEFAULT of squeezenet1_1 could not be downloaded", url, "not known", "give its path"):
        assert part in str(refusal.value)


@pytest.fixture
def server(tmp_path):
    """The address of a web server on this machine that serves ``tmp_path``/web."""
    (tmp_path / "web").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()
        thread.join()


@pytest.fixture
def published(tmp_path, server, monkeypatch):
    """Publishes a file as torchvision's weights, under a name that tells the digest of ``told`` (its own if None)."""
    import hashlib

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def publish(told: bytes | None = None):
        path = tmp_path / "web" / "weights.pth"
        torch.save(state(), path)
        name = f"{ARCH}-{hashlib.sha256(told or path.read_bytes()).hexdigest()[:8]}.pth"
        path.rename(path.with_name(name))
        weights = torchvision.models.get_model_weights(ARCH).DEFAULT
        monkeypatch.setattr(
            weights, "_value_", weights.value.__class__(f"{server}/{name}", weights.transforms, weights.meta)
        )
        return tmp_path / "home" / "hub" / "checkpoints" / name

    return publish


def test_weights_are_downloaded_once_and_kept(published, tmp_path):
    kept = published()
    trunk, mean, std = nets.pretrained(ARCH, "DEFAULT", seed=0)
    assert trunk_equals(trunk, state()) and kept.is_file()
    assert mean == pytest.approx(nets.IMAGENET_MEAN) and std == pytest.approx(nets.IMAGENET_STD)
    for path in (tmp_path / "web").iterdir():
        path.unlink()
    assert trunk_equals(nets.pretrained(ARCH, "DEFAULT", seed=0)[0], state())


def test_a_download_that_is_not_what_was_published_is_refused(published, tmp_path):
    kept = published(told=b"something else")
    with pytest.raises(UserError, match=r"DEFAULT of squeezenet1_1"):
        nets.pretrained(ARCH, "DEFAULT", seed=0)
    assert not kept.exists()


def test_a_missing_page_is_an_error_in_words(published, tmp_path):
    published()
    for path in (tmp_path / "web").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"could not be downloaded from http://127.*404"):
        nets.pretrained(ARCH, "DEFAULT", seed=0)


# ---- parts of checkpoints


def test_a_part_of_a_checkpoint_is_loaded_or_refused(tmp_path):
    from eightfold.core import tensors

    head, other = nets.head(6, 2, 0), nets.head(6, 2, 1)
    tensors.save(tmp_path / "c.safetensors", {f"head.{k}": v for k, v in head.state_dict().items()}, "me")
    nets.load_part(other, tmp_path / "c.safetensors", "head")
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), other.state_dict().values(), strict=True))
    with pytest.raises(UserError, match=r"c\.safetensors: not the head of this network"):
        nets.load_part(nets.head(6, 3, 1), tmp_path / "c.safetensors", "head")
    with pytest.raises(UserError, match="not the trunk of this network"):
        nets.load_part(nets.trunk_outline(ARCH), tmp_path / "c.safetensors", "trunk")


@pytest.mark.parametrize("arch", ["resnet18", "densenet121", "regnet_y_400mf", "swin_t", "inception_v3"])
def test_an_outline_filled_with_a_trunks_weights_is_that_trunk(arch, tmp_path):
    from eightfold.core import tensors

    trunk = nets.trunk_of(arch, classifier(arch) if arch != "inception_v3" else None).eval()
    tensors.save(tmp_path / "t.safetensors", {f"trunk.{k}": v for k, v in trunk.state_dict().items()}, "me")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    outline = nets.trunk_outline(arch).eval()
    nets.load_part(outline, tmp_path / "t.safetensors", "trunk")
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.randn(1, 3, 80, 80)
    with torch.inference_mode():
        assert torch.equal(outline(x), trunk(x))


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v2", "densenet121", "squeezenet1_1"])
def test_a_folded_network_is_the_same_function_with_fewer_layers(arch):
    trunk, _, _ = nets.pretrained(arch, "none", seed=0)
    norms = [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        for values in (norm.running_mean, norm.bias.data):
            values.uniform_(-0.2, 0.2)
        for values in (norm.running_var, norm.weight.data):
            values.uniform_(0.5, 1.5)
    trunk.eval()
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        folded = nets.folded(trunk)
        left = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        expected = trunk(images)
        torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    # densenet normalises what it has joined, which is not a convolution's output.
    assert left == (62 if arch == "densenet121" else 0)
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


def test_a_network_that_cannot_be_traced_is_not_folded():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(self.conv(x)) if x.sum() > 0 else x

    net = Net().eval()
    assert nets.folded(net) is net


def test_logits_are_float32_under_autocast_in_training_and_in_inference():
    """The last layer's sums are those of float32; all before it is as fast as the device likes."""
    net = nets.head(6, 3, 0).eval()
    x = torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        hidden, logits = net[:-1](x), net(x)
        folded = nets.folded(net)(x)
    assert logits.dtype == torch.float32 and folded.dtype == torch.float32
    assert torch.equal(logits, torch.nn.functional.linear(hidden.float(), net[-1].weight, net[-1].bias))
    assert net[2](net[:2](x)).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert net.train()(x).dtype == torch.float32


def test_a_network_with_a_float32_head_is_still_folded():
    trunk, _, _ = nets.pretrained("shufflenet_v2_x0_5", "none", seed=2)
    net = nets.Net(trunk, nets.head(trunk.features, 2, 0)).eval()
    kinds = [type(module) for module in nets.folded(net).modules()]
    assert torch.nn.BatchNorm2d not in kinds and nets.Float32Linear in kinds


def test_every_batchnorm_of_torchs_networks_is_known_by_its_public_class():
    made = [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2)]
    assert all(isinstance(layer, nets.BATCH_NORMS) for layer in made)
    others = [nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.InstanceNorm2d(2, track_running_stats=True)]
    assert not any(isinstance(layer, nets.BATCH_NORMS) for layer in others)
