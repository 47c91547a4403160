"""Networks of every family, with random weights, through all that the workflow does with a network, on a few small images.

Their vectors are compared with what the network's own forward gives to its own last layer.
"""

import os

import numpy as np
import pytest
import torch
from torch import nn

from eightfold.config import plan
from eightfold.core.devices import Device
from eightfold.core.files import UserError
from eightfold.net import heads, inference, nets, timm_nets, torchvision_nets, trunks
from eightfold.predict import export
from eightfold.review import insight
from eightfold.train import linear
from eightfold.train.stepping import Stepper

pytestmark = pytest.mark.slow
timm = pytest.mark.skipif(not plan.installed("timm"), reason="timm (envs/requirements-extra.txt) is not installed")
CPU = Device(torch.device("cpu"), torch.float32)
# A size in px that is small and that the network takes.
TIMM = {
    "vit_tiny_patch16_224": 64,
    "deit_tiny_distilled_patch16_224": 64,
    "deit3_small_patch16_224": 48,
    "vit_small_patch14_dinov2": 56,
    "vit_small_patch16_dinov3": 64,
    "vit_base_patch16_siglip_224": 48,
    "vit_base_patch16_clip_224": 48,
    "eva02_tiny_patch14_224": 56,
    "vit_pe_core_tiny_patch16_384": 64,
    "beit_base_patch16_224": 224,
    "xcit_nano_12_p16_224": 64,
    "hiera_tiny_224": 224,
    "swin_tiny_patch4_window7_224": 64,
    "swinv2_tiny_window8_256": 64,
    "maxvit_pico_rw_256": 256,
    "coatnet_pico_rw_224": 224,
    "convnext_atto": 64,
    "convnextv2_atto": 64,
    "caformer_s18": 64,
    "tiny_vit_5m_224": 64,
    "edgenext_xx_small": 64,
    "mobilenetv4_conv_small_050": 64,
    "mobilenetv3_small_050": 64,
    "efficientvit_b0": 64,
    "test_resnet": 48,
    "test_vit": 48,
}
TORCHVISION = {
    "vit_b_32": 64,
    "maxvit_t": 224,
    "swin_t": 64,
    "swin_v2_t": 64,
    "convnext_tiny": 48,
    "mobilenet_v3_small": 48,
    "mobilenet_v2": 48,
    "efficientnet_b0": 48,
    "resnet18": 48,
    "squeezenet1_1": 48,
    "regnet_y_400mf": 48,
    "shufflenet_v2_x0_5": 48,
}
# One of each way to the vector; all of them where EIGHTFOLD_ALL_ARCHITECTURES is set, since an export takes seconds.
EXPORTED = [
    pytest.param("timm/test_vit", 48, marks=timm),
    pytest.param("timm/vit_pe_core_tiny_patch16_384", 64, marks=timm),
    pytest.param("timm/mobilenetv3_small_050", 64, marks=timm),
    ("vit_b_32", 64),
    ("swin_t", 64),
]
ALL = [*(pytest.param(f"timm/{name}", size, marks=timm) for name, size in TIMM.items()), *TORCHVISION.items()]


def random_images(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def classifier(arch: str) -> nn.Module:
    """The whole network, its last layer included, in evaluation mode."""
    if not timm_nets.is_timm(arch):
        return torchvision_nets.classifier(arch).eval()
    import timm

    name = arch.removeprefix("timm/")
    try:
        return timm.create_model(name, num_classes=7, dynamic_img_size=True).eval()
    except TypeError:
        return timm.create_model(name, num_classes=7).eval()


def last_layers(model: nn.Module) -> list[nn.Module]:
    """What makes the logits: one layer, or two whose logits are averaged, in a network that was distilled."""
    if hasattr(model, "get_classifier"):
        found = model.get_classifier()
        return list(found) if isinstance(found, tuple) else [found]
    return [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == 1000][-1:]


def given_to_the_last_layer(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a network gives to the layer that makes its logits, or the mean of what it gives to each: caught there."""
    caught = []
    layers = last_layers(model)
    handles = [layer.register_forward_pre_hook(lambda _, given: caught.append(given[0])) for layer in layers]
    model(x)
    for handle in handles:
        handle.remove()
    return torch.stack(caught).mean(0).flatten(1)


@pytest.mark.parametrize(("arch", "size"), ALL)
def test_a_network_goes_through_activations_linear_stage_training_prediction_and_grad_cam(arch, size):
    torch.manual_seed(0)
    trunk, x, rows = trunks.trunk_of(arch).eval(), random_images(4, size), np.arange(4)
    assert trunks.takes(trunks.meta_trunk(arch), size)

    def source(chosen, view):
        return x[chosen]

    activations = inference.outputs(trunk, source, rows, 0, CPU)
    assert activations.shape == (4, trunk.width) and activations.isfinite().all()
    targets = np.array([0, 1, 0, 1])
    layer, _ = linear.fit([activations], targets, 2, np.array([0, 0, 1, 1]))

    net = nets.Net(trunk, heads.head(trunk.width, 2, 0))
    parts = nets.rate_groups(net, {})
    assert len(parts) == 3 and sum(map(len, parts)) == len(list(net.parameters()))
    by_depth = nets.rate_groups(net, {"layer_decay": 0.8})
    assert len(by_depth) > 3 and sum(map(len, by_depth)) == len(list(net.parameters()))
    before = [[parameter.detach().clone() for parameter in part] for part in parts]
    loss = Stepper(net, CPU, False)(x, torch.from_numpy(targets), [0.01, 0.01, 0.01], 1)
    assert np.isfinite(loss)
    for was, part in zip(before, parts, strict=True):  # some learn nothing at first, behind a norm that starts at zero
        assert any(not torch.equal(a, b) for a, b in zip(was, part, strict=True))

    whole = nets.Net(trunk.eval(), heads.LinearHead(trunk.width, 2)).eval()
    whole.head.load_state_dict(layer.state_dict())
    assert inference.outputs(whole, source, rows, 0, CPU).shape == (4, 2)
    assert insight.grad_cam(whole, x, targets).shape == (4, size, size)


@pytest.mark.parametrize(("arch", "size"), ALL if os.environ.get("EIGHTFOLD_ALL_ARCHITECTURES") else EXPORTED)
def test_an_exported_network_answers_as_the_network_does(arch, size, tmp_path):
    torch.manual_seed(0)
    trunk, x = trunks.trunk_of(arch).eval(), random_images(4, size)
    whole = nets.Net(trunk, heads.head(trunk.width, 2, 0)).eval()
    logits = inference.outputs(whole, lambda rows, view: x[rows], np.arange(4), 0, CPU)
    mean_std = (0.5,) * 3, (0.25,) * 3
    path = tmp_path / "model.pt2"
    export.write_program(path, export.Classifier([whole], [1.0], [size], mean_std, True).eval(), [size], {})
    pixels = (255 * (x * 0.25 + 0.5)).permute(0, 2, 3, 1).contiguous().numpy()
    np.testing.assert_allclose(export.run_program(path, [pixels]), logits.softmax(1).numpy(), atol=1e-4)


@pytest.mark.parametrize(("arch", "size"), ALL)
def test_the_vector_ends_in_what_the_network_gives_to_its_own_last_layer(arch, size):
    if arch == "squeezenet1_1":
        pytest.skip("its last layer is a convolution: test_published_weights.py compares its logits")
    size = 224 if arch.startswith("vit_") else size  # the one that torchvision's own forward takes
    torch.manual_seed(0)
    model, x = classifier(arch), random_images(2, size)
    with torch.inference_mode():
        expected = given_to_the_last_layer(model, x)
        if timm_nets.is_timm(arch):
            model.reset_classifier(0)
        found = trunks.trunk_of(arch, model).eval()(x)
    torch.testing.assert_close(found[:, -expected.shape[1] :], expected, rtol=1e-4, atol=1e-4)
    assert found.shape[1] in (expected.shape[1], 2 * expected.shape[1])


@timm
@pytest.mark.parametrize(
    ("arch", "size", "near"),
    [
        ("timm/vit_small_patch14_dinov2", 224 + 9, "224 and 238"),
        ("timm/vit_tiny_patch16_224", 299, "288 and 304"),
        ("timm/beit_base_patch16_224", 384, "the nearest that it takes: 224"),
        ("vit_b_16", 299, "288 and 304"),
        ("alexnet", 32, "63"),
    ],
)
def test_a_size_that_a_network_does_not_take_is_refused_with_the_nearest_that_fit(arch, size, near):
    with pytest.raises(UserError, match=rf"{arch} does not take images of {size} px .*{near}"):
        trunks.check_sizes(arch, [size])


def test_sizes_that_fit_are_taken():
    trunks.check_sizes("vit_b_16", [224, 288])
    trunks.check_sizes("resnet18", [33, 299])


@pytest.mark.parametrize("size", [64, 224, 256])
def test_a_vit_of_torchvision_sees_other_sizes_as_torchvision_s_own_interpolation_does(size):
    from torchvision.models import vision_transformer

    torch.manual_seed(1)
    model, x = torchvision_nets.classifier("vit_b_32").eval(), random_images(2, size)
    nn.init.normal_(model.encoder.pos_embedding)
    resized = vision_transformer.interpolate_embeddings(size, 32, model.state_dict())
    other = vision_transformer.vit_b_32(weights=None, image_size=size).eval()
    other.load_state_dict(resized)
    with torch.inference_mode():
        expected = given_to_the_last_layer(other, x)
        found = trunks.trunk_of("vit_b_32", model).eval()(x)
    torch.testing.assert_close(found[:, -768:], expected, rtol=1e-4, atol=1e-4)


@timm
def test_a_network_whose_features_cannot_be_pooled_is_refused():
    with pytest.raises(UserError, match=r"features of 'timm/crossvit_tiny_240' cannot be pooled into one vector"):
        trunks.trunk_of("timm/crossvit_tiny_240")
