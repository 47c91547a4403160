"""Networks side by side: what a linear layer on the plain activations of each answers of the held-out images.

Pure functions, a plot and a page. Differences are paired: each network's loss of an image minus the best one's of the same
image, so that an image which is hard for all counts for none.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from eightfold.core.wording import number_text, share_text, time_text
from eightfold.net import scoring
from eightfold.predict import metrics
from eightfold.predict.metrics import Judge
from eightfold.review import pages, plots

LOWER_IS_BETTER = "log_loss"


def judge_racer(logits: np.ndarray, targets: np.ndarray, judge: Judge) -> tuple[dict, np.ndarray]:
    """The figures of logits (n, classes) out of fold, as metrics.json has them, and the log loss of each image (n,)."""
    probabilities = scoring.probabilities_of(logits, targets.ndim == 2)
    return metrics.summary(probabilities, targets, judge), scoring.losses(probabilities, targets)


def table(racers: Sequence[Mapping], losses: np.ndarray) -> pd.DataFrame:
    """A row for each network, the best first: name, log_loss, its standard error, accuracy and other figures, difference to
    the best and its standard error, seconds, megabytes, width of the vector, and the config's lines.

    racers: name, parts [(arch, weights)], figures, seconds, bytes, width. losses: (racers, images), nats.
    """
    best = int(losses.mean(1).argmin())
    rows = []
    for racer, own in zip(racers, losses, strict=True):
        mean, error = scoring.mean_and_error(own)
        behind, behind_error = scoring.mean_and_error(own - losses[best])
        others = {name: value for name, value in racer["figures"].items() if name not in ("images", LOWER_IS_BETTER)}
        rows.append(
            {"network": racer["name"], "log_loss": mean, "log_loss_se": error, **others}
            | {"behind": behind, "behind_se": behind_error, "seconds": racer["seconds"]}
            | {"megabytes": racer["bytes"] / 1e6, "width": racer["width"], "config": config_line(racer["parts"])}
        )
    return pd.DataFrame(rows).sort_values("log_loss", kind="stable", ignore_index=True)


def config_line(parts: Sequence[Sequence[str]]) -> str:
    """The config's line that makes a run of these networks."""
    archs, weights = ([part[i] for part in parts] for i in (0, 1))
    if len(parts) == 1:
        return f"model: {{arch: {archs[0]}, weights: {_quoted(weights[0])}}}"
    return f"model: {{arch: [{', '.join(archs)}], weights: [{', '.join(map(_quoted, weights))}]}}"


def _quoted(text: str) -> str:
    return json.dumps(text) if set(text) & set(" :{}[],#&*!|>'\"%@`") else text


def text(rows: pd.DataFrame, images: int, size: int) -> str:
    """The table for a terminal, and the line of the config that takes the best."""
    width = max(len("network"), *(len(name) for name in rows["network"]))
    lines = [f"{images:,} held-out images at {size} px, a linear layer on the plain view; ± is one standard error"]
    lines.append(
        f"{'network':<{width}}  {'log loss':>15}  {'accuracy':>9}  {'behind the best':>17}  {'time':>14}  {'MB':>6}"
    )
    for row in rows.to_dict("records"):
        behind = "" if row["behind"] == 0 else f"{row['behind']:.4f} ± {row['behind_se'] or 0:.4f}"
        loss = f"{row['log_loss']:.4f} ± {row['log_loss_se'] or 0:.4f}"
        lines.append(
            f"{row['network']:<{width}}  {loss:>15}  {share_text(row['accuracy']):>9}  {behind:>17}  "
            f"{time_text(row['seconds']):>14}  {row['megabytes']:>6.0f}"
        )
    lines.append(f"the best in a config: {rows['config'][0]}")
    return "\n".join(lines) + "\n"


def plot(rows: pd.DataFrame) -> str:
    """SVG text: log loss over seconds, with a standard error either way, and beside each dot its place in the table."""
    fig, axes = plots.figure(6.4, 3.6)
    axes.errorbar(
        rows["seconds"], rows["log_loss"], rows["log_loss_se"].fillna(0), fmt="o", color=plots.BLUE, capsize=3
    )
    for place, (seconds, loss) in enumerate(zip(rows["seconds"], rows["log_loss"], strict=True), 1):
        axes.annotate(f"{place}", (seconds, loss), xytext=(6, 4), textcoords="offset points")
    axes.set(xscale="log", xlabel="seconds for activations and fit", ylabel="log loss of held-out images")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color=plots.INK, alpha=0.12, linewidth=0.8)
    axes.margins(x=0.25, y=0.15)
    return plots.svg_text(fig)


def page(run: str, rows: pd.DataFrame, images: int, size: int) -> str:
    """The comparison as one HTML page that fetches nothing."""
    columns = {"network", "log_loss", "log_loss_se", "behind", "behind_se", "seconds", "megabytes", "width", "config"}
    context = {
        "run": run,
        "rows": rows.to_dict("records"),
        "figures": [name for name in rows.columns if name not in columns],
        "images": images,
        "size": size,
        "plot": pages.svg_uri(plot(rows)),
        "text": lambda name, value: share_text(value) if name == "accuracy" else number_text(value),
    }
    return pages.render("templates/trunks.html", context)
