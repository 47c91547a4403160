"""The table of docs/trunks.md: what the workflow takes of each network, and how many images a second it passes on here.

    python bench/trunks.py                   # all of them, into docs/trunks.md
    python bench/trunks.py resnet34 timm/vit_tiny_patch16_224

The weights are random, since neither shapes nor seconds depend on them. Images a second: the best of three passes of a batch
of 16 at the network's own size, in the number format that the device is fast at.
"""

import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "scripts"), str(HERE)]

import torch  # noqa: E402
from measure import machine, name_of  # noqa: E402

from eightfold.core.devices import device  # noqa: E402
from eightfold.core.files import UserError, write_text  # noqa: E402
from eightfold.net import folding, timm_nets, trunks  # noqa: E402

PAGE = HERE.parent / "docs" / "trunks.md"
BEGIN, END = "<!-- table: written by bench/trunks.py -->", "<!-- /table -->"
BATCH, PASSES = 16, 3
SIZES = (96, 128, 160, 192, 224, 256, 288, 299, 320, 336, 384)
TORCHVISION = [
    *(
        "squeezenet1_1",
        "shufflenet_v2_x1_0",
        "mobilenet_v2",
        "mobilenet_v3_large",
        "efficientnet_b0",
        "efficientnet_v2_s",
    ),
    *(
        "resnet18",
        "resnet34",
        "resnet50",
        "resnext50_32x4d",
        "densenet121",
        "regnet_y_1_6gf",
        "convnext_tiny",
        "vgg16_bn",
    ),
    *("swin_t", "swin_v2_t", "maxvit_t", "vit_b_16", "vit_b_32"),
]
TIMM = [
    *(
        "mobilenetv3_small_100",
        "mobilenetv4_conv_small",
        "efficientnet_lite0",
        "efficientvit_b0",
        "fastvit_t8",
        "repvit_m0_9",
    ),
    *("convnext_atto", "convnextv2_atto", "edgenext_small", "caformer_s18", "tiny_vit_5m_224", "poolformer_s12"),
    *("vit_tiny_patch16_224", "vit_small_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"),
    *(
        "vit_small_patch14_dinov2",
        "vit_small_patch14_reg4_dinov2",
        "vit_small_patch16_dinov3",
        "eva02_tiny_patch14_224",
    ),
    *(
        "vit_base_patch16_clip_224",
        "vit_base_patch16_siglip_224",
        "vit_pe_core_tiny_patch16_384",
        "beit_base_patch16_224",
    ),
    *("hiera_tiny_224", "xcit_nano_12_p16_224", "cait_xxs24_224", "levit_128s", "mixer_s32_224", "volo_d1_224"),
    *(
        "swin_tiny_patch4_window7_224",
        "swinv2_tiny_window8_256",
        "maxvit_pico_rw_256",
        "coatnet_0_rw_224",
        "nextvit_small",
    ),
    "crossvit_tiny_240",
]


def sizes_text(taken: list[int]) -> str:
    """`any`, or the sizes of SIZES that a network takes."""
    return "any" if len(taken) == len(SIZES) else ", ".join(map(str, taken)) or "none of these"


def own_size(arch: str) -> int:
    return timm_nets.native_size(arch)


def images_a_second(arch: str, size: int) -> float:
    """Of the trunk as predictions run it, BatchNorm folded."""
    with device("auto", "auto") as here:
        trunk = trunks.trunk_of(arch).to(here.device, memory_format=torch.channels_last).eval()
        images = torch.randn(BATCH, 3, size, size, device=here.device).contiguous(memory_format=torch.channels_last)
        took = []
        with torch.inference_mode(), here.autocast():
            net = folding.folded(trunk)
            for _ in range(PASSES):
                began = time.perf_counter()
                net(images).float().cpu()
                took.append(time.perf_counter() - began)
    return BATCH / min(took)


def row(arch: str) -> str:
    try:
        outline = trunks.meta_trunk(arch)
    except UserError as error:
        return f"| `{arch}` | refused | | | | {str(error).split('(')[1].split(')')[0]} |"
    megabytes = sum(4 * tensor.numel() for tensor in outline.state_dict().values()) / 1e6
    taken, size = [size for size in SIZES if trunks.takes(outline, size)], own_size(arch)
    features = "tokens" if outline.last(torch.empty(1, 3, size, size, device="meta")).dim() == 3 else "maps"
    return f"| `{arch}` | {features} | {outline.width:,} | {megabytes:,.0f} | {sizes_text(taken)} | {images_a_second(arch, size):,.0f} at {size} |"


def table(archs: list[str]) -> str:
    lines = ["| network | features | vector | MB | sizes, px | images a second |", f"|{'---|' * 6}"]
    for number, arch in enumerate(archs, 1):
        lines.append(row(arch))
        print(f"{number} of {len(archs)}: {lines[-1]}", flush=True)
    return "\n".join(lines)


if __name__ == "__main__":
    asked = sys.argv[1:]
    made = table(asked or [*TORCHVISION, *(f"timm/{name}" for name in TIMM)])
    if not asked:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        where = f"On {name_of(machine(torch.get_num_threads())).replace('_', ' ')}:"
        write_text(PAGE, f"{before}{BEGIN}\n{where}\n\n{made}\n{END}{rest.split(END)[1]}")
