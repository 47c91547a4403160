"""Parts of a network, read from a checkpoint or refused."""

import pytest
import torch
from classifiers import ARCH

from eightfold.core import tensors
from eightfold.core.files import UserError
from eightfold.net import checkpoint_parts, heads, trunks


def test_a_part_of_a_checkpoint_is_loaded_or_refused(tmp_path):

    head, other = heads.head(12, 2, 0), heads.head(12, 2, 1)
    tensors.save(tmp_path / "c.safetensors", {f"head.{k}": v for k, v in head.state_dict().items()}, "me")
    checkpoint_parts.load_part(other, tmp_path / "c.safetensors", "head")
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), other.state_dict().values(), strict=True))
    with pytest.raises(UserError, match=r"c\.safetensors: not the head of this network"):
        checkpoint_parts.load_part(heads.head(12, 3, 1), tmp_path / "c.safetensors", "head")
    with pytest.raises(UserError, match="not the trunk of this network"):
        checkpoint_parts.load_part(trunks.trunk_outline(ARCH), tmp_path / "c.safetensors", "trunk")


@pytest.mark.parametrize("make", [lambda: heads.LinearHead(12, 3), lambda: heads.head(12, 3, 1)], ids=["linear", "0.7"])
def test_the_head_of_a_checkpoint_is_known_by_its_tensors(make, tmp_path):
    made = make()
    state = {f"head.{name}": value for name, value in made.state_dict().items()}
    state |= {f"snapshot1.head.{name}": value * 2 for name, value in made.state_dict().items()}
    tensors.save(tmp_path / "c.safetensors", state, "identity")
    found, second = (
        checkpoint_parts.load_head(tmp_path / "c.safetensors"),
        checkpoint_parts.load_head(tmp_path / "c.safetensors", "snapshot1.head"),
    )
    assert type(found) is type(made) and [p.requires_grad for p in found.parameters()] == [True] * len(
        list(found.parameters())
    )
    x = torch.randn(4, 12)
    with torch.no_grad():
        torch.testing.assert_close(found.eval()(x), made.eval()(x))
        assert not torch.allclose(second.eval()(x), made.eval()(x))
    with pytest.raises(UserError, match="holds no head named other"):
        checkpoint_parts.load_head(tmp_path / "c.safetensors", "other")
