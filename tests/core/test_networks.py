"""How networks and weights are named."""

import pytest

from eightfold.core.networks import is_path, networks_of


def test_each_network_has_its_weights_or_all_have_the_same():
    assert networks_of("a", "DEFAULT") == [("a", "DEFAULT")] == networks_of("a", ["DEFAULT"])
    assert networks_of("a+b", "none") == [("a", "none"), ("b", "none")]
    assert networks_of("a+b", ["x.pth", "package:y"]) == [("a", "x.pth"), ("b", "package:y")]
    with pytest.raises(ValueError):
        networks_of("a+b+c", ["x.pth", "y.pth"])


@pytest.mark.parametrize("weights", ["x.pth", "w/x", "../x.safetensors"])
def test_a_path_has_a_slash_or_a_suffix(weights):
    assert is_path(weights)


@pytest.mark.parametrize("weights", ["none", "DEFAULT", "IMAGENET1K_V1", "package:a.b"])
def test_a_name_is_no_path(weights):
    assert not is_path(weights)
