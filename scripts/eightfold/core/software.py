"""The versions of the software that makes a result: each file of results says which, since an upgrade remakes none. No torch here."""

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

COUNTS = ("torch", "torchvision", "timm", "pillow", "numpy", "scikit-learn")  # what the numbers come from


def versions() -> dict[str, str]:
    """{package: version} of those of COUNTS that are installed, read without importing them."""
    found = {}
    for name in COUNTS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def by_version(made: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, list[str]]]:
    """{package: {version: the results made by it}}, of the versions by result; packages and versions sorted."""
    found: dict[str, dict[str, list[str]]] = {}
    for result in sorted(made):
        for name, number in made[result].items():
            found.setdefault(name, {}).setdefault(number, []).append(result)
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def in_words(found: Mapping[str, Mapping[str, list[str]]]) -> dict[str, str]:
    """{package: its version, or its versions with what each made}."""
    return {
        name: next(iter(results))
        if len(results) == 1
        else "; ".join(f"{n}: {_listed(made)}" for n, made in results.items())
        for name, results in found.items()
    }


def mixed(found: Mapping[str, Mapping[str, Iterable[str]]], here: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each package of which several versions made results, or one that is not the one ``here``."""
    lines = []
    for name, results in found.items():
        others = [number for number in results if here is not None and number != here.get(name)]
        if len(results) > 1 or others:
            parts = "; ".join(f"{number}: {_listed(list(made))}" for number, made in results.items())
            now = f" (here is {here.get(name, 'none')})" if others else ""
            lines.append(f"{name}{now} {parts}")
    return lines


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
