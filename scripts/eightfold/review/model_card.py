"""A model card in Markdown, after Mitchell et al. 2019 (Model Cards for Model Reporting), from a run's own files."""

from collections.abc import Mapping

from eightfold.core.wording import share_error, together

WORST = 10  # classes listed by their recall


def _cell(text: object) -> str:
    """Text that cannot end a table's cell, open a tag or start a new line."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _table(head: tuple, rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _figures(metrics: Mapping, tables: Mapping) -> str:
    final, plain = metrics.get("final") or {}, metrics.get("no_tta") or {}
    if not final:
        return "Not measured: all labelled images were trained on."
    images = final.get("images", 0)
    share, loss = share_error(final.get("accuracy"), images), tables.get("log_loss_se")
    errors = {
        "accuracy": "" if share is None else f" ± {share:.4f}",
        "log_loss": f" ± {loss:.4f}" if loss else "",
    }
    numbers = [name for name, value in final.items() if isinstance(value, int | float) and name != "images"]
    rows = [
        (name, f"{final[name]:.4f}{errors.get(name, '')}", f"{plain[name]:.4f}" if name in plain else "–")
        for name in numbers
    ]
    intro = f"On {images} images that had no part in training (± is one standard error)."
    return f"{intro}\n\n{_table(('figure', 'final', 'without test-time augmentation'), rows)}"


def card(
    metrics: Mapping,
    manifest_identity: Mapping,
    folds: Mapping,
    tables: Mapping,
    run: str,
    config: Mapping,
    versions: Mapping,
) -> str:
    """The card as text. The mappings are metrics.json, manifest.json, folds.json and review/tables.json."""
    classes, counts = manifest_identity["classes"], manifest_identity["counts"]
    model, stages = config["model"], config["recipe"]
    multi_label = manifest_identity["task"] == "multi"
    shown = ", ".join(map(_cell, classes[:50])) + (f" and {len(classes) - 50} more" if len(classes) > 50 else "")
    found = [row for row in tables.get("per_class", []) if row.get("recall") is not None]
    worst = sorted(found, key=lambda row: row["recall"])[:WORST]
    per_class = _table(
        ("class", "images", "precision", "recall"),
        [
            (
                row["class"],
                row["count"],
                "–" if row["precision"] is None else f"{row['precision']:.3f}",
                f"{row['recall']:.3f}",
            )
            for row in worst
        ],
    )
    recipe = _table(
        ("stage", "px", "trained", "cycles", "augmented"),
        [(s["name"], s["size"], s["train"], s["cycles"], "yes" if s["augment"] else "no") for s in stages],
    )
    use = config["split"]["use"]
    ece = tables.get("ece")
    weights = together(model["weights"])
    start = "random weights" if weights == "none" else f"weights {weights}"
    return f"""# Model card: {_cell(run)}

A {together(model["arch"])} ({_cell(start)}) trained by the eight steps of fast.ai's 2018 course to tell {len(classes)} classes apart
{"(an image may have several)" if multi_label else "(one an image)"}: {shown}.

## Intended use

- Images of the kind it was trained on, of these classes and no others. It has no answer for "none of them"{"" if multi_label else ": an image of something else gets one of the classes all the same"}.
- As help for a person, or for a competition. Nobody has judged it for decisions about people, health or safety.

## Figures

{_figures(metrics, tables)}

{f"Calibration: the expected calibration error is {ece:.4f} (0 is perfect)." if ece is not None else ""}

{"Classes with the lowest recall:" if worst else ""}

{per_class if worst else ""}

## Data

{counts["train"]} images to train on, {counts["valid"]} in a validation folder, {counts["test"]} to predict, {counts["rejected"]} left out as unreadable.
Split: {folds.get("method", "–")}, folds in use: {"all (nothing held out)" if use == "all" else ", ".join(map(str, use))}.

## Training

{recipe}

Seed {config["seed"]}, batches of {config["batch_size"]}, augmentation {config["augmentation"]["preset"]}; each prediction is the mean of
{1 + config["tta"]["views"]} views of an image.

## Limits

- The figures hold for images that come as those above came; another camera, place or year is another question.
- The images that measured it come from the same collection as those it learned from: duplicates among them flatter it.
- {"The starting weights come from ImageNet: where the images do too, the figures are optimistic." if weights != "none" else "It started from random weights."}
- Probabilities are the network's own; look at the calibration before relying on them.

## Made with

{", ".join(f"{_cell(name)} {_cell(value)}" for name, value in sorted(versions.items()))}
"""
