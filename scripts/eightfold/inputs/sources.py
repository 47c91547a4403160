"""Where a stage's inputs come from: the same call for cached activations and for views made from pixels.

A source is called with rows of the manifest and a view, and gives the network's inputs on the device.
"""

import os
from collections.abc import Sequence

import numpy as np
import torch

from eightfold.core.devices import Device
from eightfold.core.files import UserError
from eightfold.inputs import views
from eightfold.inputs.pixels import Pixels


class Views:
    """Views of packed pixels: (rows, view) -> float32 (rows, 3, size, size). ``device.device`` does the sampling."""

    def __init__(
        self,
        pixels: Pixels,
        size: int,
        augmentation: dict,
        seed: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: Device,
    ):
        self.pixels, self.size, self.augmentation, self.seed = pixels, size, augmentation, seed
        self.mean, self.std, self.device = tuple(mean), tuple(std), device.device
        self._table: tuple[int, np.ndarray] | None = None  # of the view asked for last

    def __call__(self, rows: np.ndarray, view: int) -> torch.Tensor:
        flat, offsets, heights, widths = self.pixels.batch(rows)
        if not (heights > 0).all():
            bad = [int(row) for row in rows[heights == 0]]
            raise UserError(f"{self.pixels.folder}: rows {bad} hold no image (it could not be read)")
        table = None
        if view != views.PLAIN:
            if self._table is None or self._table[0] != view:
                self._table = view, views.view_table(self.seed, view, len(self.pixels))
            table = self._table[1][rows]
        choice = views.choose(table, heights, widths, self.size, self.augmentation)
        if self.device.type != "cpu":  # there a pixel is fetched as one word of four bytes
            packed = np.empty((len(flat), 4), np.uint8)
            for channel in range(3):  # one by one: five times as fast as all at once
                packed[:, channel] = flat[:, channel]
            flat = packed
        tensors = (torch.from_numpy(array).to(self.device) for array in (flat, offsets, heights, widths))
        return views.render(*tensors, choice, self.size, self.mean, self.std)

    def holds(self, rows: np.ndarray, view: int) -> bool:
        """Whether these rows can be had in this view."""
        return True


class Activations:
    """Cached pooled trunk outputs: (rows, view) -> float32 (rows, width).

    Where several files hold a view, each of another network, their vectors come one after another.
    """

    def __init__(self, files: Sequence[str | os.PathLike], device: Device):
        from eightfold.inputs import activations

        self.device = device.device
        self._views: dict[int, list[tuple[dict[int, int], torch.Tensor]]] = {}  # view: (row -> position, activations)
        for path in files:
            rows, found = activations.read(path)
            positions = {row: i for i, row in enumerate(rows.tolist())}
            for view, values in found.items():
                self._views.setdefault(view, []).append((positions, values))

    def __call__(self, rows: np.ndarray, view: int) -> torch.Tensor:
        parts = [values[[positions[row] for row in rows.tolist()]] for positions, values in self._views[view]]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).to(self.device)

    def holds(self, rows: np.ndarray, view: int) -> bool:
        """Whether the files hold these rows in this view."""
        held = self._views.get(view, [({}, None)])
        return all(row in positions for positions, _ in held for row in rows.tolist())
