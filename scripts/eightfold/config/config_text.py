"""The text of a new config: what `guess` saw of the data and what `quality` chose, with comments. Standard library only."""

from collections.abc import Iterable

from eightfold.config.guess import Layout, preset_for
from eightfold.config.quality import Recipe


def config_text(name: str, layout: Layout, recipe: Recipe, head: Iterable[str] = ()) -> str:
    """A commented config for ``layout``, as one of examples/ would be. head: further lines of the comment at its top."""
    preset, why = preset_for(layout)
    counts = f"{layout.labelled:,} labelled images of {len(layout.classes)} classes"
    shown = ", ".join(_yaml(one) for one in layout.classes[:6])
    shown += f" and {len(layout.classes) - 6} more" if len(layout.classes) > 6 else ""
    lines = [
        f"# {name}: {counts}{f', {layout.test:,} to predict' if layout.test else ''}. Written by `make new` from what it saw; look it over.",
        "#",
        f"#   make {'submission' if layout.test else 'evaluate'} CONFIG=<this file>",
        "#",
        f"# Classes: {shown}. {'An image may have several.' if layout.task == 'multi' else 'One an image.'}",
        *(f"# {line}" for line in head),
        *(f"# Note: {note}" for note in layout.notes),
        "",
        f"run: {_yaml(name)}",
        "seed: 0",
        "",
        "data:",
        *(f"  {key}: {_yaml(value)}" for key, value in layout.data.items()),
    ]
    if not layout.test:
        lines.append(
            "  # nothing to predict was found, so the run ends at `evaluate`; images to predict go into a folder `test`"
        )
    split = {"method": "stratified_grouped"} if "group" in layout.data else {}
    split |= {"use": recipe.folds} if recipe.folds != [0] else {}
    if split:
        lines += ["", "split:", *(f"  {key}: {_yaml(value)}" for key, value in split.items())]
    lines += [
        "",
        "model:",
        f"  arch: {recipe.arch}",
        "  weights: DEFAULT",
        "",
        "augmentation:",
        f"  preset: {preset} # {why}",
        f"  max_zoom: {1.05 if preset == 'top_down' else 1.1}",
        "",
        f"# {recipe.why[0].upper()}{recipe.why[1:]}.",
        f"# The images' short sides are about {layout.size} px."
        if layout.size
        else "# The images' sizes could not be read.",
        "recipe:",
        *(f"  - {{{', '.join(f'{key}: {_yaml(value)}' for key, value in stage.items())}}}" for stage in recipe.stages),
        "",
        "tta:",
        f"  views: {recipe.views}",
        "",
    ]
    return "\n".join(lines)


def _yaml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, int):
        return str(value).lower()
    text = str(value)
    plain = (
        text
        and all(c.isalnum() or c in "_-./" for c in text)
        and text[0] not in "-."
        and any(c.isalpha() for c in text)
    )
    if plain and text.lower() not in ("null", "true", "false", "yes", "no", "on", "off", "y", "n"):
        return text
    return "'" + text.replace("'", "''") + "'"
