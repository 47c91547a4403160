"""Published weights under their published classifier: the trunk's vector gives the published network's own logits."""

from pathlib import Path

import pytest
import torch
from torch import nn

from eightfold.config import plan
from eightfold.core import tensors
from eightfold.net import starting_weights, torchvision_nets
from eightfold.raw import solar

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"


def image_batch() -> torch.Tensor:
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def published(arch: str) -> tuple[str, nn.Module]:
    """The file of a network's weights and the network with them, classifier included; skipped where it is not there."""
    path = WEIGHTS / f"{arch}.pth"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    model = torchvision_nets.classifier(arch).eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    return str(path), model


@torch.inference_mode()
def test_mobilenet_v2_gives_its_published_logits():
    path, model = published("mobilenet_v2")
    trunk = starting_weights.pretrained("mobilenet_v2", path, 0)[0].eval()
    found = model.classifier(trunk(image_batch())[:, -1280:])
    torch.testing.assert_close(found, model(image_batch()), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_squeezenet_gives_its_published_logits():
    """Its last layer is a convolution before the pool, so it is given the trunk's maps; their mean is in the vector."""
    path, model = published("squeezenet1_1")
    trunk = starting_weights.pretrained("squeezenet1_1", path, 0)[0].eval()
    maps = trunk.last(image_batch())
    found = model.classifier(maps).flatten(1)
    torch.testing.assert_close(found, model(image_batch()), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(trunk(image_batch())[:, -512:], maps.mean((2, 3)))


@torch.inference_mode()
def test_efficientnet_lite0_gives_its_published_logits(tmp_path):
    if not (plan.installed("timm") and plan.installed(solar.WEIGHTS)):
        pytest.skip("the packages of `make solar` are not installed")
    import timm

    state = solar.read_weights(solar.package_folder(solar.WEIGHTS))
    tensors.save(tmp_path / "weights.safetensors", state, "test")
    trunk = starting_weights.pretrained(solar.ARCH, str(tmp_path / "weights.safetensors"), 0)[0].eval()
    model = timm.create_model(solar.ARCH.removeprefix("timm/")).eval()
    model.load_state_dict(state)
    found = model.classifier(trunk(image_batch())[:, -1280:])
    torch.testing.assert_close(found, model(image_batch()), rtol=1e-4, atol=1e-4)
