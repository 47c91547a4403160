"""Each part against its peer, on the same images with the same threads."""

import math
import statistics

import numpy as np
import torch
from measure import Found, faster, in_turns
from peer import Peer
from PIL import Image
from rows import TUNED, Bench, row
from torch import nn

from eightfold.core.devices import Device, device
from eightfold.inputs import activations, pixels
from eightfold.inputs.sources import Views
from eightfold.net import heads, nets, starting_weights, trunks
from eightfold.predict import prediction
from eightfold.raw import images
from eightfold.train import lr_finder, training
from eightfold.train.setting import How, Setting

SIZE, BATCH = 224, 64
AUGMENTATION = {"preset": "side_on", "max_zoom": 1.1, "max_rotate": 10, "max_light": 0.05, "crop": "random"}
MEAN, STD = starting_weights.IMAGENET_MEAN, starting_weights.IMAGENET_STD
STAGE = {
    "name": "bench",
    "augment": True,
    "first_view": 1,
    "cycles": 1,
    "cycle_len": 1,
    "cycle_mult": 1,
    "lr_ratio": 10,
}


def here() -> Device:
    """The device and number format that a job would take."""
    with device() as found:
        return found


def views(bench: Bench, size: int = SIZE) -> Views:
    return Views(bench.packed, size, AUGMENTATION, 0, MEAN, STD, here())


def trunk(arch: str) -> trunks.Trunk:
    return starting_weights.pretrained(arch, "none", 0)[0]


def wait() -> None:
    """Until an accelerator has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# ---- from files to pixels


def ours_read(paths, threads: int) -> None:
    read = lambda path: pixels.resized(images.open_image(path.read_bytes(), None, 256), 256)  # noqa: E731
    for _ in pixels.in_order(read, paths, threads):
        pass


def pillow_read(paths) -> None:
    for path in paths:
        with Image.open(path) as image:
            width, height = image.size
            scale = 256 / min(width, height)
            np.asarray(image.convert("RGB").resize((round(width * scale), round(height * scale)), Image.BILINEAR))


@row("pixels", "Pillow's seconds over ours: decode and resize to 256 px, JPEG of 500 x 375 px", at_least=2)
def decode_resize_vs_pillow(bench: Bench) -> Found:
    return faster(lambda: ours_read(bench.photos, bench.threads), lambda: pillow_read(bench.photos), 7)


@row("pixels", "Pillow's seconds over ours: decode and resize to 256 px, JPEG of 2,592 x 1,944 px", at_least=2)
def decode_resize_large_vs_pillow(bench: Bench) -> Found:
    photos = bench.large_photos
    return faster(lambda: ours_read(photos, bench.threads), lambda: pillow_read(photos), 5)


@row("pixels", "torchvision's seconds over ours: decode_jpeg and v2.functional.resize with antialias, 500 x 375 px")
def decode_resize_vs_torchvision(bench: Bench) -> Found:
    from torchvision.io import decode_jpeg, read_file
    from torchvision.transforms.v2 import functional as F

    def peer() -> None:
        for path in bench.photos:
            F.resize(decode_jpeg(read_file(str(path))), [256], antialias=True)

    return faster(lambda: ours_read(bench.photos, bench.threads), peer, 7)


@row("pixels", "seconds of decoding and resizing (Pillow, one thread) over those of reading packed pixels", at_least=20)
def packed_read_vs_decode(bench: Bench) -> Found:
    rows = np.arange(len(bench.photos))
    return faster(lambda: bench.packed.batch(rows), lambda: pillow_read(bench.photos), 7)


@row("pixels", "bytes a second of reading packed pixels over those of copying memory", at_least=0.1)
def packed_read_share_of_memory(bench: Bench) -> Found:
    rows = np.arange(len(bench.photos))
    flat = np.asarray(bench.packed.flat).copy()
    copied = np.empty_like(flat)
    found = in_turns({"ours": lambda: bench.packed.batch(rows), "copy": lambda: np.copyto(copied, flat)}, 9)
    ratios = [copy / ours for ours, copy in zip(found["ours"], found["copy"], strict=True)]
    seconds = {name: statistics.median(values) for name, values in found.items()}
    return Found(ratios, seconds, f"{flat.nbytes / seconds['ours'] / 1e9:.2f} GB/s, checksums compared")


# ---- views


@row("views", "torchvision.transforms.v2's seconds over ours: an augmented view of 64 images at 224 px")
def views_vs_torchvision(bench: Bench) -> Found:
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomAffine(10, scale=(1.0, 1.1), interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomCrop(SIZE),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.05, contrast=0.05),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    source, rows = views(bench), np.arange(BATCH)
    unpacked = [torch.from_numpy(bench.packed[row].copy()).permute(2, 0, 1) for row in rows]
    return faster(lambda: source(rows, 1), lambda: torch.stack([transform(image) for image in unpacked]), 5)


@row("views", "fastai's aug_transforms' seconds over ours: an augmented view of 64 images at 224 px", minutes=1)
def views_vs_fastai(bench: Bench) -> Found:
    source, rows = views(bench), np.arange(BATCH)
    return faster(lambda: source(rows, 1), lambda: bench.fastai.ask(do="views", size=SIZE), 5)


# ---- the network


def flops(network: nn.Module, inputs: torch.Tensor) -> int:
    """Floating-point operations of the convolutions and linear layers of a forward pass."""
    total = 0

    def count(module, given, made) -> None:
        nonlocal total
        total += 2 * made.numel() * math.prod(module.weight.shape[1:])

    hooks = [
        module.register_forward_hook(count) for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.inference_mode():
        network(inputs)
    for hook in hooks:
        hook.remove()
    return total


def plain_forward(arch: str, inputs: torch.Tensor):
    """torchvision's own network as a tutorial would run it: float32, eval, no_grad."""
    from torchvision.models import get_model

    network = get_model(arch, weights=None).to(inputs.device).eval()

    def run() -> None:
        with torch.no_grad():
            network(inputs)
        wait()

    return run


def ours_forward(bench: Bench, arch: str):
    source, rows, network, on = views(bench), np.arange(BATCH), trunk(arch), here()

    def run() -> None:
        list(activations.compute(network, source, rows, [1], on)[1].pieces)

    return run


def against_torchvision(bench: Bench, arch: str) -> Found:
    inputs = views(bench)(np.arange(BATCH), 1).contiguous()
    return faster(ours_forward(bench, arch), plain_forward(arch, inputs), 3, note="ours with reading and views")


@row("network", "seconds of torchvision's resnet34 on ready tensors over those of our activations of an augmented view")
def activations_vs_torchvision(bench: Bench) -> Found:
    return against_torchvision(bench, "resnet34")


@row("network", "the same for mobilenet_v2")
def activations_mobilenet_vs_torchvision(bench: Bench) -> Found:
    return against_torchvision(bench, "mobilenet_v2")


@row("network", "FLOP/s of activations of resnet34 at 224 px over those of the best 2,048-square product", at_least=0.8)
def activations_share_of_matmul(bench: Bench) -> Found:
    on, side = here(), 2048
    work = flops(trunk("resnet34"), torch.zeros(1, 3, SIZE, SIZE)) * BATCH
    squares = {dtype: torch.randn(2, side, side, device=on.device).to(dtype) for dtype in {torch.float32, on.dtype}}

    def product(dtype: torch.dtype) -> None:
        for _ in range(5):
            torch.mm(*squares[dtype])
        wait()

    works = {"ours": ours_forward(bench, "resnet34")}
    works |= {str(dtype): (lambda dtype=dtype: product(dtype)) for dtype in squares}
    found = in_turns(works, 5)
    best = min((name for name in found if name != "ours"), key=lambda name: statistics.median(found[name]))
    rates = [work / a / (5 * 2 * side**3 / b) for a, b in zip(found["ours"], found[best], strict=True)]
    seconds = {name: statistics.median(values) for name, values in found.items()}
    note = f"{work / seconds['ours'] / 1e9:.0f} of {10 * side**3 / seconds[best] / 1e9:.0f} GFLOP/s ({best})"
    return Found(rates, seconds, note)


# ---- stages, at 128 px on 64 images to learn from and 32 to validate with


def setting(bench: Bench):
    source = views(bench, 128)
    net = nets.Net(trunk("resnet34"), heads.head(512, 2, 0))
    return net, source, np.arange(96) % 2, np.arange(64), np.arange(64, 96)


def epoch(bench: Bench, net: nn.Module, source, split: list, rates: list) -> None:
    """One epoch of ours, from nothing; ``split``: targets, and the rows to learn from and to validate with."""
    path = bench.folder / "resume.safetensors"
    path.unlink(missing_ok=True)
    training.train(Setting(net, source, *split), STAGE, rates, How(32, 0, here()), path, "bench")


def unfrozen_epoch(bench: Bench, peer: Peer) -> Found:
    net, source, *split = setting(bench)
    return faster(lambda: epoch(bench, net, source, split, [1e-4] * 3), lambda: peer.ask(do="epoch", frozen=False), 3)


@row("stages", "fastai's seconds over ours: one epoch of all layers, resnet34 at 128 px, 64 + 32 images", minutes=1.5)
def unfrozen_epoch_vs_fastai(bench: Bench) -> Found:
    return unfrozen_epoch(bench, bench.fastai)


@row("stages", TUNED, minutes=1.5)
def unfrozen_epoch_vs_fastai_tuned(bench: Bench) -> Found:
    return unfrozen_epoch(bench, bench.fastai_tuned)


@row("stages", "fastai's seconds over ours: an epoch of a head, ours on cached activations", minutes=1)
def head_epoch_vs_fastai(bench: Bench) -> Found:
    _, source, *split = setting(bench)
    computed = activations.compute(trunk("resnet34"), source, np.arange(96), [0, 1], here())
    cached = {view: torch.cat(list(values.pieces)) for view, values in computed.items()}
    head = heads.head(512, 2, 0)

    def ours() -> None:
        epoch(bench, head, lambda rows, view: cached[view][torch.from_numpy(rows)].to(here().device), split, [1e-3])

    return faster(ours, lambda: bench.fastai.ask(do="epoch", frozen=True), 3, note="without the activations' own cost")


@row("stages", "fastai's seconds over ours: 20 steps of the learning-rate finder of all layers", minutes=2)
def lr_find_vs_fastai(bench: Bench) -> Found:
    net, source, targets, train, _ = setting(bench)

    def ours() -> None:
        lr_finder.sweep(Setting(net, source, targets, train), STAGE, How(32, 0, here()), 20, 1e-7, 1e-6)

    return faster(ours, lambda: bench.fastai.ask(do="lr_find", steps=20), 2)


@row("stages", "fastai's seconds over ours: 4 views and the plain one of 32 images", minutes=1)
def tta_vs_fastai(bench: Bench) -> Found:
    net, source, _, _, valid = setting(bench)
    return faster(
        lambda: prediction.logits_of_heads(net.trunk, [net.head], source, valid, 5, here()),
        lambda: bench.fastai.ask(do="tta", views=4),
        3,
    )
