"""A run's networks as one function that needs nothing of this project: pixels in, probabilities out.

Normalisation, every network that answers, its weight and the run's temperature are inside; resizing is outside,
since neither format has a resize that equals ours to the bit.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from eightfold.core.files import UserError, replacing

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


def input_names(sizes: Sequence[int]) -> list[str]:
    """The names of a model's inputs: "pixels", or of several sizes "pixels_224", "pixels_299"."""
    return [INPUT] if len(sizes) == 1 else [f"{INPUT}_{size}" for size in sizes]


def _example(sizes: Sequence[int]) -> tuple[tuple[torch.Tensor, ...], tuple]:
    """Inputs for tracing, and the axis of them that may be of any length."""
    images = torch.export.Dim("n", min=1)
    return tuple(torch.zeros(2, size, size, 3) for size in sizes), (tuple({0: images} for _ in sizes),)


def write_program(path: str | os.PathLike, model: nn.Module, sizes: Sequence[int], notes: dict) -> None:
    """The model as a torch.export program (.pt2) for any number of pictures, with ``notes`` as its file eightfold.json."""
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


def agree(path: str | os.PathLike, said: np.ndarray, wanted: np.ndarray, tolerance: float) -> float:
    """The largest difference of probabilities. Removes the file and raises UserError when it is above ``tolerance``."""
    worst = float(np.abs(said - wanted).max(initial=0))
    if not worst <= tolerance:
        Path(path).unlink(missing_ok=True)
        raise UserError(
            f"{path}: removed, since its probabilities differ from the run's own by {worst:.2g} (> {tolerance})"
        )
    return worst
