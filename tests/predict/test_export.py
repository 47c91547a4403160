"""Exported models: networks as one that answers as the run does, and the notes beside it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from eightfold.core.files import UserError
from eightfold.predict import answer, export
from eightfold.predict.ensembles import Blend, Member
from eightfold.predict.finished import Network

WEIGHTS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
INFO = {"classes": ["ant", "bee"], "task": "single"}
TTA = {"average": "arithmetic", "weights": "equal"}
TUNED = {"temperature": 2.0}


class Tiny(nn.Module):
    """Logits that are a linear function of an image's mean colour."""

    def __init__(self, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.linear = nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.mean((2, 3)))


def network(stage: str, name: str, size: int) -> Network:
    return Network(stage, name, size, "trunk", "", "head", "")


FOLDS = [[network("head", "end", 4), network("all", "cycle1", 6)]] * 2


def blend_of(average: str = "arithmetic", multi_label: bool = False) -> Blend:
    return Blend([Member("head", "end"), Member("all", "cycle1")], np.array([0.25, 0.75]), average, multi_label)


@pytest.fixture
def inputs():
    random = torch.Generator().manual_seed(0)
    return {size: torch.randn(5, 3, size, size, generator=random) for size in (4, 6)}


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_one_model_of_pixels_answers_as_the_run_does(inputs, average, multi_label, temperature):
    nets, blend = [Tiny(seed) for seed in range(4)], blend_of(average, multi_label)
    wanted = answer.combine_networks(export.answer_plain(nets, FOLDS, inputs), blend, TTA, temperature)
    model = export.build(nets, FOLDS, blend, WEIGHTS, temperature)
    pixels = [torch.tensor(export.undo_normalisation(images, WEIGHTS)) for images in inputs.values()]
    with torch.no_grad():
        np.testing.assert_allclose(model(*pixels), wanted, atol=1e-6)
    if average == "arithmetic" and temperature == 1:
        with torch.no_grad():
            p = [net(inputs[size]).numpy() for net, size in zip(nets, (4, 6, 4, 6), strict=True)]
        p = [1 / (1 + np.exp(-z)) if multi_label else np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in p]
        by_hand = (0.25 * p[0] + 0.75 * p[1] + 0.25 * p[2] + 0.75 * p[3]) / 2
        np.testing.assert_allclose(wanted, by_hand, rtol=1e-5)


def test_pixels_are_normalised_images_undone(inputs):
    pixels = export.undo_normalisation(inputs[4], WEIGHTS)
    assert pixels.shape == (5, 4, 4, 3) and pixels.dtype == np.float32
    again = (pixels / 255 - WEIGHTS["mean"]) / WEIGHTS["std"]
    np.testing.assert_allclose(again.transpose(0, 3, 1, 2), inputs[4], atol=1e-5)


def test_notes_say_what_goes_in_and_who_answers_with_what_weight():
    notes = export.describe(INFO, FOLDS, blend_of(), "random", TUNED)
    assert notes["classes"] == ["ant", "bee"] and notes["task"] == "single" and notes["tuning"] == TUNED
    assert notes["sizes"] == [4, 6] and list(notes["inputs"]) == ["pixels_4", "pixels_6"] and notes["crop"] == "center"
    rows = [(row["fold"], row["stage"], row["network"], row["weight"]) for row in notes["networks"]]
    assert rows == [(fold, *who) for fold in (0, 1) for who in (("head", "end", 0.25), ("all", "cycle1", 0.75))]
    one = export.describe(INFO, [FOLDS[0][:1]], blend_of(), "squish", TUNED)
    assert list(one["inputs"]) == ["pixels"] and one["crop"] == "squish"
    json.dumps(notes)  # for the file beside the model


def test_the_rows_that_are_checked_can_be_read_and_are_spread():
    table = pd.DataFrame({"status": ["ok", "unreadable"] + ["ok"] * 18})
    assert export.choose_rows(table, 4).tolist() == [0, 6, 11, 16]
    assert export.choose_rows(table, 100).tolist() == [0, *range(2, 20)]


def test_a_model_that_disagrees_is_removed(tmp_path):
    path = tmp_path / "model.pt2"
    path.write_bytes(b"model")
    said = np.array([[0.5, 0.5]])
    assert export.agree(path, said, said + 1e-5, 1e-4) == pytest.approx(1e-5) and path.exists()
    with pytest.raises(UserError, match=r"differ from the run's own by 0\.1"):
        export.agree(path, said, said + 0.1, 1e-4)
    assert not path.exists()
