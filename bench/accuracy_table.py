"""What accuracy.py shows of its cells: a table in markdown and a plot, with intervals over the seeds."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from accuracy_data_sets import DATA
from accuracy_methods import METHODS
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.stats import t as student

from eightfold.core.files import UserError
from eightfold.review import plots

CONFIDENCE = 0.95  # of the intervals
README = Path(__file__).resolve().parent / "README.md"
BEGIN, END = "<!-- accuracy: written by accuracy.py -->", "<!-- /accuracy -->"


def in_order(cells: Iterable[dict]) -> list[dict]:
    """Cells in the order of the data sets, methods and seeds."""
    return sorted(cells, key=lambda c: (list(DATA).index(c["data"]), list(METHODS).index(c["method"]), c["seed"]))


def mean_and_half(values: list[float]) -> tuple[float, float | None]:
    """(mean, half the width of its 95 % interval by Student's t over the seeds); None for a single value."""
    if len(values) < 2:
        return float(np.mean(values)), None
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values)), float(student.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error)


def groups(cells: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """The cells of each data set and method, in the table's order."""
    found: dict[tuple[str, str], list[dict]] = {}
    for cell in in_order(cells):
        found.setdefault((cell["data"], cell["method"]), []).append(cell)
    return found


def with_half(values: list[float], digits: int) -> str:
    """`0.123 ± 0.045`, or without an interval for a single value."""
    mean, half = mean_and_half(values)
    return f"{mean:,.{digits}f}" + ("" if half is None else f" ± {half:,.{digits}f}")


def table(cells: list[dict]) -> str:
    """A markdown table of the cells: a row for each data set and method, means over seeds and their intervals.

    Seconds are to be compared where the machine is the same.
    """
    lines = ["| data | method | seeds | accuracy | log loss | ROC AUC | processor s | machine |", f"|{'---|' * 8}"]
    for (name, method), group in groups(cells).items():
        areas = [cell["roc_auc"] for cell in group if "roc_auc" in cell]
        words = [DATA[name].title, method, str(len(group))]
        words += [with_half([cell[figure] for cell in group], 3) for figure in ("accuracy", "log_loss")]
        words += [with_half(areas, 3) if areas else "", with_half([cell["processor_s"] for cell in group], 0)]
        words.append(", ".join(dict.fromkeys(cell["machine"].replace("_", " ") for cell in group)))
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)


def draw(cells: list[dict], path: Path) -> None:
    """Log loss over seconds of processor (log scale), a panel for each data set, with intervals over seeds both ways."""
    found = groups(cells)
    names = list(dict.fromkeys(name for name, _ in found))
    colors = dict(
        zip(
            METHODS, [plots.GREEN, plots.BLUE, plots.VIOLET, plots.INK, plots.AMBER, plots.RED, plots.GREY], strict=True
        )
    )
    fig, first = plots.figure(3.4 * len(names), 3.6)
    fig.delaxes(first)
    panels = fig.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for method in (method for data, method in found if data == name):
            group = found[name, method]
            seconds, loss = (mean_and_half([cell[figure] for cell in group]) for figure in ("processor_s", "log_loss"))
            half = min(seconds[1] or 0, 0.9 * seconds[0])  # a log scale has no place for what is below zero
            axes.errorbar(seconds[0], loss[0], loss[1] or 0, half, "o", color=colors[method], capsize=3, label=method)
        machines = len({cell["machine"] for (data, _), group in found.items() if data == name for cell in group})
        label = "seconds of processor" + (f" (of {machines} machines)" if machines > 1 else "")
        axes.set(xscale="log", title=DATA[name].title, xlabel=label)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))  # formulas are off: no 10^2
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(color=plots.INK, alpha=0.12, linewidth=0.8)
        axes.margins(x=0.15, y=0.12)
    panels[0].set_ylabel("log loss of the images held back")
    shown = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    ordered = [method for method in METHODS if method in shown]
    fig.legend([shown[m] for m in ordered], ordered, loc="outside lower center", ncols=min(4, len(ordered)))
    plots.save(fig, path)


def put_table(text: str, made: str) -> str:
    """The text of README.md with what stands between the two marks replaced. Raises UserError where it has not both."""
    before, mark, rest = text.partition(BEGIN)
    if not mark or END not in rest:
        raise UserError(f"{README}: the marks {BEGIN} and {END} are missing, between which the table is written")
    return f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}"
