"""Numbers and names as our pages write them. A dash stands for what is not known."""

import math
import re
from collections.abc import Collection, Mapping


def share_error(share: float | None, images: int | None) -> float | None:
    """Standard error of a share of so many images, sqrt(p (1 - p) / n); None where either is not known."""
    return None if share is None or not images else math.sqrt(max(0.0, share * (1 - share)) / images)


def share_text(value: float | None) -> str:
    """A share in percent: 99.12 %."""
    return "–" if value is None else f"{value * 100:.2f}\u00a0%"


def number_text(value: float | None) -> str:
    """A figure of merit in three significant digits, at least four decimals above .001."""
    if value is None:
        return "–"
    text = f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"
    return text.replace("-", "\u2212", 1) if value < 0 else text


def rate_text(rate: float) -> str:
    """A learning rate in two figures, as a person writes it: 0.01, 0.0032, 1e-5."""
    if rate >= 1e-4:
        return f"{float(f'{rate:.2g}'):.10f}".rstrip("0").rstrip(".")
    mantissa, _, exponent = f"{rate:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def gain_text(value: float | None) -> str:
    """A difference of two figures, with its sign."""
    return "–" if value is None else f"{value:+.4f}".replace("-", "\u2212")


def count_text(value: int | None) -> str:
    """A number of things: 12,345; a dash where it is not known."""
    return "–" if value is None else f"{value:,}"


def parts(text: object) -> list[str]:
    """A name cut where it may be broken: after _, / and -."""
    return re.findall(r"[^_/-]*[_/-]+|[^_/-]+", str(text))


def baseline_name(baseline: Mapping, figure: str) -> str:
    """What scores a figure of metrics.json's `baseline`: "always bees" for the accuracy, else the class shares."""
    return f"always {baseline['class']}" if figure == "accuracy" and baseline.get("class") else "class shares"


def time_text(seconds: float) -> str:
    """Seconds as a person says them: 4.2 s, 3 min 05 s, 2 h 07 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory_text(megabytes: float | None) -> str:
    """Megabytes, from a thousand on as gigabytes."""
    if megabytes is None:
        return "–"
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def together(names: str | Collection[str] | None) -> str | None:
    """One name, or several with plus signs between them."""
    return names if names is None or isinstance(names, str) else " + ".join(names)


def listed(items: Collection[str], most: int = 10) -> str:
    """The first items one a line, and how many more there are: for error messages."""
    lines = [f"\n  {item}" for item in list(items)[:most]]
    return "".join(lines) + (f"\n  ... and {len(items) - most} more" if len(items) > most else "")
