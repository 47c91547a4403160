"""Contact sheets: images with captions as one SVG file, and the text rules that every SVG here shares."""

import base64
import io
import os
import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from eightfold.core.files import write_text

SIDE = 160  # longest side of a thumbnail, pixels: sharp at the size shown, ~5 kB each
CELL = 176  # a thumbnail and the space around it
FRAME = 3  # width of the coloured frame
LINE = 15  # height of a line of caption
LETTERS = 26  # that fit under a thumbnail at 11.5 px
LINES = 4  # of caption at most

GREY, GREEN, RED, AMBER = "#8a8f98", "#2f9e64", "#dc4c4c", "#d9822b"  # mid tones: seen on white and on black

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', Helvetica, Arial, sans-serif"
# An SVG in an <img> or opened alone follows the reader's light or dark mode by itself, so its ink is `currentColor` and
# its ground is transparent. `color-scheme` makes a browser that opens the file alone paint a dark page in dark mode.
THEME = (
    "svg{color:#1f2328;color-scheme:light dark}"
    "@media (prefers-color-scheme:dark){svg{color:#e6e8eb}}"
    "@media print{svg{color:#1f2328}}"
)
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: object) -> str:
    """Any text made safe inside XML: what XML cannot hold (control characters, lone surrogates) becomes U+FFFD."""
    return NOT_XML.sub("\ufffd", escape(str(text), {'"': "&quot;"}))


def ellipsis(text: object, letters: int) -> str:
    """At most ``letters`` letters of a text, cut in the middle, since names often differ at their end.

    What neither XML nor matplotlib can hold becomes U+FFFD here too.
    """
    text = NOT_XML.sub("\ufffd", str(text))
    if len(text) <= letters:
        return text
    head = letters // 2
    tail = letters - 1 - head
    return text[:head] + "…" + (text[-tail:] if tail else "")


def thumbnail(image: np.ndarray, side: int = SIDE) -> tuple[bytes, int, int]:
    """JPEG bytes, width and height of an array (H, W, 3) or (H, W), its longest side reduced to ``side`` at most."""
    image = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue(), *image.size


def shown_size(image: np.ndarray) -> tuple[int, int]:
    """Width and height at which an image is drawn: its longest side is SIDE, whether that shrinks or enlarges it."""
    height, width = image.shape[:2]
    if min(height, width) == 0:
        return SIDE, SIDE // 2
    scale = SIDE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _cell(image: np.ndarray, lines: list[str], colour: str, x: int, bottom: int) -> str:
    """One image, framed and captioned, in the column that starts at ``x``; its lower edge is at ``bottom``."""
    middle = x + CELL / 2
    parts = []
    width, height = shown_size(image)
    left, top = middle - width / 2, bottom - height
    if min(image.shape[:2]) > 0:
        data, pixels_wide, _ = thumbnail(image)
        scale = width / pixels_wide  # an image of a few pixels is seen as squares, not as a blur
        crisp = ' style="image-rendering:pixelated"' if scale > 2 else ""
        parts.append(
            f'<image x="{left:g}" y="{top:g}" width="{width}" height="{height}" preserveAspectRatio="none"{crisp} '
            f'href="data:image/jpeg;base64,{base64.b64encode(data).decode()}"/>'
        )
    else:
        parts.append(f'<text x="{middle:g}" y="{top + height / 2:g}" class="c m">unreadable image</text>')
    parts.append(
        f'<rect x="{left - FRAME / 2:g}" y="{top - FRAME / 2:g}" width="{width + FRAME:g}" height="{height + FRAME:g}" '
        f'rx="3" fill="none" stroke="{xml_text(colour)}" stroke-width="{FRAME}"/>'
    )
    for number, line in enumerate(lines):
        style = "c" if number == 0 else "c m"
        short = xml_text(ellipsis(line, LETTERS))
        parts.append(f'<text x="{middle:g}" y="{bottom + 18 + number * LINE:g}" class="{style}">{short}</text>')
    return "<g>" + f"<title>{xml_text(chr(10).join(lines))}</title>" + "".join(parts) + "</g>"


def sheet_svg(
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    columns: int = 4,
    title: str = "",
    colors: Sequence[str] | None = None,
    empty: str = "No images to show.",
) -> str:
    """The sheet as SVG text; see ``sheet``."""
    if len(images) != len(captions) or (colors is not None and len(colors) != len(images)):
        raise ValueError(f"{len(images)} images, {len(captions)} captions, colours {colors and len(colors)}")
    colors = [GREY] * len(images) if colors is None else colors
    texts = [str(caption).split("\n")[:LINES] for caption in captions]
    columns = max(1, min(columns, len(images)) if len(images) else columns)
    top = 30 if title else 0
    width = columns * CELL
    cells, y = [], top  # a row is as high as its highest image and longest caption
    for first in range(0, len(images), columns):
        row = range(first, min(first + columns, len(images)))
        bottom = y + 8 + max(shown_size(np.asarray(images[number]))[1] for number in row)
        for number in row:
            x = (number - first) * CELL
            cells.append(_cell(np.asarray(images[number]), texts[number], colors[number], x, bottom))
        y = bottom + 16 + LINE * max(len(texts[number]) for number in row)
    height = y if cells else top + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="{xml_text(FONT)}" font-size="11.5">',
        f"<style>{THEME}text{{fill:currentColor}}.c{{text-anchor:middle}}.m{{opacity:.72}}</style>",
    ]
    if title:
        parts.append(f"<title>{xml_text(title)}</title>")
        short = xml_text(ellipsis(title, max(12, width // 8)))
        parts.append(f'<text x="8" y="20" font-size="14" font-weight="600">{short}</text>')
    parts += cells
    if not cells:
        parts.append(f'<text x="8" y="{top + 24}" class="m" font-size="13">{xml_text(empty)}</text>')
    return "\n".join(parts) + "\n</svg>\n"


def sheet(
    path: str | os.PathLike,
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    columns: int = 4,
    title: str = "",
    colors: Sequence[str] | None = None,
    empty: str = "No images to show.",
) -> None:
    """Write an SVG sheet of uint8 arrays (H, W, 3), each with a caption below (lines split by "\\n") and a framed edge.

    Captions and title are escaped and long lines cut; ``empty`` is what a sheet without images says. An array
    with no pixels is drawn as an empty frame. Same input, same bytes.
    """
    write_text(path, sheet_svg(images, captions, columns, title, colors, empty))
