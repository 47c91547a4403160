"""Which networks are compared."""

import pytest

from eightfold.config import racers
from eightfold.config.plan import Plan
from eightfold.config.racers import racers_of
from eightfold.config.resolve import resolve
from eightfold.core.files import UserError

MODEL = {"arch": "resnet18", "weights": "own.pth"}


def test_the_run_s_own_network_comes_first_and_others_take_their_default_weights():
    found = racers_of(MODEL, "squeezenet1_1 mobilenet_v2=w/m=1.pth timm/test_vit", gpu=False)
    assert [(racer.name, racer.parts) for racer in found] == [
        ("resnet18", (("resnet18", "own.pth"),)),
        ("squeezenet1_1", (("squeezenet1_1", "DEFAULT"),)),
        ("mobilenet_v2", (("mobilenet_v2", "w/m=1.pth"),)),
        ("timm/test_vit", (("timm/test_vit", "DEFAULT"),)),
    ]
    assert found[3].folder == "timm_test_vit"


def test_networks_are_put_together_with_the_weights_that_they_have_alone():
    found = racers_of(MODEL, ["squeezenet1_1=s.pth", "resnet18+squeezenet1_1"], gpu=False)
    assert found[2].parts == (("resnet18", "own.pth"), ("squeezenet1_1", "s.pth"))


def test_a_run_of_several_networks_is_compared_as_it_is():
    model = {"arch": ["resnet18", "resnet34"], "weights": ["a.pth", "b.pth"]}
    found = racers_of(model, ["resnet34"], gpu=False)
    assert found[0].parts == (("resnet18", "a.pth"), ("resnet34", "b.pth"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("resnet34 resnet34", "resnet34 comes twice"),
        ("resnet18=other.pth", "resnet18 comes twice; the run's own"),
        ("resnet18+resnet34", "needs resnet34 in the list before it"),
        ("resnet34 resnet18+resnet34=x.pth", "takes its networks' own weights"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        racers_of(MODEL, words, gpu=False)


def test_without_a_list_those_on_this_machine_are_compared(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    names = [racer.name for racer in racers_of(MODEL, "auto", gpu=False)]
    assert names == ["resnet18", *racers.SMALL]
    held = tmp_path / "torch" / "hub" / "checkpoints"
    held.mkdir(parents=True)
    (held / "resnet34-b627a593.pth").touch()
    (held / "efficientnet_b0_rwightman-7f5810bc.pth").touch()  # of a name that only begins like one
    assert [racer.name for racer in racers_of(MODEL, "auto", gpu=False)] == ["resnet18", "resnet34"]
    arch = racers.LARGE[-1]
    snapshot = tmp_path / "hf" / "hub" / f"models--timm--{arch.removeprefix('timm/')}" / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    assert [racer.name for racer in racers_of(MODEL, "auto", gpu=True)] == ["resnet18", arch]


def test_the_usual_networks_are_ones_that_the_config_takes():
    for arch in racers.SMALL + racers.LARGE:
        resolve({"model": {"arch": arch}})


def test_activations_of_a_racer_are_those_that_a_run_of_it_would_have():
    recipe = [{"name": "linear", "size": 64, "train": "linear", "augment": False}]
    here = Plan(resolve({"model": {"arch": "resnet18"}, "recipe": recipe, "trunks": ["squeezenet1_1"]}))
    there = Plan(resolve({"model": {"arch": "squeezenet1_1"}, "recipe": recipe}))
    assert here.activations_of_racer("squeezenet1_1") == there.activations("linear", "0")
    assert here.activations_of_racer("resnet18") == here.activations("linear", "0")
