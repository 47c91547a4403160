"""What a page of scikit-learn reaches on the same network's features: a table of labels in, a submission out.

Run by accuracy.py with a JSON text. All labelled images are learned from, and the strength is LogisticRegressionCV's choice.
Prints {"strength"}.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
from eightfold.core.devices import computes_bfloat16
from eightfold.core.runtime import keep_freed_memory
from eightfold.net import starting_weights

STRENGTHS = 10.0 ** np.arange(-5, 0.1, 0.5)


def features(trunk: torch.nn.Module, paths: list[Path], given: dict) -> np.ndarray:
    """The pooled features of images, each scaled and cropped to a square: float32 (images, width)."""
    mean, std = (torch.tensor(given[name]).view(3, 1, 1) for name in ("mean", "std"))
    found = []
    for start in range(0, len(paths), 32):
        images = [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in paths[start : start + 32]]
        square = [np.asarray(ImageOps.fit(image, (given["size"], given["size"]))) for image in images]
        x = torch.from_numpy(np.stack(square)).permute(0, 3, 1, 2).float() / 255
        x = ((x - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, computes_bfloat16(torch.device("cpu"))):
            found.append(trunk(x).float().numpy())
    return np.concatenate(found)


def main(given: dict) -> dict:
    keep_freed_memory()
    torch.set_num_threads(given["threads"])
    trunk = (
        starting_weights.pretrained(given["arch"], given["weights"], given["seed"])[0]
        .eval()
        .to(memory_format=torch.channels_last)
    )
    root = Path(given["root"])
    known, asked = (
        list(csv.DictReader((root / name).read_text(encoding="utf-8").splitlines()))
        for name in ("labels.csv", "sample_submission.csv")
    )
    x, new = (
        features(trunk, [root / split / f"{row['id']}{given['suffix']}" for row in rows], given)
        for split, rows in (("train", known), ("test", asked))
    )
    y = [row["label"] for row in known]
    folds = StratifiedKFold(5, shuffle=True, random_state=given["seed"])
    fit = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(Cs=STRENGTHS, cv=folds, scoring="neg_log_loss", max_iter=1000),
    ).fit(x, y)
    answers = fit.predict_proba(new)
    with open(given["out"], "w", newline="", encoding="utf-8") as file:
        rows = [[row["id"], *map(float, answer)] for row, answer in zip(asked, answers, strict=True)]
        csv.writer(file).writerows([["id", *fit.classes_], *rows])
    return {"strength": float(np.ravel(fit[-1].C_)[0])}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
