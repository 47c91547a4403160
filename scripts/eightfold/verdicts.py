"""Under-fitting or over-fitting, in plain words, after the notes of the lesson."""

import math

import numpy as np
import pandas as pd

# The last epoch's training and validation loss are compared. Training loss is measured under dropout and augmentation
# and as a mean over an epoch in which the network still improves, so a healthy run shows it somewhat ABOVE the
# validation loss: only a good deal more is under-fitting, while hardly anything below it is already over-fitting.
UNDER_RATIO = 1.4  # training loss above this many validation losses: under-fitting
OVER_RATIO = 0.7  # training loss below this many validation losses: over-fitting
RISE_RATIO = 1.1  # validation loss above this many times its own best, training loss still falling: over-fitting
LEAST_GAP = 0.02  # nats between two losses below which no ratio counts: both are small or alike


def _numbers(history: pd.DataFrame, column: str) -> np.ndarray:
    if column not in history:
        return np.full(len(history), np.nan)
    return pd.to_numeric(history[column], errors="coerce").to_numpy(dtype=np.float64)


def verdict(history: pd.DataFrame, metrics: dict | None = None) -> dict:
    """{"kind", "text"} of a stage's history: "under-fitting", "over-fitting", "balanced" or "unknown", and what to do.

    ``metrics`` may give the stage's {"accuracy", ...}, which the text then quotes.
    """
    train, valid = _numbers(history, "train_loss"), _numbers(history, "valid_loss")
    if not len(train) or not math.isfinite(train[-1]):
        text = "The training loss is not a number: the network diverged or never trained. Give a lower learning rate."
        return {"kind": "unknown", "text": text}
    if not np.isfinite(valid).any():
        text = "There are no validation images, so nothing tells under-fitting from over-fitting."
        return {"kind": "unknown", "text": text + " Judge the recipe on a run that holds a fold back."}
    if not math.isfinite(valid[-1]):
        text = "The validation loss is not a number: the network diverged. Give a lower learning rate."
        return {"kind": "unknown", "text": text}
    last, held, best = float(train[-1]), float(valid[-1]), int(np.nanargmin(valid))
    accuracy = (metrics or {}).get("accuracy")
    losses_text = f"Training loss {last:.3g}, validation loss {held:.3g} nats"
    losses_text += f", accuracy {accuracy * 100:.2f}\u00a0%. " if accuracy is not None else ". "
    risen = held > RISE_RATIO * valid[best] and held - valid[best] > LEAST_GAP and last < train[best]
    if risen:
        text = f"The validation loss was best in epoch {best + 1} of {len(valid)} and has risen since, while the "
        text += "training loss still fell. Stop earlier (fewer cycles), augment more, or train at a smaller size first."
        return {"kind": "over-fitting", "text": losses_text + text}
    if last > UNDER_RATIO * held and last - held > LEAST_GAP:
        text = "Training loss is well above validation loss, by more than dropout and augmentation explain. "
        text += "Train on: longer cycles (cycle_len, cycle_mult), more epochs, or all layers."
        return {"kind": "under-fitting", "text": losses_text + text}
    if last < OVER_RATIO * held and held - last > LEAST_GAP:
        text = "Training loss is well below validation loss: the network learns its images by heart. "
        text += "Stop here or earlier, augment more, or train at a smaller size first."
        return {"kind": "over-fitting", "text": losses_text + text}
    text = "The two go together: neither too little training nor too much. If more is wanted, "
    text += "a larger size, a larger network or more images may give it."
    return {"kind": "balanced", "text": losses_text + text}
