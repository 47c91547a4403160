"""What a trained network looks at: its features, and Grad-CAM on the images that it got wrong or was unsure of."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from eightfold.core.devices import Device
from eightfold.core.files import checked, read_json
from eightfold.inputs import dataset
from eightfold.inputs.pixels import Pixels
from eightfold.inputs.sources import Views
from eightfold.net import checkpoint_parts
from eightfold.net.nets import Net
from eightfold.net.scoring import probabilities_of
from eightfold.predict.prediction import BATCH
from eightfold.review import held_out, telling_images
from eightfold.review.held_out import HeldOut
from eightfold.review.sheets import GREEN, RED, sheet_svg
from eightfold.train import stages

Source = Callable[[np.ndarray, int], torch.Tensor]  # rows of the manifest and a view -> inputs
CPU = Device(torch.device("cpu"), torch.float32)


def rows_to_show(folds: pd.DataFrame, settings: Mapping) -> np.ndarray:
    """Rows that the fold holds out, ``most`` of them at most, at random, in rising order. settings: fold, most, seed."""
    rows = dataset.train_valid_rows(folds, settings["fold"])[1]
    return telling_images.random_rows(rows, settings["most"], settings["seed"])


def source_of(pixels: Pixels, settings: Mapping, scale: Mapping, device: Device) -> Views:
    """The plain view of the images. settings: size (px), augmentation (its crop). scale: mean and std of a channel."""
    plain = {"preset": "none", **settings["augmentation"]}
    return Views(pixels, settings["size"], plain, 0, scale["mean"], scale["std"], device)


def open_network(given, settings: Mapping, classes: int, width: int) -> Net:
    """The network of trunk and head among a rule's inputs ``given``. settings: arch, seed; width: of its pooled vector.

    Raises UserError for a damaged file.
    """
    net = stages.network(settings["arch"], classes, width, settings["seed"])
    checkpoint_parts.load_part(net.trunk, checked(given.trunk, read_json(given.trunk_identity)), "trunk")
    net.head = checkpoint_parts.load_head(checked(given.head, read_json(given.head_identity)))
    return net


def features(net: Net, source: Source, rows: np.ndarray, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Pooled trunk outputs (n, width) and logits (n, classes) of the plain view of n rows, float32."""
    net = net.cpu().eval()
    with torch.inference_mode():
        pooled = [torch.empty(0, net.trunk.width)]  # of no rows at all there is still a shape
        logits = [net.head(pooled[0])]
    net = net.to(device.device)
    with torch.inference_mode(), device.autocast():
        for start in range(0, len(rows), BATCH):
            of_batch = net.trunk(source(rows[start : start + BATCH], 0))
            pooled.append(of_batch.float().cpu())
            logits.append(net.head(of_batch).float().cpu())
    return torch.cat(pooled).numpy(), torch.cat(logits).numpy()


def answered(rows: np.ndarray, logits: np.ndarray, table: pd.DataFrame, info: dict) -> HeldOut:
    """The rows with what this one network answers by its logits (n, C), itself: what was tuned, was tuned for all networks
    that answer together. table, info: the manifest."""
    return held_out.of_rows(rows, probabilities_of(logits, info["task"] == "multi"), table, info, {})


def grad_cam(net: Net, inputs: torch.Tensor, chosen: Sequence[int]) -> np.ndarray:
    """Where each input (n, 3, s, s) has what speaks for the class ``chosen`` of it: float32 (n, s, s) in 0-1.

    Selvaraju et al. 2017: channels of the last map, weighted by the mean gradient of the class's logit; the positive
    part, scaled to its own maximum (all 0 where nothing speaks for the class). The map of a network of tokens is its last
    patches in their places; the heat of several networks is added up.
    """
    net, trunk, side = net.eval(), net.trunk, inputs.shape[-2:]
    with torch.no_grad():
        lasts = trunk.lasts(inputs)
    lasts = [last.detach().requires_grad_() for last in lasts]
    logits = net.head(trunk.pool_all(lasts))
    gradients = torch.autograd.grad(logits[torch.arange(len(inputs)), torch.as_tensor(chosen)].sum(), lasts)
    heat = torch.zeros(len(inputs), *side, device=inputs.device)
    for gradient, maps in zip(trunk.maps_of_all(gradients), trunk.maps_of_all(lasts), strict=True):
        one = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).clamp(min=0)  # (n, 1, h, w)
        heat += torch.nn.functional.interpolate(one, side, mode="bilinear", align_corners=False)[:, 0]
    return (heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)).detach().cpu().numpy()


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image (s, s, 3) of values 0-255 as uint8, dimmed where the heat (s, s) is low and tinted orange where it is high."""
    grey = image.mean(2, keepdims=True) * 0.6
    warm = np.array([255.0, 150.0, 30.0])
    weight = heat[..., None]
    return np.clip(grey * (1 - weight) + (0.62 * image + 0.38 * warm) * weight, 0, 255).astype(np.uint8)


def cam_sheets(net: Net, source: Source, images: HeldOut, scale: Mapping, number: int) -> dict[str, str]:
    """{"most_incorrect", "most_uncertain"}: sheets as SVG text, of up to ``number`` images each. net and source: on the CPU.

    Each image is there twice: with what spoke for the likeliest class, and for the truth (of several labels, the likeliest
    one that it has). scale: {"mean", "std"} per channel, by which the source normalises.
    """
    made, first = {}, "predicted" if images.targets.ndim == 1 else "likeliest"
    for name in ("most_incorrect", "most_uncertain"):
        shown, captions, colours = [], [], []
        for i in getattr(telling_images, name)(images, number):
            truth, likeliest = _truth(images, i), int(images.probabilities[i].argmax())
            inputs = source(images.rows[i : i + 1], 0)
            heats = grad_cam(net, inputs.repeat(2, 1, 1, 1), [likeliest, truth])
            image = _shown(inputs[0], scale)
            for heat, c, kind in zip(heats, (likeliest, truth), (first, "actual"), strict=True):
                shown.append(overlay(image, heat))
                captions.append(f"for {kind} {images.classes[c]}\n{images.probabilities[i][c]:.0%}\n{images.ids[i]}")
                colours.append(GREEN if c == truth else RED)
        title = f"{name.replace('_', ' ').capitalize()}: what spoke for each class (Grad-CAM)"
        made[name] = sheet_svg(shown, captions, title=title, colors=colours, empty="None to show.")
    return made


def _truth(images: HeldOut, i: int) -> int:
    """The class of image ``i``; of several labels, the likeliest of them."""
    if images.targets.ndim == 1:
        return int(images.targets[i])
    return int(np.argmax(np.where(images.targets[i] > 0, images.probabilities[i], -1)))


def _shown(inputs: torch.Tensor, scale: Mapping) -> np.ndarray:
    """Normalised inputs (3, s, s) as an image (s, s, 3), float32 in 0-255."""
    mean, std = (torch.tensor(scale[name]).view(3, 1, 1) for name in ("mean", "std"))
    return ((inputs * std + mean) * 255).clamp(0, 255).permute(1, 2, 0).numpy()
