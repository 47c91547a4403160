"""Views: view k of image i is a pure function of (seed, k, i).

View 0 is the plain one: short side to size, centre crop. Views 1, 2, ... are augmented. A view is chosen on the
host, as one affine map per image (`choose`), and made on the device, for a whole batch at once (`render`).
The transforms and their ranges are those of fastai 0.7: scale, rotation, lighting, flip, crop; reflected edges.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from eightfold.core.randomness import generator

PLAIN = 0

# One random number in [0, 1) each, drawn whether used or not: a preset that ignores one does not shift the others.
_COLUMNS = ("zoom_if", "zoom", "turn_if", "turn", "brightness", "contrast", "flip", "x", "y", "area", "aspect")
_CHANCE = 0.75  # of a zoom, and of a rotation
_STRIPS = 8  # that an image is divided into, for threads
_SYMMETRIES = {"basic": 1, "side_on": 2, "top_down": 8}  # how many of the square's 8 a preset draws from


class Choice(NamedTuple):
    """What to do to each image of a batch.

    affine: float64 (images, 2, 3), from the centre of an output pixel (x, y, in px) to the source (x, y, in px).
    brightness, contrast: float64 (images,), zero for none.
    """

    affine: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray


def view_table(seed: int, view: int, images: int) -> np.ndarray:
    """The random numbers of a view: float64 (images, columns) in [0, 1). Row i does not depend on ``images``."""
    return generator(seed, "view", view).random((images, len(_COLUMNS)))


def _matrix(images: int, xx=1.0, xy=0.0, x=0.0, yx=0.0, yy=1.0, y=0.0) -> np.ndarray:
    """Affine maps (images, 3, 3) from their six coefficients, each a number or (images,)."""
    matrix = np.zeros((images, 3, 3))
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 0, 2] = xx, xy, x
    matrix[:, 1, 0], matrix[:, 1, 1], matrix[:, 1, 2] = yx, yy, y
    matrix[:, 2, 2] = 1
    return matrix


def dihedral(which: np.ndarray, size: int) -> np.ndarray:
    """The 8 symmetries of a square of ``size`` px as affine maps (images, 3, 3).

    Bit 0 of ``which`` flips left and right, bit 1 up and down, bit 2 swaps the axes.
    """
    swap = (which & 4) > 0
    flip_x, flip_y = np.where(which & 1, -1.0, 1.0), np.where(which & 2, -1.0, 1.0)
    return _matrix(
        len(which),
        xx=np.where(swap, 0, flip_x),
        xy=np.where(swap, flip_x, 0),
        x=np.where(which & 1, size, 0),
        yx=np.where(swap, flip_y, 0),
        yy=np.where(swap, 0, flip_y),
        y=np.where(which & 2, size, 0),
    )


def _turn(degrees: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Rotation about the middle of a (width, height) canvas."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x, y = width / 2, height / 2
    return _matrix(len(degrees), cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)


def choose(table: np.ndarray | None, heights: np.ndarray, widths: np.ndarray, size: int, augmentation: dict) -> Choice:
    """The maps of a batch of images of the given heights and widths (px) to squares of ``size`` px.

    ``table`` holds the rows of `view_table` for these images; None asks for the plain view. ``augmentation`` holds
    preset, max_zoom, max_rotate (degrees), max_light and crop, as in config.yaml.
    """
    images = len(heights)
    heights, widths = np.asarray(heights, float), np.asarray(widths, float)
    crop = augmentation["crop"]
    zoom, turn, flip = np.ones(images), np.zeros(images), np.zeros(images, int)
    brightness = contrast = at_x = at_y = np.zeros(images)
    if table is None or augmentation["preset"] == "none":
        crop = "squish" if crop == "squish" else "center"
    else:
        draw = dict(zip(_COLUMNS, table.T, strict=True))
        zoom = np.where(draw["zoom_if"] < _CHANCE, 1 + draw["zoom"] * (augmentation["max_zoom"] - 1), 1.0)
        turn = np.where(draw["turn_if"] < _CHANCE, (2 * draw["turn"] - 1) * augmentation["max_rotate"], 0.0)
        flip = np.floor(draw["flip"] * _SYMMETRIES[augmentation["preset"]]).astype(int)
        light = augmentation["max_light"]
        brightness, contrast = (2 * draw["brightness"] - 1) * light, (2 * draw["contrast"] - 1) * light
        at_x, at_y = draw["x"], draw["y"]
    if crop in ("center", "squish"):
        at_x = at_y = np.full(images, 0.5)

    # The canvas: the image scaled so that the crop of size x size is cut from it at (left, top).
    if crop == "squish":
        scale_x, scale_y = size * zoom / widths, size * zoom / heights
    elif crop == "area":
        # A box of 8-100 % of the area and an aspect of 3/4 to 4/3 (log-uniform), as in Inception; clipped to the image.
        area = (0.08 + 0.92 * draw["area"]) * heights * widths
        aspect = np.exp((2 * draw["aspect"] - 1) * np.log(4 / 3))
        box_w, box_h = np.minimum(np.sqrt(area * aspect), widths), np.minimum(np.sqrt(area / aspect), heights)
        scale_x, scale_y = size / box_w, size / box_h
    else:
        scale_x = scale_y = size * zoom / np.minimum(heights, widths)
    canvas_w, canvas_h = widths * scale_x, heights * scale_y
    left, top = at_x * (canvas_w - size), at_y * (canvas_h - size)

    to_canvas = _matrix(images, x=left, y=top) @ dihedral(flip, size)
    to_source = _matrix(images, xx=1 / scale_x, yy=1 / scale_y) @ _turn(turn, canvas_w, canvas_h)
    return Choice((to_source @ to_canvas)[:, :2], brightness, contrast)


def _reflect(position: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Positions (px, edges at 0 and ``length``) folded back into the image, to the centre-based [0, length - 1]."""
    position = torch.remainder(position, 2 * length)
    position = torch.where(position > length, 2 * length - position, position) - 0.5
    return torch.minimum(position.clamp_(min=0), length - 1)


def sample(
    flat: torch.Tensor,
    offsets: torch.Tensor,
    heights: torch.Tensor,
    widths: torch.Tensor,
    affine: torch.Tensor,
    size: int,
) -> torch.Tensor:
    """Bilinear samples of images that lie end to end: float32 (images, 3, size, size) in 0-255.

    flat: uint8 (pixels, 4), the fourth channel unused, or on the CPU (pixels, 3); offsets, heights, widths: (images,);
    affine: (images, 2, 3).
    Equals `torch.nn.functional.grid_sample(padding_mode="reflection", align_corners=False)` of each image.
    """
    on = _sample_one_by_one if flat.device.type == "cpu" else _sample_together
    return on(flat, offsets, heights, widths, affine, size)


def _sample_one_by_one(flat, offsets, heights, widths, affine, size: int) -> torch.Tensor:
    """`sample` for a CPU, whose caches hold one image. A third of `_sample_together`'s time there (bench/README.md)."""
    high = -(-size // _STRIPS) * _STRIPS  # rows that divide into strips; those past ``size`` are cut off
    scale = 2.0 / torch.stack([widths, heights], 1)  # to grid_sample's units, where an image spans -1 to 1
    affine = affine.double() * scale[:, :, None]
    affine[:, :, 2] -= 1
    centre = torch.arange(high, dtype=torch.float64) + 0.5
    along_x = (affine[:, :, 0, None] * centre[:size]).float()  # (images, 2, size)
    along_y = (affine[:, :, 1, None] * centre + affine[:, :, 2, None]).float()  # (images, 2, high)
    grid = torch.empty(high, size, 2)
    out = torch.empty(len(offsets), 3, size, size)
    for i, (start, height, width) in enumerate(zip(offsets.tolist(), heights.tolist(), widths.tolist(), strict=True)):
        for axis in (0, 1):
            torch.add(along_x[i, axis], along_y[i, axis, :, None], out=grid[:, :, axis])
        image = flat[start : start + height * width, :3].view(height, width, 3).float().permute(2, 0, 1)
        # In strips, because grid_sample gives each thread images of a batch.
        strips = F.grid_sample(
            image.expand(_STRIPS, -1, -1, -1), grid.view(_STRIPS, -1, size, 2), "bilinear", "reflection", False
        )
        out[i] = strips.transpose(0, 1).reshape(3, high, size)[:, :size]
    return out


def _sample_together(flat, offsets, heights, widths, affine, size: int) -> torch.Tensor:
    """`sample` for an accelerator: a dozen operations for the whole batch, whatever the images' sizes."""
    packed = flat.view(torch.int32).squeeze(1)  # (pixels,): one gather fetches all channels
    centre = torch.arange(size, dtype=torch.float32, device=flat.device) + 0.5
    a = affine.to(torch.float32)[:, :, :, None, None]  # (images, 2, 3, 1, 1)
    heights, widths = heights[:, None, None], widths[:, None, None]
    x = _reflect(a[:, 0, 0] * centre + a[:, 0, 1] * centre[:, None] + a[:, 0, 2], widths)  # (images, size, size)
    y = _reflect(a[:, 1, 0] * centre + a[:, 1, 1] * centre[:, None] + a[:, 1, 2], heights)
    x0, y0 = x.floor(), y.floor()
    right, down = (x - x0)[..., None], (y - y0)[..., None]  # (images, size, size, 1)
    x0, y0 = x0.long(), y0.long()
    x1, y1 = torch.minimum(x0 + 1, widths - 1), torch.minimum(y0 + 1, heights - 1)
    row0, row1 = offsets[:, None, None] + y0 * widths, offsets[:, None, None] + y1 * widths

    def fetch(index: torch.Tensor) -> torch.Tensor:
        return packed[index].view(torch.uint8).view(*index.shape, 4)[..., :3].float()  # (images, size, size, 3)

    upper = torch.lerp(fetch(row0 + x0), fetch(row0 + x1), right)
    lower = torch.lerp(fetch(row1 + x0), fetch(row1 + x1), right)
    return torch.lerp(upper, lower, down).permute(0, 3, 1, 2)  # channels last in memory


def light(x: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
    """fastai 0.7's lighting of images (images, 3, h, w) in 0-1, in place: contrast about the mean, then brightness; clipped.

    The mean is taken in steps of fixed shape: its bytes then do not depend on how a batch is split.
    """
    factor = torch.where(contrast >= 0, contrast + 1, -1 / (contrast - 1))[:, None, None, None]
    mean = x.mean(3).mean(2).mean(1)[:, None, None, None]
    # (x - mean) * factor + mean + brightness
    return x.mul_(factor).add_(mean * (1 - factor) + brightness[:, None, None, None]).clamp_(0, 1)


def render(
    flat: torch.Tensor,
    offsets: torch.Tensor,
    heights: torch.Tensor,
    widths: torch.Tensor,
    choice: Choice,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> torch.Tensor:
    """The chosen views of a batch, normalised: float32 (images, 3, size, size), channels last, where ``flat`` is."""
    device = flat.device
    affine = torch.from_numpy(choice.affine).to(device, torch.float32)
    x = sample(flat, offsets, heights, widths, affine, size).div_(255)
    if choice.brightness.any() or choice.contrast.any():
        brightness = torch.from_numpy(choice.brightness).to(device, torch.float32)
        contrast = torch.from_numpy(choice.contrast).to(device, torch.float32)
        x = light(x, brightness, contrast)
    shape = (1, 3, 1, 1)
    x = x.sub_(torch.tensor(mean, device=device).view(shape)).div_(torch.tensor(std, device=device).view(shape))
    return x.contiguous(memory_format=torch.channels_last)
