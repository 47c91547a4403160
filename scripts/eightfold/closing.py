"""The last words on the terminal: the score and where to look. Light: the Snakefile imports it."""

import math
import os
from pathlib import Path

from eightfold.files import UserError, read_json


def summary(run: str | os.PathLike) -> str:
    """Lines on a run's folder: its figures with standard errors, and the files that are there to look at."""
    run, lines = Path(run), []
    try:
        final = read_json(run / "metrics.json").get("final") or {}
    except (OSError, UserError):
        final = {}
    images, accuracy, loss = final.get("images"), final.get("accuracy"), final.get("log_loss")
    if images and accuracy is not None:
        error = math.sqrt(max(0.0, accuracy * (1 - accuracy)) / images)
        told = f"accuracy {accuracy:.4f} ± {error:.4f}" + (f", log loss {loss:.4f}" if loss is not None else "")
        lines.append(f"{told}, on {images} pictures that had no part in training")
    there = {"report.html": "look at", "submission.csv": "submit", "submitted.json": "submitted"}
    lines += [f"{word + ':':<10} {run / name}" for name, word in there.items() if (run / name).is_file()]
    return "\n".join(lines)
