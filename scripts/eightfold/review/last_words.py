"""The last words on the terminal: the score and where to look, or what went wrong. Must not import torch: the Snakefile imports it."""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from eightfold.core.files import UserError, read_json
from eightfold.core.runtime import ASKED
from eightfold.core.wording import baseline_name, share_error


def summary(run: str | os.PathLike, new: str | os.PathLike | None = None) -> str:
    """Lines on a run's folder: its figures with standard errors, and the files that are there to look at.

    new: the folder of the answers, where it was new images that were asked about.
    """
    run, lines = Path(run), []
    quick = not (run / "metrics.json").is_file()  # the first answer is all that there is
    try:
        metrics = read_json(run / ("metrics_quick.json" if quick else "metrics.json"))
    except (OSError, UserError):
        metrics = {}
    final, baseline, whose = (metrics.get(key) or {} for key in ("final", "baseline", "final_of"))
    images, accuracy, loss = final.get("images"), final.get("accuracy"), final.get("log_loss")
    error = share_error(accuracy, images)
    if error is not None:
        text = f"accuracy {accuracy:.4f} ± {error:.4f}" + (f", log loss {loss:.4f}" if loss is not None else "")
        lines.append(f"{text}, on {images} images that had no part in training" + (f": {whose}" if whose else ""))
        shown = [
            (name, text) for name, text in (("accuracy", "accuracy"), ("log_loss", "log loss")) if name in baseline
        ]
        by = [f"{baseline_name(baseline, name)}: {text} {baseline[name]:.4f}" for name, text in shown]
        lines += [f"without a look at the images: {', '.join(by)}"] if by else []
    if new is None and quick:
        folder, there = run, {"report_quick.html": "look at", "submission_quick.csv": "submit"}
    elif new is None:
        folder, there = (
            run,
            {
                "report.html": "look at",
                "submission.csv": "submit",
                "submitted.json": "submitted",
                "export/model.onnx": "exported",
            },
        )
    else:
        folder, there = Path(new), {"sheet.svg": "look at", "predictions.csv": "labels", "unreadable.csv": "left out"}
    lines += [f"{word + ':':<10} {folder / name}" for name, word in there.items() if (folder / name).is_file()]
    return "\n".join(lines)


def failure(snakemake_logs: Sequence[str | os.PathLike]) -> str:
    """What the jobs that failed said last, and where: from the logs that Snakemake's own log names as those of errors.

    Of jobs that were only asked to end (Ctrl-C, SIGTERM): that they were, and how to go on.
    """
    text = ""
    for path in snakemake_logs:
        with contextlib.suppress(OSError):
            text += Path(path).read_text(encoding="utf-8", errors="replace")
    named = re.findall(r"^ +log: (.+?) \(check log file", text, flags=re.MULTILINE)
    lines, asked = [], False
    for path in dict.fromkeys(path for one in named for path in one.split(", ")):
        try:
            said = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        said = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in said if line.strip() and not line.startswith("Log: ")]
        if said and said[-1].startswith((ASKED, "done in ")):  # done, but asked before its process had ended
            asked = True
            lines += [line for line in said[-2:-1] if line.startswith("saved ")]
            continue
        errors = [line for line in said if line.startswith("Error: ")]
        lines += [*(errors or said)[-1:], f"Log: {path}"]
    lines += ["Interrupted: what is finished stays finished. Run the same command again to go on."] if asked else []
    return "\n".join(lines)
