"""Which images look alike to a trained network: a map of them, their nearest neighbours, their thumbnails."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from eightfold.review import review
from eightfold.review.held_out import HeldOut

THUMBNAIL, COLUMNS = 64, 32  # px of an image on the sprite, and how many stand side by side
NEIGHBOURS = 6


def record(images: HeldOut, values: np.ndarray, pixels: Sequence[np.ndarray], seed: int) -> dict:
    """What map.json holds of the images: {"points", "classes", "thumbnail", "columns", "sprite"}.

    values: what the network makes of each, float (n, features). pixels: by row of the manifest. A point has its places on
    the maps, its colour (a class number), its neighbours and what the report says of it.
    """
    made = {"points": [], "classes": images.classes, "thumbnail": THUMBNAIL, "columns": COLUMNS, "sprite": None}
    if not len(images.ids):
        return made
    maps, like, right = flat_maps(values, seed), nearest(values), images.right
    likeliest = images.probabilities.argmax(1)
    made["points"] = [
        {
            "id": name,
            "truth": review.names_of(images.targets[i], images.classes),
            "said": review.names_of(images.decisions[i], images.classes),
            "sure": round(float(images.probabilities[i].max()), 3),
            "colour": int(images.targets[i] if images.targets.ndim == 1 else likeliest[i]),
            "right": bool(right[i]),
            **{kind: [round(float(x), 4) for x in places[i]] for kind, places in maps.items()},
            "like": like[i].tolist(),
        }
        for i, name in enumerate(images.ids)
    ]
    made["sprite"] = base64.b64encode(sprite([pixels[row] for row in images.rows])).decode()
    return made


def flat_maps(values: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """{"pca", "tsne"}: each image's place (n, 2) in 0-1. The same values and seed give the same map."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # scikit-learn's own

    # One thread: the same bytes whatever the job was given, and for a thousand images more only wait for one another,
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
    """(n, number) of the images with the highest cosine similarity, the likest first; an image is not its own."""
    from threadpoolctl import threadpool_limits

    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    with threadpool_limits(1):  # as in flat_maps
        like = unit @ unit.T
    np.fill_diagonal(like, -np.inf)
    return np.argsort(-like, axis=1, kind="stable")[:, : min(number, len(values) - 1)]


def sprite(images: Sequence[np.ndarray]) -> bytes:
    """Square thumbnails in rows of COLUMNS as one JPEG: image i at column i % COLUMNS, row i // COLUMNS."""
    rows = max(1, -(-len(images) // COLUMNS))
    page = Image.new("RGB", (COLUMNS * THUMBNAIL, rows * THUMBNAIL), "white")
    for number, image in enumerate(images):
        # the middle square: a border to fill a square with would be white in dark mode or black in light
        small = ImageOps.fit(Image.fromarray(np.ascontiguousarray(image)), (THUMBNAIL, THUMBNAIL))
        page.paste(small, (number % COLUMNS * THUMBNAIL, number // COLUMNS * THUMBNAIL))
    made = io.BytesIO()
    page.save(made, "JPEG", quality=72, optimize=True)
    return made.getvalue()
