"""What the report says of the stages: their curves and epochs, what they scored, and the verdict on each."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from eightfold.core import software
from eightfold.core.files import read_json
from eightfold.core.wording import rate_text
from eightfold.review.from_files import figures, number_of, table_rows
from eightfold.review.verdicts import TITLES, verdicts, weights_by_stage

PLOTS = {
    "lr_find": ("Learning-rate finder", "Training loss against learning rate, with the suggested rates."),
    "loss": ("Loss", "Training loss per mini-batch and validation loss per epoch."),
    "lr": ("Learning rate", "Learning rate per mini-batch."),
    "strength": ("Strength of the penalty", "Log loss of inner folds of the training images; the lowest is chosen."),
}


def made_by(paths: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """{package: {version: stages}}: of the software that made each stage, which may not be what makes the page."""
    return software.by_version(
        {"fold {} {}".format(*stage_key(path)): read_json(path).get("versions") or {} for path in paths}
    )


def stages(files: Mapping[str, Sequence[str]]) -> list[dict]:
    """A dict per trained stage, in the order given: stage.json with its fold, history, finder and plots."""
    result = []
    for path in files["stages"]:
        key, stage = stage_key(path), read_json(path)
        of = {
            name: [file for file in files[name] if stage_key(file) == key]
            for name in ("histories", "lr_finds", "plots")
        }
        rates = stage.get("lr") or []
        if stage.get("train") == "head":
            rates = rates[-1:]  # the other groups are frozen
        epochs = table_rows(of["histories"][0]) if of["histories"] else []
        history = [{name: number_of(value) for name, value in row.items()} for row in epochs]
        metrics = stage.get("metrics") or {}
        result.append(
            {
                **stage,
                "fold": key[0],
                "name": key[1],
                "rates": rates_text(rates),
                "ended": ending_text(stage),
                "metrics": metrics,
                "history": history,
                "finder": next((read_json(file).get("message", "") for file in of["lr_finds"]), ""),
                "figures": figures(of["plots"], PLOTS),
            }
        )
    return result


def stage_key(path: str | Path) -> tuple[str, str]:
    """Fold and stage of a file R/fold<k>/<stage>/<file>: ("0", "head"), or ("all", "head")."""
    fold, stage = Path(path).parts[-3:-1]
    return fold.removeprefix("fold"), stage


def rates_text(rates: Sequence[float]) -> str:
    """The rates of a stage's layer groups; of many blocks the first and the last."""
    if len(rates) > 3:
        return f"{rate_text(rates[0])} … {rate_text(rates[-1])}"
    return " / ".join(map(rate_text, rates))


def ending_text(stage: Mapping) -> str:
    """Why a stage that goes on until over-fitting ended where it did; empty of others."""
    held = stage.get("held_back") or {}
    losses = held.get("losses") or []
    if not losses:
        return ""
    best = min(range(len(losses)), key=losses.__getitem__) + 1
    why = "the next cycle did not lower it" if best < len(losses) else "it fell to the last cycle"
    after = ", ".join(f"{loss:.3g}" for loss in losses)
    return f"The network of cycle {best} is kept. Log loss on {held['images']:,} train images held back, after each cycle: {after}; {why}."


def stage_rows(done: Sequence[dict], metrics: Mapping, recipe: Sequence[Mapping] = ()) -> list[dict]:
    """The table of stages, all folds together: what `evidence.of_run` measured, with weight, verdict and settings.

    Settings (size, rates) are those of the first fold; ``weight`` is None where no choice was made among stages.
    """
    verdict, measured = judged(done, metrics, recipe), {row["stage"]: row for row in metrics.get("by_stage") or []}
    members = (metrics.get("ensemble") or {}).get("members") or []
    weights = weights_by_stage(members, list(verdict)) or {}
    rows = []
    for name in verdict:
        first, row = next(stage for stage in done if stage["name"] == name), measured.get(name, {})
        row = {"figures": first["metrics"], "errors": {}, "training": None, "before": None} | row
        settings = {key: first.get(key) for key in ("size", "train", "epochs", "rates")}
        settings["first"] = 1 + done.index(first)  # its place among the stages of all folds, for a link
        rows.append({"name": name, **settings, **row, "weight": weights.get(name), "verdict": verdict[name]})
    return rows


def judged(done: Sequence[dict], metrics: Mapping, recipe: Sequence[Mapping] = ()) -> dict[str, dict]:
    """{stage: verdict} of the stages that `stages` gives, by what metrics.json measured of them. recipe: their options."""
    weighted = {stage["name"] for stage in recipe if "balanced" in (stage.get("class_weights"), stage.get("sampler"))}
    rows, names = metrics.get("by_stage") or [], list(dict.fromkeys(stage["name"] for stage in done))
    histories = {}
    for name in names:
        losses = [
            [
                row.get("train_loss")
                for row in (stage["history"][: stage["epochs"]] if stage.get("ended") else stage["history"])
            ]
            for stage in done
            if stage["name"] == name
        ]
        # By epoch, over the folds; a convex fit has no epochs, and a fold may have ended earlier than another.
        each = [[loss for loss in epoch if loss is not None] for epoch in zip(*losses, strict=False)]
        histories[name] = [sum(epoch) / len(epoch) for epoch in each if epoch and name not in weighted]
    members = (metrics.get("ensemble") or {}).get("members") or []
    baseline = (metrics.get("baseline") or {}).get("log_loss")
    found = verdicts(rows, histories, baseline, weights_by_stage(members, names))
    text = (
        "It was not measured." if metrics.get("final") else "There are no validation images, so nothing was measured."
    )
    unknown = {"kind": "unknown", "title": TITLES["unknown"], "text": text, "undone": False}
    return {name: found.get(name, unknown) for name in names}


def endings(rows: Sequence[Mapping]) -> list[dict]:
    """The verdict after the last stage, and those of earlier stages that did harm which the last has not made good."""
    harmful, best = [], math.inf  # the least loss before each stage
    for row in rows[:-1]:
        if row["verdict"]["kind"] in ("worse", "diverged") and (rows[-1]["figures"].get("log_loss") or math.inf) > best:
            harmful.append(row)
        best = min(best, row["figures"].get("log_loss") or math.inf)
    return [{**row["verdict"], "stage": row["name"]} for row in [*rows[-1:], *harmful]]
