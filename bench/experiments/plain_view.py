r"""Whether the plain view should follow the preprocessing that published weights were tested with: interpolation and crop.

    python bench/experiments/plain_view.py ants_bees mobilenet_v2 squeezenet1_1=../shared/weights/squeezenet1_1.pth
    python bench/experiments/plain_view.py solar

Each labelled image is scaled by Pillow so that the crop of its centre has the network's side, passed over once, and answered out of
five folds by the linear stage's own fit. Printed for each way: log loss, and the difference to the way of the plain view (bilinear, the
whole short side) over the images, ± its standard error.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import numpy as np
import pandas as pd
import torch
from accuracy_data_sets import DATA
from PIL import Image, ImageOps
from sklearn.model_selection import StratifiedKFold

from eightfold.config.resolve import check_yaml_file
from eightfold.core.devices import Device, computes_bfloat16
from eightfold.net import inference, scoring, starting_weights
from eightfold.train import linear

ROOT = Path(__file__).resolve().parents[2]
WAYS = [("bilinear", 1.0), ("bicubic", 1.0), ("bilinear", 0.95), ("bilinear", 0.875), ("bicubic", 0.875)]
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
BATCH = 32


def square(path: Path, size: int, way: tuple[str, float]) -> np.ndarray:
    """The centre of an image, (size, size, 3) uint8: its short side scaled to size / crop."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    scale = size / way[1] / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size], FILTERS[way[0]])
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def pooled(trunk, paths: list[Path], size: int, way: tuple[str, float], mean_std) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in mean_std)
    fast = torch.bfloat16 if computes_bfloat16(torch.device("cpu")) else torch.float32

    def source(rows: np.ndarray, view: int) -> torch.Tensor:
        images = np.stack([square(paths[row], size, way) for row in rows])
        return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std

    return inference.outputs(trunk, source, np.arange(len(paths)), 0, Device(torch.device("cpu"), fast))


def losses(x: torch.Tensor, targets: np.ndarray, classes: int) -> np.ndarray:
    """Log loss of each image by the fold that did not learn from it, nats (images,)."""
    found = np.empty(len(targets))
    for known, held in StratifiedKFold(5, shuffle=True, random_state=0).split(x, targets):
        inner = np.empty(len(known), int)
        for number, (_, rows) in enumerate(
            StratifiedKFold(4, shuffle=True, random_state=1).split(known, targets[known])
        ):
            inner[rows] = number
        layer, _ = linear.fit([x[known]], targets[known], classes, inner)
        with torch.inference_mode():
            found[held] = scoring.row_losses(layer(x[held]).numpy(), targets[held])
    return found


def main(name: str, *networks: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        job, data = DATA[name].lay_out(Path(folder)), DATA[name]
        table = pd.read_csv(job.root / "labels.csv", dtype=str)
        paths = [job.root / "train" / f"{one}{job.suffix}" for one in table["id"]]
        targets, classes = pd.factorize(table["label"], sort=True)
        own = check_yaml_file(ROOT / data.config)["model"]["arch"]
        for network in networks or [own]:
            arch, _, weights = network.partition("=")
            trunk, *mean_std = starting_weights.pretrained(arch, weights or job.weights, 0)
            trunk = trunk.to(memory_format=torch.channels_last).eval()
            base = None
            for way in WAYS:
                mine = losses(pooled(trunk, paths, data.size, way, mean_std), targets, len(classes))
                base = mine if base is None else base
                mean, error = scoring.mean_and_error(mine - base)
                print(
                    f"| {name} | {arch} | {way[0]}, {way[1]} | {mine.mean():.4f} | {mean:+.4f} ± {error:.4f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
