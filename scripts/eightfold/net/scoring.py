"""From logits to probabilities, and what those score image by image. (n, classes) float; targets int (n,) or, multi-label,
0/1 (n, classes)."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of a single-label job: float64, rows sum to 1."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of a multi-label job: float64, each label for itself."""
    return 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))


def probabilities_of(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """`sigmoid` where an image may have several labels, else `softmax`: in the shape of ``logits`` (..., classes)."""
    return sigmoid(logits) if multi_label else softmax(logits)


def losses(probabilities: np.ndarray, targets: np.ndarray, clip: float = 1e-15) -> np.ndarray:
    """Cross-entropy of each row in nats, float64 (n,); multi-label: the mean binary cross-entropy of its labels.

    Probabilities are clipped to [clip, 1 - clip] first, and rows of a single-label job rescaled to 1, as Kaggle does.
    """
    p = np.clip(probabilities.astype(np.float64), clip, 1 - clip)
    if targets.ndim == 1:
        return -np.log(p[np.arange(len(p)), targets] / p.sum(1))
    return -(targets * np.log(p) + (1 - targets) * np.log1p(-p)).mean(1)


def log_loss(probabilities: np.ndarray, targets: np.ndarray, clip: float = 1e-15) -> float:
    """Mean of `losses`."""
    return float(losses(probabilities, targets, clip).mean())


def row_losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Log loss of each row in nats, float64 (n,), of logits (n, classes): for 0/1 targets (n, classes) the mean over the labels."""
    logits = logits.astype(np.float64)
    if targets.ndim == 2:
        return (np.logaddexp(0, logits) - targets * logits).mean(1)
    return np.logaddexp.reduce(logits, 1) - logits[np.arange(len(targets)), targets]


def accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Share of rows whose most probable class is right (multi-label: share of labels right at a threshold of 0.5)."""
    if targets.ndim == 1:
        return float((probabilities.argmax(1) == targets).mean())
    return float(((probabilities > 0.5) == (targets > 0.5)).mean())


def figures(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """accuracy and log_loss, which every stage reports."""
    return {"accuracy": accuracy(probabilities, targets), "log_loss": log_loss(probabilities, targets)}


def mean_and_error(values: np.ndarray) -> tuple[float | None, float | None]:
    """Mean of independent values and its standard error, s / sqrt(n); None for what so few values do not give."""
    if not len(values):
        return None, None
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return float(np.mean(values)), error
