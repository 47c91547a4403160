"""Losses by epoch as SVG text: of one run from its first stage to its last, and of several runs together."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from eightfold.review import plots
from eightfold.review.sheets import ellipsis

COLOURS = ("#3b6fd4", "#d9822b", "#2f9e64", "#dc4c4c", "#8a63d2", "#0f9aa8", "#b3589a", "#7a7f87")  # of runs
LETTERS = 60  # of the tick labels that fit side by side below a drawing
ROW = 110  # letters of a row of run names


def _log_losses(ax: Axes) -> None:
    """A logarithmic loss axis with several labels, however narrow or wide the range of what was drawn is."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    few = MaxNLocator(6, steps=[1, 2, 5, 10]) if high < 10 * low else LogLocator(subs=(1, 2, 5))
    ax.yaxis.set_major_locator(LogLocator() if high > 1e4 * low else few)
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    ax.set_ylabel("loss (nats, log scale)")


def course(stages: Sequence[Mapping]) -> str:
    """Training and validation loss after each epoch, stage after stage, a line a fold; "" without any loss above 0.

    stages: name, fold and history (rows of train_loss and valid_loss) of each stage of each fold. Stages have bands of
    one width, however many epochs they take.
    """
    names = list(dict.fromkeys(stage["name"] for stage in stages))
    fig, ax = plots.figure()
    epochs = dict.fromkeys(names, 0)
    for column, label, colour in (("train_loss", "training", plots.BLUE), ("valid_loss", "validation", plots.AMBER)):
        for stage in stages:
            losses = [row.get(column) or 0.0 for row in stage["history"]]
            known = np.flatnonzero(np.array(losses) > 0)
            epochs[stage["name"]] = max(epochs[stage["name"]], len(losses))
            if len(known):
                x = names.index(stage["name"]) + (known + 0.5) / len(losses)
                size = 5 if len(known) < 20 else 2
                ax.plot(x, np.array(losses)[known], "o-", color=colour, alpha=0.75, markersize=size, label=label)
                label = None  # one entry of the legend for all folds
    if not ax.lines:
        return ""
    _log_losses(ax)
    for number in range(1, len(names), 2):
        ax.axvspan(number, number + 1, color=plots.INK, alpha=0.05, linewidth=0)
    letters = max(3, LETTERS // len(names))
    unit = " epochs" if letters > 9 else ""
    texts = [f"{ellipsis(name, letters)}\n{count}{unit if count != 1 else unit[:-1]}" for name, count in epochs.items()]
    ax.set_xticks(np.arange(len(names)) + 0.5, texts)
    ax.set(xlim=(0, len(names)), xlabel="" if unit else "stages and their epochs")
    ax.tick_params(axis="x", length=0)
    plots.legend(fig)
    return plots.svg_text(fig)


def of_runs(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Validation loss by epoch, a line a run, in the order of COLOURS; "" without any run.

    curves: (epochs trained so far, loss) of each run by its name.
    """
    if not curves:
        return ""
    names = [ellipsis(name, 40) for name in curves]
    columns = max(1, min(4, ROW // (max(map(len, names)) + 6)))
    fig, ax = plots.figure(9, 3 + 0.17 * -(-len(names) // columns))
    lines = list(curves.values())
    for number, points in enumerate(lines):
        x, y = np.array(points).T
        width = 1.6 + 2.4 * sum(other == points for other in lines[number + 1 :])  # an equal line lies on it
        look = {"color": COLOURS[number % len(COLOURS)], "linestyle": "-" if number < len(COLOURS) else "--"}
        ax.plot(x, np.maximum(y, 1e-6), marker="o", markersize=3 + width / 2, linewidth=width, **look)
    _log_losses(ax)
    ax.set_xlabel("epochs")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    plots.legend(fig, columns, ax.lines, names)
    return plots.svg_text(fig)
