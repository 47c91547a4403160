"""A run's networks as one function that needs nothing of this project: pixels in, probabilities out.

Normalisation, every member of the ensemble, the mean over them and the run's temperature are inside; resizing is outside,
since neither format has a resize that equals ours to the bit.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from eightfold.files import UserError, replacing
from eightfold.finished import Member

INPUT, OUTPUT = "pixels", "probabilities"
EXTRAS = "pip install -r envs/requirements-extra.txt"


class Classifier(nn.Module):
    """float32 (n, size, size, 3), RGB in 0-255, to probabilities float32 (n, classes): the plain view's answer."""

    def __init__(
        self,
        nets: Sequence[nn.Module],
        members: Sequence[Member],
        mean: Sequence[float],
        std: Sequence[float],
        single_label: bool,
        temperature: float = 1.0,
    ):
        super().__init__()
        self.temperature = temperature
        self.nets, self.single_label = nn.ModuleList(nets), single_label
        folds = [member.fold for member in members]
        weights = [1 / len(set(folds)) / folds.count(fold) for fold in folds]  # snapshots share their fold's part
        self.register_buffer("weights", torch.tensor(weights))
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = (pixels.permute(0, 3, 1, 2) - self.mean) / self.std
        answer = 0
        for number, net in enumerate(self.nets):
            logits = net(x)
            answer = answer + self.weights[number] * (logits.softmax(1) if self.single_label else logits.sigmoid())
        if self.temperature == 1:
            return answer
        answer = answer.clamp(min=1e-30)  # as tuning.with_temperature, in the digits of float32
        if self.single_label:
            return (answer.log() / self.temperature).softmax(1)
        return ((answer.log() - (1 - answer).clamp(min=1e-12).log()) / self.temperature).sigmoid()


def write_program(path: str | os.PathLike, model: nn.Module, size: int, notes: dict) -> None:
    """The model as a torch.export program (.pt2) for any number of pictures, with ``notes`` as its file eightfold.json."""
    example = (torch.zeros(2, size, size, 3),)
    program = torch.export.export(model, example, dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.export.save(program, file, extra_files={"eightfold.json": json.dumps(notes, sort_keys=True)})


def write_onnx(path: str | os.PathLike, model: nn.Module, size: int, notes: dict) -> None:
    """The model as ONNX, with ``notes`` as metadata. Raises UserError where the optional packages are missing."""
    try:
        import onnx
        import onnxruntime  # noqa: F401 - wanted for the check that follows
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise UserError(f"export to ONNX needs a package that is not installed ({error.name}): {EXTRAS}") from error
    example = (torch.zeros(2, size, size, 3),)
    made = torch.onnx.export(
        model,
        example,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
        input_names=[INPUT],
        output_names=[OUTPUT],
        verbose=False,
    ).model_proto
    del made.metadata_props[:]
    for name, value in sorted(notes.items()):
        made.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))
    with replacing(path) as temporary:
        onnx.save(made, os.fspath(temporary))


def run_program(path: str | os.PathLike, pixels: np.ndarray) -> np.ndarray:
    """What a .pt2 file says of pixels (n, size, size, 3)."""
    with torch.inference_mode():
        return torch.export.load(path).module()(torch.from_numpy(pixels)).numpy()


def run_onnx(path: str | os.PathLike, pixels: np.ndarray) -> np.ndarray:
    """What an .onnx file says of pixels (n, size, size, 3), by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {INPUT: pixels})[0]


def agree(path: str | os.PathLike, said: np.ndarray, wanted: np.ndarray, tolerance: float) -> float:
    """The largest difference of probabilities. Removes the file and raises UserError when it is above ``tolerance``."""
    worst = float(np.abs(said - wanted).max(initial=0))
    if not worst <= tolerance:
        Path(path).unlink(missing_ok=True)
        raise UserError(
            f"{path}: removed, since its probabilities differ from the run's own by {worst:.2g} (> {tolerance})"
        )
    return worst
