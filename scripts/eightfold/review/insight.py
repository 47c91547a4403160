"""What a trained network looks at, and which pictures look alike to it: Grad-CAM, a map, nearest neighbours."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageOps

from eightfold.core.devices import Device
from eightfold.net.nets import Net
from eightfold.predict.prediction import BATCH

THUMBNAIL, COLUMNS = 64, 32  # px of a picture on the sprite, and how many stand side by side
NEIGHBOURS = 6


def features(
    net: Net, source: Callable[[np.ndarray, int], torch.Tensor], rows: np.ndarray, device: Device
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled trunk outputs (n, 2 * features) and logits (n, classes) of the plain view, float32."""
    net = net.to(device.device).eval()
    pooled, logits = [], []
    with torch.inference_mode(), device.autocast():
        for start in range(0, len(rows), BATCH):
            of_batch = net.trunk(source(rows[start : start + BATCH], 0))
            pooled.append(of_batch.float().cpu())
            logits.append(net.head(of_batch).float().cpu())
    return torch.cat(pooled).numpy(), torch.cat(logits).numpy()


def grad_cam(net: Net, inputs: torch.Tensor, chosen: Sequence[int]) -> np.ndarray:
    """Where each input (n, 3, s, s) has what speaks for the class ``chosen`` of it: float32 (n, s, s) in 0-1.

    Selvaraju et al. 2017: channels of the last map, weighted by the mean gradient of the class's logit; the positive
    part, scaled to its own maximum (all 0 where nothing speaks for the class).
    """
    net = net.eval()
    with torch.no_grad():
        last = net.trunk.last_map(inputs)  # (n, features, s / 32, s / 32)
    last = last.detach().requires_grad_()
    logits = net.head(torch.cat([last.amax((2, 3)), last.mean((2, 3))], 1))
    (gradient,) = torch.autograd.grad(logits[torch.arange(len(inputs)), torch.as_tensor(chosen)].sum(), last)
    heat = (gradient.mean((2, 3), keepdim=True) * last).sum(1, keepdim=True).clamp(min=0)
    heat = torch.nn.functional.interpolate(heat, inputs.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return (heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)).detach().cpu().numpy()


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A uint8 picture (s, s, 3), dimmed where the heat (s, s) is low and tinted orange where it is high."""
    grey = picture.mean(2, keepdims=True) * 0.6
    warm = np.array([255.0, 150.0, 30.0])
    weight = heat[..., None]
    return np.clip(grey * (1 - weight) + (0.62 * picture + 0.38 * warm) * weight, 0, 255).astype(np.uint8)


def flat_maps(values: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """{"pca", "tsne"}: each picture's place (n, 2) in 0-1. The same values and seed give the same map."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # scikit-learn's own

    # One thread: the same bytes whatever the job was given, and for a thousand pictures more only wait for one another,
    # for minutes where the machine is busy.
    with threadpool_limits(1):
        parts = min(50, *values.shape)
        components = PCA(parts, svd_solver="full").fit_transform(values.astype(np.float64))
        pca = np.zeros((len(values), 2))
        pca[:, : min(2, parts)] = components[:, :2]
        tsne = pca
        if len(values) > 5:
            perplexity = min(30.0, (len(values) - 1) / 3)
            tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(components)

    def unit(places):
        low, span = places.min(0), np.ptp(places, 0)
        return (places - low) / np.where(span > 0, span, 1)

    return {"pca": unit(pca), "tsne": unit(tsne)}


def nearest(values: np.ndarray, number: int = NEIGHBOURS) -> np.ndarray:
    """(n, number) of the pictures with the highest cosine similarity, the likest first; a picture is not its own."""
    from threadpoolctl import threadpool_limits

    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    with threadpool_limits(1):  # as in flat_maps
        like = unit @ unit.T
    np.fill_diagonal(like, -np.inf)
    return np.argsort(-like, axis=1, kind="stable")[:, : min(number, len(values) - 1)]


def sprite(pictures: Sequence[np.ndarray]) -> bytes:
    """Square thumbnails in rows of COLUMNS as one JPEG: picture i at column i % COLUMNS, row i // COLUMNS."""
    rows = max(1, -(-len(pictures) // COLUMNS))
    page = Image.new("RGB", (COLUMNS * THUMBNAIL, rows * THUMBNAIL), "white")
    for number, picture in enumerate(pictures):
        # the middle square: a border to fill a square with would be white in dark mode or black in light
        small = ImageOps.fit(Image.fromarray(np.ascontiguousarray(picture)), (THUMBNAIL, THUMBNAIL))
        page.paste(small, (number % COLUMNS * THUMBNAIL, number // COLUMNS * THUMBNAIL))
    made = io.BytesIO()
    page.save(made, "JPEG", quality=72, optimize=True)
    return made.getvalue()
