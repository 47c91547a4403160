"""A run's networks as one function that needs nothing of this project: pixels in, probabilities out.

Normalisation, every network that answers, its weight and the run's temperature are inside; resizing is outside,
since neither format has a resize that equals ours to the bit.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from eightfold.core.files import UserError, replacing
from eightfold.predict.ensembles import Blend
from eightfold.predict.finished import Network

INPUT, OUTPUT = "pixels", "probabilities"
EXTRAS = "pip install -r envs/requirements-extra.txt"


class Classifier(nn.Module):
    """For each size that the networks see, rising, float32 (n, size, size, 3), RGB in 0-255, to probabilities float32
    (n, classes): what the members answer by the plain view."""

    def __init__(
        self,
        nets: Sequence[nn.Module],
        weights: Sequence[float],
        sizes: Sequence[int],
        mean_std: tuple[Sequence[float], Sequence[float]],
        single_label: bool,
        average: str = "arithmetic",
        temperature: float = 1.0,
    ):
        """weights, sizes: of each network. mean_std: of a channel, in parts of 1, that images are normalised with."""
        super().__init__()
        self.temperature, self.average = temperature, average
        self.nets, self.single_label = nn.ModuleList(nets), single_label
        self.inputs = [sorted(set(sizes)).index(size) for size in sizes]
        mean, std = mean_std
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32) / sum(weights))
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, *pixels: torch.Tensor) -> torch.Tensor:
        images = [(of_size.permute(0, 3, 1, 2) - self.mean) / self.std for of_size in pixels]
        answer = 0
        for number, (net, place) in enumerate(zip(self.nets, self.inputs, strict=True)):
            logits = net(images[place])
            if self.average == "geometric":
                logits = logits.log_softmax(1) if self.single_label else logits
            else:
                logits = logits.softmax(1) if self.single_label else logits.sigmoid()
            answer = answer + self.weights[number] * logits
        if self.average == "geometric":
            answer = answer.softmax(1) if self.single_label else answer.sigmoid()
        if self.temperature == 1:
            return answer
        answer = answer.clamp(min=1e-30)  # as tuning.with_temperature, in the digits of float32
        if self.single_label:
            return (answer.log() / self.temperature).softmax(1)
        return ((answer.log() - (1 - answer).clamp(min=1e-12).log()) / self.temperature).sigmoid()


def weigh(folds: Sequence[Sequence[Network]], blend: Blend) -> list[float]:
    """What each network of each fold weighs in its fold's answer. blend: a member for each, by its plain view."""
    weight_of = {(m.stage, m.network): float(w) for m, w in zip(blend.members, blend.weights, strict=True)}
    return [weight_of[network.stage, network.name] for networks in folds for network in networks]


def build(
    nets: Sequence[nn.Module], folds: Sequence[Sequence[Network]], blend: Blend, weights: Mapping, temperature: float
) -> Classifier:
    """The networks of all ``folds``, which are ``nets`` in this order, as one that answers as ``blend`` does, in evaluation mode.

    weights: weights.json, for mean and std.
    """
    return Classifier(
        nets,
        [weight / len(folds) for weight in weigh(folds, blend)],
        [network.size for networks in folds for network in networks],
        (weights["mean"], weights["std"]),
        not blend.multi_label,
        blend.average,
        temperature,
    ).eval()


def describe(info: Mapping, folds: Sequence[Sequence[Network]], blend: Blend, crop: str, tuned: Mapping) -> dict:
    """The notes of a model, for whoever uses it. info: the manifest's. crop: of augmentation. tuned: tuning.json."""
    sizes = sorted({network.size for networks in folds for network in networks})
    networks = [
        {"fold": fold, "stage": network.stage, "network": network.name}
        for fold, networks in enumerate(folds)
        for network in networks
    ]
    return {
        "classes": info["classes"],
        "task": info["task"],
        "inputs": {
            name: f"float32 (n, {size}, {size}, 3), RGB, 0 to 255"
            for name, size in zip(input_names(sizes), sizes, strict=True)
        },
        "output": "float32 (n, classes), probabilities",
        "sizes": sizes,
        "crop": "squish" if crop == "squish" else "center",
        "networks": [
            {**network, "weight": weight} for network, weight in zip(networks, weigh(folds, blend), strict=True)
        ],
        "tuning": tuned,
    }


# ---- compared with the run's own networks


def choose_rows(table: pd.DataFrame, most: int) -> np.ndarray:
    """At most ``most`` rows of the manifest that can be read, spread over it."""
    rows = table.index[table["status"] == "ok"].to_numpy()
    return rows[:: max(1, len(table) // most)][:most]


def answer_plain(
    nets: Sequence[nn.Module], folds: Sequence[Sequence[Network]], inputs: Mapping[int, torch.Tensor]
) -> list[dict[str, np.ndarray]]:
    """The logits (1, n, classes) of each network of each fold, by its key. inputs: normalised images, by the size that it sees."""
    of_net = iter(nets)
    with torch.inference_mode():
        return [{n.key: next(of_net)(inputs[n.size]).numpy()[None] for n in networks} for networks in folds]


def undo_normalisation(images: torch.Tensor, weights: Mapping) -> np.ndarray:
    """Pixels 0 to 255, float32 (n, size, size, 3), of normalised images (n, 3, size, size). weights: weights.json, for mean and std."""
    mean, std = (torch.tensor(weights[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return ((images * std + mean) * 255).permute(0, 2, 3, 1).contiguous().numpy()


# ---- files


def input_names(sizes: Sequence[int]) -> list[str]:
    """The names of a model's inputs: "pixels", or of several sizes "pixels_224", "pixels_299"."""
    return [INPUT] if len(sizes) == 1 else [f"{INPUT}_{size}" for size in sizes]


def _example(sizes: Sequence[int]) -> tuple[tuple[torch.Tensor, ...], tuple]:
    """Inputs for tracing, and the axis of them that may be of any length."""
    images = torch.export.Dim("n", min=1)
    return tuple(torch.zeros(2, size, size, 3) for size in sizes), (tuple({0: images} for _ in sizes),)


def write_program(path: str | os.PathLike, model: nn.Module, sizes: Sequence[int], notes: dict) -> None:
    """The model as a torch.export program (.pt2) for any number of images, with ``notes`` as its file eightfold.json."""
    example, shapes = _example(sizes)
    program = torch.export.export(model, example, dynamic_shapes=shapes)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.export.save(program, file, extra_files={"eightfold.json": json.dumps(notes, sort_keys=True)})


def write_onnx(path: str | os.PathLike, model: nn.Module, sizes: Sequence[int], notes: dict) -> None:
    """The model as ONNX, with ``notes`` as metadata. Raises UserError where the optional packages are missing."""
    try:
        import onnx
        import onnxruntime  # noqa: F401 - wanted for the check that follows
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise UserError(f"export to ONNX needs a package that is not installed ({error.name}): {EXTRAS}") from error
    example, shapes = _example(sizes)
    made = torch.onnx.export(
        model,
        example,
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=input_names(sizes),
        output_names=[OUTPUT],
        verbose=False,
    ).model_proto
    del made.metadata_props[:]
    for name, value in sorted(notes.items()):
        made.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))
    with replacing(path) as temporary:
        onnx.save(made, os.fspath(temporary))


def run_program(path: str | os.PathLike, pixels: Sequence[np.ndarray]) -> np.ndarray:
    """What a .pt2 file says of pixels (n, size, size, 3), an array for each size."""
    with torch.inference_mode():
        return torch.export.load(path).module()(*map(torch.from_numpy, pixels)).numpy()


def run_onnx(path: str | os.PathLike, pixels: Sequence[np.ndarray]) -> np.ndarray:
    """What an .onnx file says of pixels (n, size, size, 3), an array for each size, by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return session.run([OUTPUT], dict(zip(names, pixels, strict=True)))[0]


FORMATS = {".pt2": (write_program, run_program), ".onnx": (write_onnx, run_onnx)}  # by a file's suffix


def agree(path: str | os.PathLike, said: np.ndarray, wanted: np.ndarray, tolerance: float) -> float:
    """The largest difference of probabilities. Removes the file and raises UserError when it is above ``tolerance``."""
    worst = float(np.abs(said - wanted).max(initial=0))
    if not worst <= tolerance:
        Path(path).unlink(missing_ok=True)
        raise UserError(
            f"{path}: removed, since its probabilities differ from the run's own by {worst:.2g} (> {tolerance})"
        )
    return worst
