"""Every matplotlib image of the project, in one look: reads on white and on black, same input same bytes.

Built on matplotlib's Figure class without pyplot: no global state, no display, and half the start-up time.
"""

import io
import logging
import math
import os
import re
import textwrap
import warnings
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from eightfold.core.files import write_text
from eightfold.core.wording import rate_text
from eightfold.review.sheets import AMBER, FONT, GREEN, GREY, NOT_XML, RED, THEME, ellipsis

__all__ = ["AMBER", "BLUE", "GREEN", "GREY", "INK", "RED", "VIOLET", "confusion_plot", "figure", "loss_plot"]
__all__ += ["legend", "lr_find_plot", "lr_plot", "save", "smooth", "strength_plot", "svg_text"]

BLUE, VIOLET = "#3f83e8", "#9a6be0"  # with the four of sheets.py: mid tones that are seen on white and on black
INK = "#010203"  # stands for the reader's text colour: `save` turns it into currentColor
MOST_POINTS = 1200  # of a drawn line: more than the pixels across adds bytes, not detail
MOST_NUMBERS = 20  # classes up to which a confusion matrix shows its numbers

matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",  # text stays text: small, searchable, in the reader's own font
        "svg.hashsalt": "eightfold",  # ids are drawn from this and not from a random number
        "text.parse_math": False,  # a class named "$5" is not a formula
        "axes.unicode_minus": True,
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "axes.titleweight": "semibold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "lines.linewidth": 1.6,
        "lines.solid_joinstyle": "round",
        **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], INK),
    }
)
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # the reader's font is used, not the one measured


def figure(width_in: float = 5.6, height_in: float = 3.4) -> tuple[Figure, Axes]:
    """An empty figure of this size in inches, and its axes: no ground, a faint horizontal grid."""
    fig = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(fig)  # measures the texts for the layout
    ax = fig.add_subplot()
    ax.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    for spine in ax.spines.values():
        spine.set_alpha(0.45)
    ax.tick_params(length=3, width=0.8)
    return fig, ax


def svg_text(fig: Figure) -> str:
    """A figure as SVG text with a transparent ground and ink in the reader's colour."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # of the measuring font only
        fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = NOT_XML.sub("\ufffd", buffer.getvalue())
    text = text.replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'<style type="text/css">', lambda match: match[0] + THEME, text, count=1)
    text = re.sub(r"(font(?:-family)?: (?:[\w.]+ )*?(?:[\d.]+px )?)'DejaVu Sans'[^;\"]*", rf"\1{FONT}", text)

    def shorter(match: re.Match) -> str:  # a hundredth of a point is finer than any screen; halves the file
        return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), match[0])

    return re.sub(r'\bd="[^"]*"', shorter, text)


def save(fig: Figure, path: str | os.PathLike) -> None:
    """Write a figure as SVG, whole or not at all; the same figure is the same bytes."""
    write_text(path, svg_text(fig))


def smooth(values: np.ndarray, width: float) -> np.ndarray:
    """Moving average of a series with a Gaussian weight of ``width`` steps: centred, so that it does not lag.

    Gaps (NaN) and what lies beyond the ends have no weight.
    """
    if not len(values):
        return np.zeros(0)
    known = np.isfinite(values)
    reach = min(math.ceil(3 * width), len(values) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    weight = np.convolve(known.astype(float), kernel)[reach : reach + len(values)]
    total = np.convolve(np.where(known, values, 0.0), kernel)[reach : reach + len(values)]
    return np.divide(total, weight, out=np.full(len(values), np.nan), where=weight > 0)


def thin(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most ~``most`` points of a line: the lowest and the highest of each stretch, so no spike is lost."""
    if len(x) <= most:
        return x, y
    picked = []
    for part in np.array_split(np.arange(len(x)), most // 2):
        if _any(y[part]):
            picked += sorted({part[np.nanargmin(y[part])], part[np.nanargmax(y[part])]})
    return x[picked], y[picked]


def _any(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())


def _floats(values: object) -> np.ndarray:
    """Numbers as float64; None, empty text and infinities are gaps."""
    array = np.asarray(pd.to_numeric(pd.Series(list(values), dtype=object), errors="coerce"), dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def legend(fig: Figure, columns: int = 2, *lines_and_names: Sequence) -> None:
    """The names of a figure's lines, below them: width is for data. Without ``lines_and_names``, of all that have a label."""
    fig.legend(*lines_and_names, loc="outside lower center", ncols=columns, handlelength=1.6, columnspacing=1.6)


def _message(ax: Axes, text: str) -> None:
    """Say in the middle of a plot why there is nothing, or less, to see."""
    text = textwrap.fill(text, 52)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", alpha=0.8, linespacing=1.5)


def _log_axis(axis) -> None:
    axis.set_major_locator(LogLocator(base=10, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: rate_text(value) if value > 0 else ""))
    axis.set_minor_formatter(NullFormatter())


def strength_plot(path: str | os.PathLike, strength: dict) -> None:
    """Log loss of inner folds against the strength C of a linear stage (`strength` of its stage.json), the chosen one marked."""
    fig, ax = figure()
    tried, losses = _floats(strength.get("tried") or []), _floats(strength.get("log_loss") or [])
    ax.set(xlabel="C: what the images weigh against the penalty (log scale)", ylabel="log loss of inner folds (nats)")
    if _any(losses):
        ax.set_xscale("log")
        _log_axis(ax.xaxis)
        ax.plot(tried, losses, "o-", color=BLUE, linewidth=2.2, markersize=4, label="tried")
        best = int(np.nanargmin(losses))
        ax.plot(tried[best], losses[best], "o", color=RED, markersize=8, label=f"chosen: {rate_text(tried[best])}")
        ax.set_ylim(bottom=0)
        legend(fig)
    else:
        _message(ax, "No image could be held out to choose the strength, so the usual one was taken.")
    save(fig, path)


def lr_find_plot(path: str | os.PathLike, lr_find: dict) -> None:
    """Loss against learning rate of a finder run (lr_find.json), with the suggested rates, those tried, and the chosen one."""
    fig, ax = figure()
    lrs, losses, smoothed = (_floats(lr_find.get(name) or []) for name in ("lrs", "losses", "smoothed"))
    if len(lrs) > 30:  # 0.7's rule: the first points have no average yet, the last ones have blown up
        lrs, losses, smoothed = lrs[10:-5], losses[10:-5], smoothed[10:-5]
    chosen, message = lr_find.get("lr"), lr_find.get("message") or ""
    ax.set(xlabel="learning rate of the last layer group (per step, log scale)", ylabel="loss (nats)")
    if _any(smoothed):
        ax.set_xscale("log")
        _log_axis(ax.xaxis)
        ax.plot(*thin(lrs, losses), color=GREY, linewidth=0.8, alpha=0.55, label="training loss of a mini-batch")
        ax.plot(*thin(lrs, smoothed), color=BLUE, linewidth=2.2, label="smoothed")
        low, high, start = np.nanmin(smoothed), np.nanmax(smoothed), smoothed[np.isfinite(smoothed)][0]
        suggested = [rate for rate in (lr_find.get("suggestions") or {}).values() if rate]
        if suggested and start > low:  # the fall is what matters: the blow-up after it may leave the plot
            high = min(high, 2 * start - low)
        margin = max(high - low, 1e-6) * 0.2
        ax.set_ylim(max(0, low - margin), high + margin)
        first, last = min(lrs), max(lrs)
        for (name, rate), colour in zip(
            sorted((lr_find.get("suggestions") or {}).items()), (AMBER, GREEN, VIOLET), strict=False
        ):
            if rate and name != lr_find.get("rule"):
                ax.axvline(rate, color=colour, linestyle=(0, (2, 3)), linewidth=1.3, label=f"{name}: {rate_text(rate)}")
                first, last = min(first, rate), max(last, rate)
        tried = [row for row in lr_find.get("tried") or [] if row["loss"] < 1e3]
        if tried:
            trials, means = [row["lr"] for row in tried], [row["loss"] for row in tried]
            errors = [row["error"] for row in tried]
            style = {"color": INK, "fmt": "s-", "markersize": 4, "linewidth": 1.2, "capsize": 3}
            ax.errorbar(trials, means, errors, label="trained and judged on images held back (± 1 s.e.)", **style)
            # What is judged matters most: the best of the trials and what is near it stay in the plot.
            best = min(means)
            low, high = min(low, best), max(high, 2.5 * best + max(errors))
            margin = (high - low) * 0.1
            ax.set_ylim(max(0, low - margin), high + margin)
            first, last = min(first, *trials), max(last, *trials)
        if chosen:
            named = f"chosen ({lr_find.get('rule', 'rule')})" if tried or chosen in suggested else "taken"
            label = f"{named}: {rate_text(chosen)}"
            ax.axvline(chosen, color=RED, linewidth=2, label=label)
            near = np.nanargmin(np.abs(np.log(lrs) - math.log(chosen)))
            ax.plot([chosen], [smoothed[near]], "o", color=RED, markersize=7)
            first, last = min(first, chosen), max(last, chosen)
        ax.set_xlim(first / 1.2, last * 1.2)
        legend(fig)
        if not tried and not suggested:
            ax.set_title(textwrap.fill(message or "No clear fall of the loss: no rate is suggested.", 58))
    else:
        _message(ax, message or "The finder recorded no losses.")
    save(fig, path)


def _steps(batches: pd.DataFrame) -> np.ndarray:
    return _floats(batches["step"]) - (float(pd.to_numeric(batches["step"]).min()) - 1 if len(batches) else 0)


def _ends(batches: pd.DataFrame, column: str) -> dict[int, float]:
    """The number of mini-batches done at the end of each epoch or cycle."""
    marks = pd.DataFrame({"mark": pd.to_numeric(batches[column]).to_numpy(), "step": _steps(batches)})
    return {int(mark): float(step) for mark, step in marks.groupby("mark")["step"].max().items()}


def _mark_cycles(ax: Axes, batches: pd.DataFrame) -> None:
    for number, step in enumerate(_ends(batches, "cycle").values()):
        label = "end of a cycle" if number == 0 else None
        ax.axvline(step, color=INK, alpha=0.5, linestyle=(0, (1, 2)), linewidth=1.2, label=label)


def loss_plot(path: str | os.PathLike, batches: pd.DataFrame, history: pd.DataFrame) -> None:
    """Training loss per mini-batch and validation loss at the end of each epoch (batches.csv, history.csv)."""
    fig, ax = figure()
    ax.set(xlabel="mini-batches done", ylabel="loss (nats)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    steps, losses = _steps(batches), _floats(batches["loss"])
    if _any(losses):
        trend = smooth(losses, max(1.0, min(40.0, len(losses) / 30)))
        ax.plot(*thin(steps, losses), color=GREY, linewidth=0.8, alpha=0.5, label="training, one mini-batch")
        ax.plot(*thin(steps, trend), color=BLUE, linewidth=2.2, label="training, smoothed")
        ends = _ends(batches, "epoch")
        valid = {int(epoch): loss for epoch, loss in zip(history["epoch"], _floats(history["valid_loss"]), strict=True)}
        valid = {ends[epoch]: loss for epoch, loss in valid.items() if epoch in ends and math.isfinite(loss)}
        if valid:
            ax.plot(list(valid), list(valid.values()), "o-", color=AMBER, markersize=5.5, label="validation")
        else:
            ax.set_title("No validation images: all of them are trained on.")
        _mark_cycles(ax, batches)
        shown = np.concatenate([trend[np.isfinite(trend)], list(valid.values()), [np.nanpercentile(losses, 98)]])
        ax.set_ylim(0, float(shown.max()) * 1.08 or 1)
        ax.set_xlim(0, float(steps.max()) * 1.01 + 0.5)
        legend(fig)
    else:
        _message(ax, "No finite training loss was recorded.")
    save(fig, path)


def lr_plot(path: str | os.PathLike, batches: pd.DataFrame) -> None:
    """The learning rate of the last layer group at each mini-batch (batches.csv)."""
    fig, ax = figure(height_in=2.7)
    ax.set(xlabel="mini-batches done", ylabel="learning rate of the\nlast layer group (per step)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))  # a tick of 0.00125 is not 0.0013
    steps, rates = _steps(batches), _floats(batches["lr"])
    if _any(rates):
        marker = {"marker": "o", "markersize": 3} if len(rates) < 25 else {}
        ax.plot(*thin(steps, rates), color=BLUE, label="learning rate", **marker)
        _mark_cycles(ax, batches)
        ax.set_ylim(0, float(np.nanmax(rates)) * 1.08)
        ax.set_xlim(0, float(steps.max()) * 1.01 + 0.5)
        legend(fig)
    else:
        _message(ax, "No learning rate was recorded.")
    save(fig, path)


def _tint(share: np.ndarray) -> np.ndarray:
    """Colours (C, C, 4) of shares in 0..1: blue on the diagonal, amber off it; none where the share is 0.

    The square root and the floor lift rare mistakes into sight; four fifths of full strength leave a number readable.
    """
    count = len(share)
    colours = np.zeros((count, count, 4))
    colours[...] = matplotlib.colors.to_rgba(AMBER)
    colours[np.arange(count), np.arange(count)] = matplotlib.colors.to_rgba(BLUE)
    colours[..., 3] = np.where(share > 0, 0.2 + 0.6 * np.sqrt(np.clip(share, 0, 1)), 0)
    return colours


def confusion_plot(path: str | os.PathLike, matrix: np.ndarray, classes: list[str]) -> None:
    """Confusion matrix (row: actual class, column: predicted class), tinted by the share of its row.

    Up to 20 classes: every number, in the given order. Beyond: a heat map with the worst classes first.
    """
    matrix = np.asarray(matrix)
    count, small = len(classes), len(classes) <= MOST_NUMBERS
    totals = matrix.sum(1)
    share = matrix / np.maximum(totals, 1)[:, None]
    order = np.arange(count)
    if not small:
        order = np.lexsort((order, np.diag(share) + 2 * (totals == 0)))  # classes never seen come last
    letters = 22 if small else 18  # of a class name
    names = [ellipsis(name, letters) for name in classes]
    cell = min(0.75, max(0.36, 2.2 / count)) if small else 6 / count  # inches
    side = cell * count + 0.075 * max(map(len, names), default=0) + 0.8
    fig, ax = figure(side, side)
    ax.grid(False)
    if not totals.sum():
        _message(ax, "No validation images: there is nothing to confuse.")
        ax.set(xticks=[], yticks=[], xlabel="predicted class", ylabel="actual class")
        return save(fig, path)
    shown = matrix[np.ix_(order, order)]
    ax.imshow(_tint(share[np.ix_(order, order)]), interpolation="none", aspect="equal")
    points = 72 * cell  # the height of a cell
    every = 1 if small else math.ceil(7.5 / points)
    size = min(9.5, max(5.0, 0.9 * points * every))
    ticks = np.arange(0, count, every)
    names = [names[order[tick]] for tick in ticks]
    level = small and max(map(len, names)) * size * 0.6 < points * 0.95
    ax.set_xticks(ticks, names, fontsize=size, rotation=0 if level else 90)
    ax.set_yticks(ticks, names, fontsize=size)
    unit = "number: validation images" if small else "blue right, amber wrong"
    ax.set(xlabel=f"predicted class\n{unit}", ylabel="actual class")
    if small:
        longest = max(len(str(shown.max())), 2)
        for row, column in np.argwhere(shown > 0):
            weight = "semibold" if row == column else "normal"
            numbers = {"ha": "center", "va": "center", "fontsize": min(11, points * 1.1 / longest), "weight": weight}
            ax.text(column, row, f"{shown[row, column]}", **numbers)
    else:
        note = f"{count} classes, worst at the top" + (f", one in {every} named" if every > 1 else "")
        ax.set_title(f"{note}; the tint is the share of the actual class", fontsize=8.5, weight="normal")
    if small:  # cells to follow a row or a column along
        ax.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        ax.grid(which="minor", axis="both", color=INK, alpha=0.1, linewidth=0.8)
        ax.tick_params(which="both", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return save(fig, path)
