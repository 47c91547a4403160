"""First look at the data: images per class, sizes, and a sheet of samples."""

import os
from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from eightfold.inputs.dataset import split_labels
from eightfold.raw import images
from eightfold.raw.stores import Store
from eightfold.review import plots
from eightfold.review.sheets import ellipsis, sheet

MOST_BARS = 40  # classes that are still read as one bar each
CLASSES_SHOWN, EACH = 10, 4  # on the sample sheet
NUMBER = FuncFormatter(lambda value, _: f"{value:,.0f}")


def class_counts(table: pd.DataFrame, info: dict) -> dict[str, int]:
    """Labelled images per class, most first, then by name. An image with several labels counts for each."""
    counts = Counter(name for cell in table["labels"] for name in split_labels(cell, info["separator"]))
    return {name: counts[name] for name in sorted(info["classes"], key=lambda name: (-counts[name], name))}


def plot_classes(path: str | os.PathLike, counts: dict[str, int]) -> None:
    """Images per class: a named bar each up to MOST_BARS classes, else the sorted curve with its ends named."""
    names, values = list(counts), np.array(list(counts.values()))
    if len(names) <= MOST_BARS:
        fig, ax = plots.figure(height_in=1.1 + 0.24 * len(names))
        ax.barh(range(len(names)), values, color=plots.BLUE, height=0.72)
        ax.set_yticks(range(len(names)), [ellipsis(name, 32) for name in names])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, values.max() * 1.1)  # room for the numbers
        for row, value in enumerate(values):
            ax.annotate(f"{value:,}", (value, row), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
        ax.grid(False)
        ax.tick_params(axis="y", length=0)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        ax.xaxis.set_major_formatter(NUMBER)
        ax.set_xlabel("labelled images")
    else:
        fig, ax = plots.figure()
        ranks = np.arange(1, len(names) + 1)
        ax.fill_between(ranks, values, step="mid", color=plots.BLUE, alpha=0.18, linewidth=0)
        ax.step(ranks, values, where="mid", color=plots.BLUE)
        ax.set_yscale("log")
        ax.set_ylim(values.min() / 2, values.max() * 2)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(NUMBER)
        ax.yaxis.set_major_formatter(NUMBER)
        ax.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        ax.set_xlim(0.5, len(names) + 0.5)
        ends = ((0, (4, 7), "left", "bottom"), (len(names) - 1, (0, -9), "right", "top"))
        for end, offset, side, edge in ends:
            text = f"{ellipsis(names[end], 32)}: {values[end]:,}"
            style = {"textcoords": "offset points", "ha": side, "va": edge, "fontsize": 8.5}
            ax.annotate(text, (ranks[end], values[end]), offset, **style)
        ax.set(xlabel="class, by number of images", ylabel="labelled images (log scale)")
    span = f"{values.min():,} to {values.max():,} images, median {np.median(values):,.0f}"
    ax.set_title(f"{len(names):,} classes, {f'{values.min():,} images each' if np.ptp(values) == 0 else span}")
    plots.save(fig, path)


def plot_sizes(path: str | os.PathLike, table: pd.DataFrame) -> None:
    """Histograms of the widths and heights (pixels, upright) of all readable images."""
    readable = table[table["status"] == "ok"]
    sides = {name: readable[name].to_numpy() for name in ("width", "height")}
    low, high = min(values.min() for values in sides.values()), max(values.max() for values in sides.values())
    edges = np.linspace(low - 0.5, high + 0.5, min(60, high - low + 1) + 1)
    fig, ax = plots.figure()
    for (name, values), color in zip(sides.items(), (plots.BLUE, plots.AMBER), strict=True):
        counts, _ = np.histogram(values, edges)
        median = f"{name}: {values.min():,} to {values.max():,}, median {np.median(values):,.0f} px"
        ax.stairs(counts, edges, fill=True, color=color, alpha=0.2)
        ax.stairs(counts, edges, color=color, linewidth=1.5, label=median)
    if high - low < 2:  # all alike: one bar on a wide axis, not a wall
        ax.set_xlim(low - 20, high + 20)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(NUMBER)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.set(xlabel="pixels", ylabel="images", title=f"sizes of {len(readable):,} images")
    ax.legend(loc="upper right")
    plots.save(fig, path)


def choose_sample(table: pd.DataFrame, info: dict, seed: int) -> list[tuple[str, int]]:
    """(class, row) of up to EACH random images of each of up to CLASSES_SHOWN random classes, by class."""
    rng = np.random.default_rng(seed)
    classes = info["classes"]
    shown = sorted(rng.permutation(len(classes))[:CLASSES_SHOWN].tolist())
    members: dict[str, list[int]] = {classes[number]: [] for number in shown}
    for row, cell in enumerate(table["labels"]):
        for name in split_labels(cell, info["separator"]):
            if name in members:
                members[name].append(row)
    return [(name, row) for name, rows in members.items() for row in sorted(rng.permutation(rows)[:EACH].tolist())]


def write_sample(path: str | os.PathLike, table: pd.DataFrame, info: dict, seed: int) -> None:
    """A sheet of random images, class by class, read from the data root. Same seed and data, same bytes."""
    sample, store = choose_sample(table, info, seed), Store(info["root"], info["reading"])
    shown, captions = [], []
    for name, row in sample:
        image = images.open_image(store.read(table["path"][row]), info["reading"]["range"])
        image.thumbnail((320, 320), reducing_gap=2.0)  # forty full-size photographs would fill the memory
        shown.append(np.asarray(image))
        size = f"{table['width'][row]} × {table['height'][row]} px"
        captions.append(f"{name}\n{table['id'][row]}\n{size}")
    title = f"random images of {len({name for name, _ in sample})} of {len(info['classes'])} classes"
    sheet(path, shown, captions, columns=2 * EACH, title=title)
