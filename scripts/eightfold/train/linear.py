"""The convex answer: L2-penalised logistic regression on pooled activations, folded into one linear layer.

No rate, no epochs and no starting weights: one minimum, found by L-BFGS-B, the routine behind scikit-learn's solver. Only
the strength of the penalty is chosen, by cross-validation within the training rows.

The problem, for rows x (features,) of weight s that are standardised, is that of scikit-learn's LogisticRegression:

    minimise  sum of squares of W / 2  +  C * sum over rows of s * loss(W x + b)

with the cross-entropy of a softmax, or of a sigmoid per label. The bias b is free. (scikit-learn has one column for two
classes where this has two, so its C of such a job is twice this one.)
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import nn

from eightfold.inputs import dataset, stratify
from eightfold.net import heads

# Strengths that are tried, the strongest penalty first: where the loss has risen for PATIENCE of them, the rest, which take
# the longest, are left out.
GRID = tuple(10.0 ** (power / 2) for power in range(-10, 3))  # 1e-5 to 10
PATIENCE = 2
INNER_FOLDS = 5
ONE_SPLIT_ABOVE = 10_000  # images: a fifth of so many measures a log loss well enough, so one inner fold is scored
DEFAULT_C = 1e-3  # where nothing can be held out
FLOAT64_BYTES = 2**31  # activations are computed on as float64 up to this size, as float32 above it
LOOSE, TIGHT = 1e-4, 1e-6  # largest entry of the gradient of the mean loss: while choosing, and of the answer
MOST_STEPS = 1000
CHUNK = 4096  # rows at once
SMALL = 4_000_000  # multiplications of a step: fewer are done by one thread, which waits for no other


class Path(NamedTuple):
    """What the choice of the strength saw: each strength tried, the mean log loss (nats) that held-out images had at it, and
    the strength chosen. ``losses`` is empty where no image could be held out."""

    strengths: list[float]
    losses: list[float]
    chosen: float


class Standard(NamedTuple):
    """Mean and scale of each feature: (x - mean) / scale has mean 0 and variance 1 on the rows it was taken from.

    Where a feature is constant the scale is infinite: it then says nothing, and a folded weight of it is 0.
    """

    mean: torch.Tensor
    scale: torch.Tensor


def standard_of(x: torch.Tensor, weights: torch.Tensor | None = None) -> Standard:
    """`Standard` of rows x (n, features), weighted by ``weights`` (n,)."""
    share = torch.full((len(x), 1), 1 / len(x), dtype=torch.float64, device=_wide(x.device))
    if weights is not None:
        share = (weights / weights.sum()).to(share)[:, None]
    mean = sum((part.to(share) * s).sum(0) for part, s in zip(x.split(CHUNK), share.split(CHUNK), strict=True))
    squares = sum(
        ((part.to(share) - mean) ** 2 * s).sum(0) for part, s in zip(x.split(CHUNK), share.split(CHUNK), strict=True)
    )
    scale = squares.sqrt()
    # float32 activations that are all alike differ from their mean by rounding alone.
    constant = scale <= 1e-6 * mean.abs() + 1e-30
    return Standard(mean, torch.where(constant, torch.inf, scale))


def _wide(device: torch.device) -> torch.device:
    """Where float64 can be computed on: the device itself, or the CPU where it has none (MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


class Rotated(NamedTuple):
    """Rows in the basis of their own principal axes: z (n, rank) = x @ axes, axes (features, rank), variances (rank,).

    The penalty does not change under a rotation, and the minimum lies in the span of the rows, so the problem in z has the
    same answer; it is smaller where there are fewer rows than features, and its axes can be scaled one by one.
    """

    z: torch.Tensor
    axes: torch.Tensor
    variances: torch.Tensor


def rotated(x: torch.Tensor) -> Rotated:
    """`Rotated` of standardised rows x (n, features)."""
    n, features = x.shape
    if n <= features:
        values, vectors = torch.linalg.eigh((x @ x.T).double())
        keep = values > values.max() * 1e-12
        lengths = values[keep].sqrt()
        axes = (x.T.double() @ vectors[:, keep]) / lengths
        z = (vectors[:, keep] * lengths).to(x.dtype)
    else:
        values, vectors = torch.linalg.eigh(sum((part.T @ part).double() for part in x.split(CHUNK)))
        keep = values > values.max() * 1e-12
        axes = vectors[:, keep]
        z = torch.cat([part @ axes.to(x.dtype) for part in x.split(CHUNK)])
    return Rotated(z, axes, values[keep] / n)


def loss_and_gradients(
    z: torch.Tensor, targets: torch.Tensor, share: torch.Tensor, w: torch.Tensor, b: torch.Tensor
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Mean cross-entropy (nats; of several labels, their sum) of rows weighted by ``share``, which sums to 1, and its
    gradients by w (features, classes) and b (classes,).

    targets: int64 (n,), softmax; or float (n, classes), a sigmoid per label. The gradient is x (p - y) in either case.
    """
    logits = z @ w + b
    if targets.dim() == 1:
        logs = logits.log_softmax(1)
        loss = -(logs.gather(1, targets[:, None])[:, 0] * share).sum()
        error = logs.exp()
        error[torch.arange(len(z), device=z.device), targets] -= 1
    else:
        loss = ((nn.functional.softplus(logits) - targets * logits).sum(1) * share).sum()
        error = logits.sigmoid() - targets
    error = error * share[:, None]
    return loss.item(), z.T @ error, error.sum(0)


def minimum(
    rows: Rotated,
    targets: torch.Tensor,
    weights: torch.Tensor,
    c: float,
    start: tuple[torch.Tensor, torch.Tensor],
    tolerance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(w (rank, classes), b (classes,)) at the minimum of the penalised loss of this module's docstring, from ``start``.

    All is divided by C and by the weights' sum, so that ``tolerance`` bounds the gradient of a mean loss. L-BFGS sees each
    axis scaled by the root of its curvature at even odds: the axes' variances span six decades, and it would otherwise take
    tens of times as many steps.
    """
    z, total = rows.z, weights.sum().item()
    share, penalty = (weights / total).to(z.dtype), 1 / (c * total)
    classes = len(start[1])
    odds = 0.25 if targets.dim() == 2 else (classes - 1) / classes**2
    scale = (odds * rows.variances.to(z) + penalty).rsqrt()[:, None]
    shape, size = start[0].shape, start[0].numel()

    def value(u: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.from_numpy(u).to(z)
        w, b = at[:size].reshape(shape) * scale, at[size:]
        loss, by_w, by_b = loss_and_gradients(z, targets, share, w, b)
        loss += 0.5 * penalty * (w.double() ** 2).sum().item()
        gradient = torch.cat([((by_w + penalty * w) * scale).reshape(-1), by_b])
        return loss, gradient.double().cpu().numpy()

    first = torch.cat([(start[0] / scale).reshape(-1), start[1]]).double().cpu().numpy()
    options = {"maxiter": MOST_STEPS, "gtol": tolerance, "ftol": 64 * np.finfo(float).eps, "maxls": 50}
    found = torch.from_numpy(minimize(value, first, jac=True, method="L-BFGS-B", options=options).x).to(z)
    return found[:size].reshape(shape) * scale, found[size:]


# ---- the strength


def inner_folds(fold: np.ndarray, table: pd.DataFrame, targets: np.ndarray, seed: int) -> np.ndarray:
    """The inner fold of each training row, int64 (n,) from 0; -1 for a row that always trains.

    fold: the job's own fold of each row, -1 where it is always trained on. Three of them or more are the inner folds too:
    they are shuffled, stratified or grouped as the job is. Else the rows are dealt anew, by ``seed``: stratified, rows of the
    same bytes, and of one group where the manifest has groups, together. table: the manifest's rows of them.
    """
    own = np.unique(fold[fold >= 0])
    if len(own) >= 3:
        return np.where(fold >= 0, np.searchsorted(own, fold) % INNER_FOLDS, dataset.ALWAYS_TRAIN)
    grouped = "group" in table and bool((table["group"] != "").any())
    unit = stratify.units(table.reset_index(drop=True), "group" if grouped else None)
    first = np.unique(unit)
    count = min(INNER_FOLDS, len(first))
    if count < 2:
        return np.full(len(unit), dataset.ALWAYS_TRAIN)
    if grouped:
        hot = targets if targets.ndim == 2 else np.eye(int(targets.max()) + 1)[targets]
        return stratify.grouped(unit, count, seed, hot)
    dealt = np.full(len(unit), dataset.ALWAYS_TRAIN)
    deal = stratify.stratified if targets.ndim == 1 else stratify.stratified_multi
    dealt[first] = deal(targets[first], count, seed)
    return dealt[unit]


def held_out_loss(logits: torch.Tensor, targets: torch.Tensor, known: torch.Tensor) -> tuple[float, float]:
    """Sum of the log loss (nats) of held-out rows, and over how many rows (of several labels: cells) it is.

    known: bool (classes,), what the training rows had to learn from. A class that they lack is no matter of strength, so its
    rows (cells) are left out.
    """
    if targets.dim() == 1:
        kept = known[targets]
        return nn.functional.cross_entropy(logits[kept], targets[kept], reduction="sum").item(), int(kept.sum())
    cells = nn.functional.binary_cross_entropy_with_logits(logits[:, known], targets[:, known], reduction="sum")
    return cells.item(), targets[:, known].numel()


def learnable(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """bool (classes,): the classes that occur (n,); of labels (n, classes), those that some rows have and others lack."""
    if targets.dim() == 1:
        return torch.bincount(targets, minlength=classes) > 0
    return (targets.sum(0) > 0) & (targets.sum(0) < len(targets))


def prior(targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Logits (classes,) that give each of the learnable classes its share of the rows: the minimum where W is 0."""
    if targets.dim() == 1:
        counts = torch.zeros(int(targets.max()) + 1, dtype=weights.dtype, device=weights.device)
        counts.index_add_(0, targets, weights)
        logs = (counts / weights.sum()).log()
        return logs - logs.mean()
    share = (weights @ targets) / weights.sum()
    return torch.logit(share)


class _Problem(NamedTuple):
    """Rotated rows of all views, view after view; targets and inner fold of each image; the weight of each row."""

    rows: Rotated
    targets: torch.Tensor
    inner: torch.Tensor
    weights: torch.Tensor

    def part(self, images: torch.Tensor) -> tuple[Rotated, torch.Tensor, torch.Tensor]:
        """Rows (all views), targets and weights of some images: bool (images,)."""
        views = len(self.weights) // len(images)
        kept = images.repeat(views)
        targets = self.targets[images].repeat(*[views, 1][: self.targets.dim()])
        return self.rows._replace(z=self.rows.z[kept]), targets, self.weights[kept]


def choose_strength(problem: _Problem, classes: int, on_step: Callable[[], object]) -> Path:
    """Cross-validate each strength of GRID over the problem's inner folds, each from the answer of the one before.

    A held-out image is judged by its plain view, by a network that saw no view of it.
    """
    targets, inner = problem.targets, problem.inner
    images = len(inner)
    numbers = [fold for fold in inner.unique().tolist() if fold >= 0]
    scored = numbers[:1] if images > ONE_SPLIT_ABOVE else numbers
    scored = [fold for fold in scored if learnable(targets[inner != fold], classes).sum() > (targets.dim() == 1)]
    strengths, losses, answers = [], [], {}
    for c in GRID:
        total, count = 0.0, 0
        for fold in scored:
            rows, wanted, weights = problem.part(inner != fold)
            known = learnable(targets[inner != fold], classes)
            start = answers.get(fold) or _start(rows, wanted, weights, classes, known)
            answers[fold] = w, b = minimum(rows, wanted, weights, c, start, LOOSE)
            held = inner == fold
            loss, cells = held_out_loss(problem.rows.z[:images][held] @ w + b, targets[held], known)
            total, count = total + loss, count + cells
        if not count:
            break
        strengths.append(c)
        losses.append(total / count)
        on_step()
        if len(losses) - 1 - int(np.argmin(losses)) >= PATIENCE:
            break
    return Path(strengths, losses, strengths[int(np.argmin(losses))] if losses else DEFAULT_C)


def _start(rows, targets, weights, classes, known) -> tuple[torch.Tensor, torch.Tensor]:
    """No weights, and the classes' shares as bias; what is not ``known`` gets a low one."""
    b = torch.full((classes,), -10.0, dtype=rows.z.dtype, device=rows.z.device)
    if targets.dim() == 1:
        b[: int(targets.max()) + 1] = prior(targets, weights).to(b).clamp(min=-10)
    else:
        b[known] = prior(targets[:, known], weights).to(b)
    return torch.zeros(rows.z.shape[1], classes, dtype=b.dtype, device=b.device), b


# ---- the answer


@contextlib.contextmanager
def _threads_for(multiplications: int) -> Iterator[None]:
    """One thread for small steps, within the block: where cores are busy, two wait for each other a hundred times as long as
    the step takes. L-BFGS itself, on vectors, always has one."""
    before = torch.get_num_threads()
    with threadpool_limits(1, "blas"):
        try:
            torch.set_num_threads(before if multiplications >= SMALL else 1)
            yield
        finally:
            torch.set_num_threads(before)


def fit(
    views: Sequence[torch.Tensor],
    targets: np.ndarray,
    classes: int,
    inner: np.ndarray,
    device: torch.device | None = None,
    on_step: Callable[[], object] = lambda: None,
) -> tuple[nn.Linear, Path]:
    """The linear layer (float32, on the CPU) that answers on raw activations, and how its strength was chosen.

    views: activations (images, features) of the plain view, then of the random ones; an image weighs 1 in all. targets: of
    each image, class int64 (images,) or labels float (images, classes). inner: each image's inner fold, -1 for none.
    on_step is called at most len(GRID) + 1 times.

    What the images cannot teach gets a finite, low logit: a class without an image that of about 1 / (images + 1) of an
    average class, a label that all or none have the logarithm of its odds with half an image added to either side.
    """
    device = device or torch.device("cpu")
    x = torch.cat([torch.as_tensor(view) for view in views])
    images = len(targets)
    narrow = device.type == "mps" or x.numel() * 8 > FLOAT64_BYTES
    standard = standard_of(x)
    x = ((x.to(standard.mean) - standard.mean) / standard.scale) if not narrow else _standardised(x, standard)
    x = x.to(device)
    truth = torch.from_numpy(np.asarray(targets)).to(device)
    truth = truth if truth.dim() == 1 else truth.to(x.dtype)
    known = learnable(truth, classes).cpu()
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64)
    bias = _untaught_bias(truth, known)
    path = Path([], [], DEFAULT_C)
    if known.sum() > (truth.dim() == 1):
        truth = (known.cumsum(0) - 1).to(device)[truth] if truth.dim() == 1 else truth[:, known.to(device)]
        with _threads_for(x.numel() * min(x.shape)):
            rows = rotated(x)
        del x
        weights = torch.full((len(rows.z),), 1 / len(views), dtype=rows.z.dtype, device=device)
        problem = _Problem(rows, truth, torch.from_numpy(inner).to(device), weights)
        count = int(known.sum())
        with _threads_for(rows.z.numel() * count):
            path = choose_strength(problem, count, on_step)
            everything = problem.part(torch.ones(images, dtype=torch.bool, device=device))
            start = _start(*everything, count, torch.ones(count, dtype=torch.bool, device=device))
            w, b = minimum(*everything, path.chosen, start, TIGHT)
        weight[known] = (rows.axes @ w.to(rows.axes)).T.cpu()
        bias[known] = b.double().cpu()
    on_step()
    return folded(weight, bias, standard), path


def _standardised(x: torch.Tensor, standard: Standard) -> torch.Tensor:
    """The same in float32, chunk by chunk: large activations are not held twice as float64."""
    out = torch.empty_like(x, dtype=torch.float32)
    for into, part in zip(out.split(CHUNK), x.split(CHUNK), strict=True):
        into.copy_((part.to(standard.mean) - standard.mean) / standard.scale)
    return out


def _untaught_bias(targets: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """float64 (classes,): the bias of what cannot be learned; 0 for the rest."""
    images = len(targets)
    if targets.dim() == 1:
        # Weights of a softmax sum to 0 over the classes at the minimum and biases are centred, so 0 is an average class.
        return torch.where(known, 0.0, -np.log(images + 1.0)).double()
    have = targets.sum(0).double().cpu()
    return torch.where(known, 0.0, ((have + 0.5) / (images - have + 0.5)).log())


def folded(weight: torch.Tensor, bias: torch.Tensor, standard: Standard) -> nn.Linear:
    """The layer on raw activations that equals weight (classes, features) and bias (classes,) on standardised ones."""
    weight = weight.double().cpu() / standard.scale.cpu()
    bias = bias.double().cpu() - weight @ standard.mean.cpu()
    layer = heads.LinearHead(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
