"""What a recipe leaves open: values of a stage that follow from the stages before it. Must not import torch: the Snakefile imports it."""

from collections.abc import Sequence

from eightfold.config.schedules import stage_epochs

HEAD_STEPS = 100  # a head on cached activations makes this many steps in about a second, and stops too early with fewer


def settled(recipe: Sequence[dict]) -> list[dict]:
    """The stages with ``first_view`` and ``min_steps`` as numbers, where they were null.

    Views: the first augmented stage begins with view 1, each later one after the last view of all stages before it, so
    that no image is seen twice in the same form. A head stage that has the size and the trunk of an earlier one begins
    where that did: their views are the same cached files. Steps: HEAD_STEPS for a head stage, no floor for all layers.
    """
    found, free, trunk = [], 1, None
    cached: dict[tuple, int] = {}  # (trunk, size) of head stages: their first view
    for stage in recipe:
        head = stage["train"] != "all"  # it learns on cached activations
        if stage["train"] == "linear" and not stage["augment"]:
            found.append(dict(stage))  # it shows no random view and makes no steps
            continue
        first, least = stage["first_view"], stage["min_steps"]
        if first is None:
            first = cached.get((trunk, stage["size"]), free) if head else free
            first = first if stage["augment"] else 1
        if least is None and stage["train"] != "linear":
            least = HEAD_STEPS * head
        found.append({**stage, "first_view": first, "min_steps": least})
        if stage["augment"]:
            free = max(free, first + stage_epochs(stage))
            if head:
                cached.setdefault((trunk, stage["size"]), first)
        if not head:
            trunk = stage["name"]
    return found
