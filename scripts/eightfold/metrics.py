"""Figures of merit, on probabilities. (n, classes) float; targets int (n,) or, multi-label, 0/1 (n, classes)."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of a single-label job: float64, rows sum to 1."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of a multi-label job: float64, each label for itself."""
    return 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))


def log_loss(probabilities: np.ndarray, targets: np.ndarray, clip: float = 1e-15) -> float:
    """Mean cross-entropy in nats (multi-label: mean binary cross-entropy over rows and labels).

    Probabilities are clipped to [clip, 1 - clip] first, and rows of a single-label job rescaled to 1, as Kaggle does.
    """
    p = np.clip(probabilities.astype(np.float64), clip, 1 - clip)
    if targets.ndim == 1:
        return float(-np.log(p[np.arange(len(p)), targets] / p.sum(1)).mean())
    return float(-(targets * np.log(p) + (1 - targets) * np.log1p(-p)).mean())


def accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Share of rows whose most probable class is right (multi-label: share of labels right at a threshold of 0.5)."""
    if targets.ndim == 1:
        return float((probabilities.argmax(1) == targets).mean())
    return float(((probabilities > 0.5) == (targets > 0.5)).mean())


def summary(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float | int]:
    """The figures that every stage and the final prediction report."""
    return {
        "accuracy": accuracy(probabilities, targets),
        "log_loss": log_loss(probabilities, targets),
        "images": len(targets),
    }
