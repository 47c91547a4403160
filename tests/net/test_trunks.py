"""Where torchvision's classifiers are cut, and what their trunks compute."""

import os

import pytest
import torch
from classifiers import classifier

from eightfold.config.schema import load_schema
from eightfold.core import tensors
from eightfold.core.files import UserError
from eightfold.net import checkpoint_parts, torchvision_nets, trunks

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
    "mobilenet_v3_small",
]
ARCHITECTURES = load_schema()["$defs"]["network"]["anyOf"][1]["enum"]


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
        trunk = trunks.trunk_of(arch, model).eval()
        assert torch.equal(trunk.last(x), expected)
        found, pools = trunk(x), (expected.amax((2, 3)), expected.mean((2, 3)))
        if arch == "convnext_tiny":  # whose classifier has a norm of its own
            pools = [model.classifier[0](pool[..., None, None]).flatten(1) for pool in pools]
        if arch == "mobilenet_v3_small":  # and a layer
            pools = [model.classifier[1](model.classifier[0](pool)) for pool in pools]
    assert found.shape == (2, trunk.width)
    torch.testing.assert_close(found, torch.cat(pools, 1))


@pytest.mark.parametrize("arch", SMALL)
def test_the_groups_part_the_networks_parameters(arch):
    model = classifier(arch)
    trunk = trunks.trunk_of(arch, model)
    parts = [{id(p) for p in group} for group in trunk.groups()]
    assert all(parts) and not parts[0] & parts[1]
    assert parts[0] | parts[1] == {id(p) for p in trunk.parameters()}
    # What the trunk lacks is the classifier, and nothing else.
    left = {name.split(".")[0] for name, p in model.named_parameters() if id(p) not in parts[0] | parts[1]}
    assert left and left <= {"fc", "classifier", "head"}


@pytest.mark.parametrize("arch", ["resnet18", "resnext50_32x4d", "wide_resnet50_2"])
def test_a_resnet_is_cut_as_in_07(arch):
    """children[:6] (stem, layer1, layer2) and children[6:] (layer3, layer4)."""
    model = classifier(arch)
    trunk, children = trunks.trunk_of(arch, model), list(model.children())
    assert list(trunk.early.children()) == children[:6]
    assert list(trunk.late.children()) == children[6:8]


# One of a family that differs in depth or width only; all of them where EIGHTFOLD_ALL_ARCHITECTURES is set.
FEW = [
    *("alexnet", "convnext_small", "densenet161", "efficientnet_b3", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet1_0", "mobilenet_v3_large", "regnet_x_400mf", "resnet34", "resnet50", "resnet101"),
    *(
        "resnext101_64x4d",
        "shufflenet_v2_x1_0",
        "squeezenet1_0",
        "swin_v2_t",
        "vgg13",
        "vgg16_bn",
        "vit_l_16",
        "wide_resnet101_2",
    ),
]


@pytest.mark.parametrize("arch", ARCHITECTURES if os.environ.get("EIGHTFOLD_ALL_ARCHITECTURES") else FEW)
def test_an_architecture_that_the_config_takes_has_a_trunk(arch):
    assert arch in ARCHITECTURES
    trunk = trunks.trunk_outline(arch)
    assert trunk.width >= 512 and all(trunk.groups())


def test_the_config_takes_every_architecture_that_has_a_trunk():
    assert sorted(ARCHITECTURES) == sorted(torchvision_nets.architectures())


@pytest.mark.parametrize("size", [33, 64, 97])
def test_any_size_of_picture_works(size):
    trunk = trunks.trunk_of("resnet18").eval()
    with torch.inference_mode():
        assert trunk(torch.zeros(1, 3, size, size)).shape == (1, 1024)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(UserError, match=r"model\.arch: torchvision has no classifier 'resnet35'; it has .*resnet34"):
        trunks.trunk_of("resnet35")


@pytest.mark.parametrize("arch", ["resnet18", "densenet121", "regnet_y_400mf", "swin_t", "inception_v3"])
def test_an_outline_filled_with_a_trunks_weights_is_that_trunk(arch, tmp_path):

    trunk = trunks.trunk_of(arch, classifier(arch) if arch != "inception_v3" else None).eval()
    tensors.save(tmp_path / "t.safetensors", {f"trunk.{k}": v for k, v in trunk.state_dict().items()}, "me")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    outline = trunks.trunk_outline(arch).eval()
    checkpoint_parts.load_part(outline, tmp_path / "t.safetensors", "trunk")
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.randn(1, 3, 80, 80)
    with torch.inference_mode():
        assert torch.equal(outline(x), trunk(x))
