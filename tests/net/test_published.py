"""The published file that a name of weights stands for."""

import re

import pytest
from torchvision.models import ResNet50_Weights, get_model_weights

from eightfold.net.published import published_file


def test_default_is_the_file_of_the_weights_that_torchvision_takes_for_it():
    assert published_file("resnet50", "DEFAULT") == ResNet50_Weights.IMAGENET1K_V2.url.rpartition("/")[2]
    assert published_file("resnet50", "IMAGENET1K_V1") == ResNet50_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    assert published_file("resnet50", "IMAGENET1K_V1") != published_file("resnet50", "DEFAULT")


@pytest.mark.parametrize("arch", ["resnet18", "densenet121", "efficientnet_b0"])
def test_the_name_of_the_file_ends_with_the_beginning_of_its_digest(arch):
    assert re.search(r"-[0-9a-f]{8}\.pth$", published_file(arch, get_model_weights(arch).DEFAULT.name))


@pytest.mark.parametrize("weights", ["none", "mine.pth", "folder/mine.safetensors", "NO_SUCH_NAME"])
def test_what_is_not_published_has_no_such_file(weights):
    assert published_file("resnet18", weights) is None


def test_timms_weights_are_named_by_their_tag():
    pytest.importorskip("timm", reason="envs/requirements-extra.txt is not installed")
    assert "a1_in1k" in published_file("timm/resnet18.a1_in1k", "DEFAULT")
