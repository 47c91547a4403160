"""What became of a stage, in plain words, after the notes of the lesson; given only where it was measured.

The lesson reads training loss against validation loss. The loss that training prints is measured under dropout and
augmentation, while the weights still move; here it is that of the training images in eval mode (`train_loss_eval`), as the
validation loss is, so that the two differ by nothing but who has seen the images.
"""

import math
from collections.abc import Mapping, Sequence

CLEAR = 2.0  # standard errors that a difference must exceed
CLEAR_OF_BEST = 3.0  # the same against the best epoch, which is chosen afterwards: the best of several is lucky
WORSE = 1.0  # the same against the stage before: of two networks that are at hand, the better one is taken
OVER_SHARE = 0.5  # of the validation loss: a gap to the training loss above it is over-fitting
LEAST_GAP = 0.02  # nats between two losses below which nothing is called a gap
ROUNDING = 1e-6  # nats: what two computations of one loss may differ by
NEAR_PRIOR = 0.9  # of the baseline's loss: a training loss above it has learned next to nothing

TITLES = {
    "under-fitting": "Under-fitting",
    "over-fitting": "Over-fitting",
    "balanced": "Balanced",
    "worse": "Worse than the stage before",
    "diverged": "Diverged",
    "unknown": "No verdict",
}


def verdicts(
    rows: Sequence[Mapping],
    histories: Mapping[str, Sequence[float]] | None = None,
    baseline: float | None = None,
    weights: Mapping[str, float] | None = None,
) -> dict[str, dict]:
    """{stage: {"kind", "title", "text", "undone"}} of `evidence.of_run`'s rows.

    histories: the training losses of each stage's epochs, as training printed them; none where they
    are of weighted images or classes. baseline: the log loss of the class
    shares. weights: what each stage's networks weigh in the answer; None where the answer was not chosen among stages.
    """
    found, before = {}, None
    for row in rows:
        undone = weights is not None and not weights.get(row["stage"])
        found[row["stage"]] = verdict(row, before, (histories or {}).get(row["stage"], ()), baseline, undone)
        before = row
    return found


def verdict(
    row: Mapping,
    before: Mapping | None = None,
    history: Sequence[float] = (),
    baseline: float | None = None,
    undone: bool = False,
) -> dict:
    """{"kind", "title", "text", "undone"} of a stage; kinds are those of TITLES. ``before``: the row of the stage before."""
    held, error = row["figures"]["log_loss"], row["errors"]["log_loss"]
    train, images = row.get("training"), row["images"]
    measured = f"Validation loss {_with_error(held, error)} on {images:,} images"
    if train:
        what = "" if not train["view"] else ", which were augmented"
        measured += f", training loss {_with_error(train['log_loss'], train['error'])} on {train['images']:,}{what}"
    measured += ". "

    def given(kind: str, text: str) -> dict:
        gone = undone and kind in ("worse", "diverged")
        title = TITLES[kind] + (", undone" if gone else "")
        text = measured + text + (" It is undone: none of its networks has a part in the answer." if gone else "")
        return {"kind": kind, "title": title, "text": text, "undone": gone}

    if not (math.isfinite(held) and (train is None or math.isfinite(train["log_loss"]))):
        return given("diverged", "A loss is not a number. Give a lower learning rate.")
    change = (row.get("before") or {}).get("log_loss")
    worse = change is not None and _exceeds(change, WORSE)
    lost = _lost(train, before, history, baseline, worse)
    if lost and (lost[0] == "diverged" or row["epochs"] > 1):
        return given(*lost)
    if worse:
        text = f"That is {_with_error(change['by'], change['error'])} more than after {row['before']['stage']}, image by image. "
        return given("worse", text + _why_worse(train, before, row["before"]["stage"]))
    if row.get("trained") == "linear":
        return given("unknown", "A convex fit has no epochs; its strength was chosen by cross-validation.")
    if row["epochs"] < 2:
        return given("unknown", "One epoch is too little to tell under-fitting from over-fitting.")
    if train is None or train["error"] is None or error is None:
        return given(
            "unknown", "The training loss was not measured in eval mode, so nothing says how far the two are apart."
        )
    return given(*_of_gap(row, train, history))


def _of_gap(row: Mapping, train: Mapping, history: Sequence[float]) -> tuple[str, str]:
    """(kind, text) of a stage of several epochs that did no harm to the stage before."""
    held = row["figures"]["log_loss"]
    gap = {"by": held - train["log_loss"], "error": math.hypot(train["error"], row["errors"]["log_loss"])}
    limit = max(LEAST_GAP, OVER_SHARE * held)
    apart = f"The validation loss is {_with_error(abs(gap['by']), gap['error'])} {'above' if gap['by'] > 0 else 'below'} the training loss"
    since, last = row.get("since_best"), row.get("last_cycle")
    risen = since is not None and _exceeds(since, CLEAR_OF_BEST) and since["by"] > LEAST_GAP
    falls = last is not None and last["by"] is not None and _exceeds(last | {"by": -last["by"]}, CLEAR)
    # In training dropout and augmentation add to the loss; a loss that is higher without them is a network gone astray.
    astray = bool(history) and train["log_loss"] - CLEAR * train["error"] > history[-1]
    if risen:
        best = ", ".join(map(str, sorted(set(since["epochs"]))))
        text = f"It was best after epoch {best} and has risen by {_with_error(since['by'], since['error'])} since. "
        if _exceeds(gap, CLEAR) and not astray:
            text += f"{apart}: the network learns its images by heart. "
            return "over-fitting", text + "Stop earlier (fewer cycles), augment more, or train at a smaller size first."
        text += "The network knows its own training images no better for it: the steps were too large. Give a lower learning rate."
        return "diverged", text
    if _exceeds(gap, CLEAR) and gap["by"] > limit and not astray:
        text = f"{apart}, more than half of it: the network knows its own images far better than new ones. "
        if falls:
            fall = _with_error(-last["by"], last["error"])
            text += f"Yet the validation loss fell by {fall} in the last cycle, so that it was not trained too much. "
            return "balanced", text + "More images or more augmentation will give more than more epochs."
        return "over-fitting", text + "Stop here or earlier, augment more, or use more images."
    if astray:
        text = f"On its training images the loss is higher without dropout and augmentation than with them ({history[-1]:.3g}): "
        return (
            "unknown",
            text + "BatchNorm's running figures do not fit the weights. Take more steps, or a lower learning rate.",
        )
    if falls and not _exceeds(gap, CLEAR):
        fall = _with_error(-last["by"], last["error"])
        text = (
            f"The two are within their error of each other, and the validation loss fell by {fall} in the last cycle. "
        )
        return "under-fitting", text + "Train on: longer cycles (cycle_len, cycle_mult), more cycles, or all layers."
    if gap["by"] + CLEAR * gap["error"] < limit:
        text = f"{apart}, which is a small gap: neither too little training nor too much. "
        return "balanced", text + "If more is wanted, a larger size, a larger network or more images may give it."
    text = f"{apart}, and that could be chance or could be over-fitting: {row['images']:,} validation images are too few to tell."
    return "unknown", text


def _lost(train, before, history, baseline, worse) -> tuple[str, str] | None:
    """(kind, text) of a network that does worse on its own training images than the class shares would; None of others."""
    if not train or train["error"] is None or baseline is None:
        return None
    if train["log_loss"] - CLEAR * train["error"] <= baseline:
        return None
    text = f"To answer every image with the class shares costs {baseline:.4g}: on its own training images the network does worse. "
    learned_before = before is not None and before.get("training") and before["training"]["log_loss"] < baseline
    still = bool(history) and history[-1] >= NEAR_PRIOR * baseline and history[-1] <= history[0]
    if still and not worse and not learned_before:
        return "under-fitting", text + "It has hardly begun to learn: train on, or give a higher learning rate."
    return "diverged", text + "Give a lower learning rate."


def _why_worse(train: Mapping | None, before: Mapping | None, name: str) -> str:
    """What the training loss says of a stage that is worse than the one before, where it says anything."""
    earlier = (before or {}).get("training")
    if train and earlier and None not in (train["error"], earlier["error"]) and train["view"] == earlier["view"]:
        change = {"by": train["log_loss"] - earlier["log_loss"], "error": math.hypot(train["error"], earlier["error"])}
        amount = f"by {_with_error(abs(change['by']), change['error'])}"
        if _exceeds(change, CLEAR):
            return f"Its training loss rose as well, {amount}: the steps were too large. Give a lower learning rate."
        if _exceeds(change | {"by": -change["by"]}, CLEAR):
            return f"Its training loss fell, {amount}: it learns its images by heart. Train less here, or augment more."
    return f"Give a lower learning rate or fewer epochs; or leave it out, if no later stage is better than {name}."


def _exceeds(change: Mapping, factor: float) -> bool:
    """Whether a difference is above 0 by more than ``factor`` standard errors; False where its error is unknown."""
    return (
        change["by"] is not None
        and change["error"] is not None
        and change["by"] > max(factor * change["error"], ROUNDING)
    )


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.3g}" + (f" ± {error:.2g}" if error is not None else "")


def stage_of(member: str, stages: Sequence[str]) -> str | None:
    """The stage whose network a member of the ensemble is, by its name ("all_224, snapshot 2"); None where it names none."""
    named = [stage for stage in stages if member == stage or member.startswith((f"{stage},", f"{stage} ", f"{stage}:"))]
    return max(named, key=len, default=None)


def weights_by_stage(members: Sequence[Mapping], stages: Sequence[str]) -> dict[str, float] | None:
    """What the networks of each stage weigh in the answer together; None where its members are not of several stages.

    members: rows with "member" and "weight". A run whose last stage alone could answer has made no choice among stages.
    """
    of = [(stage_of(row["member"], stages), row["weight"]) for row in members]
    if len({stage for stage, _ in of if stage}) < 2:
        return None
    return {stage: float(sum(weight for named, weight in of if named == stage)) for stage in stages}
