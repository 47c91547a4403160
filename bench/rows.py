"""The list of rows, filled by the modules that measure them."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from measure import Found


@dataclass
class Row:
    """``ratio`` says what the figure is a ratio of; at_least, at_most: what issue 4 asks for; minutes: on 2 cores."""

    name: str
    group: str
    ratio: str
    measure: Callable[["Bench"], Found]
    at_least: float | None = None
    at_most: float | None = None
    minutes: float = 0.2

    def holds(self, value: float) -> bool | None:
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    @property
    def wanted(self) -> str:
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}" if self.at_most else ""


ROWS: dict[str, Row] = {}
# What the row after one against fastai's defaults is a ratio of.
TUNED = "the same, fastai with channels_last, and half precision where the machine has it"


def row(group: str, ratio: str, **options) -> Callable:
    """Enter a function into the list, by its name."""

    def enter(measure: Callable[["Bench"], Found]) -> Callable:
        ROWS[measure.__name__] = Row(measure.__name__, group, ratio, measure, **options)
        return measure

    return enter


@dataclass
class Bench:
    """What rows share: threads, a folder that goes away, and what is made in it once."""

    threads: int
    stack: ExitStack = field(default_factory=ExitStack)
    kept: dict = field(default_factory=dict)  # what several rows of a group look at

    @cached_property
    def folder(self) -> Path:
        return Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="eightfold-bench-")))

    @cached_property
    def photos(self) -> list[Path]:
        """128 JPEG files of 500 x 375 px."""
        import generated_images

        return generated_images.write_photos(self.folder / "photos", 128, 500, 375)

    @cached_property
    def large_photos(self) -> list[Path]:
        """16 JPEG files of 2,592 x 1,944 px, as cameras make them."""
        import generated_images

        return generated_images.write_photos(self.folder / "large", 16, 2592, 1944)

    @cached_property
    def packed(self):
        """The photos as packed pixels of 256 px short side."""
        from eightfold.inputs import pixels
        from eightfold.raw import images

        pixels.pack(self.folder / "packed", (pixels.resized(images.open_image(path), 256) for path in self.photos))
        return pixels.Pixels(self.folder / "packed")

    @cached_property
    def classes_folder(self) -> Path:
        """train/{a,b} with 64 and valid/{a,b} with 32 of the photos."""
        import shutil

        for number, path in enumerate(self.photos[:96]):
            target = self.folder / "classes" / ("train" if number < 64 else "valid") / "ab"[number % 2]
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        return self.folder / "classes"

    @cached_property
    def fastai(self):
        """fastai in a process of its own, on `classes_folder`, with resnet34 from random weights at 128 px."""
        return self._fastai(tuned=False)

    @cached_property
    def fastai_tuned(self):
        """The same, tuned."""
        return self._fastai(tuned=True)

    def _fastai(self, tuned: bool):
        from peer import Peer

        return self.stack.enter_context(Peer(self.threads, self.classes_folder, "resnet34", None, 128, 32, tuned=tuned))

    @cached_property
    def finished(self):
        """A tiny run of the whole workflow, made: a copy of it, its seconds and its jobs."""
        import workflow

        return workflow.tiny_run(self.folder / "tiny")
