"""What the report says of the answer: its figures, what each member of the ensemble adds to it, what was tuned."""

from collections.abc import Sequence

from eightfold.core.wording import baseline_name, share_error
from eightfold.review.verdicts import stage_of


def headline(metrics: dict, tables: dict) -> list[dict]:
    """The figures on top of the page: name, value, standard error, what they were without TTA, and the baseline's."""
    final, plain, baseline = (metrics.get(key) or {} for key in ("final", "no_tta", "baseline"))
    plain = {} if plain == final else plain  # no test-time augmentation: nothing to compare with
    images = final.get("images") or tables.get("images") or 0
    errors = {"accuracy": share_error(final.get("accuracy"), images), "log_loss": tables.get("log_loss_se")}
    titles = {"accuracy": "Accuracy", "log_loss": "Log loss"}
    names = [name for name in titles if final.get(name) is not None]
    names += [n for n, v in final.items() if n not in (*titles, "images") and isinstance(v, int | float)]
    return [
        {
            "name": titles.get(name, name),
            "value": final[name],
            "error": errors.get(name),
            "plain": plain.get(name),
            "baseline": baseline.get(name),
            "baseline_name": baseline_name(baseline, name),
            "share": name == "accuracy",
        }
        for name in names
    ]


def ensemble(metrics: dict, stages: Sequence[str] = ()) -> dict:
    """The table of what each member adds: rows of name, weight, own figure, and how much better the ensemble is for it.

    {} where there is none. ``gain`` is positive where the member helps, whichever way the metric runs. Members without
    weight are counted in ``idle`` and have no row. ``groups``: the members of a stage (of a network, where they name no stage).
    """
    answer, name = metrics.get("ensemble") or {}, metrics.get("metric", "log_loss")
    if not answer.get("members") or not answer.get("all"):
        return {}
    columns = list(dict.fromkeys([name, "log_loss"]))
    better, members, groups = max if _rises(name) else min, [], {}
    for member in answer["members"]:
        without, gains = member.get("without"), {}
        for column in columns:
            sign = 1 if _rises(column) else -1
            gains[column] = sign * (answer["all"][column] - without[column]) if without else None
        full = member["member"]
        group = stage_of(full, stages) or full.partition(",")[0]
        row = {"full": full, "name": full.removeprefix(group).lstrip(" ,:") or full, "group": group}
        members.append(row | {"weight": member["weight"], "alone": member["alone"], "gain": gains})
        groups.setdefault(group, []).append(members[-1])

    def best_of(rows: list[dict]) -> dict:
        return better(rows, key=lambda row: row["alone"][name])

    summed = [
        {
            "name": group,
            "weight": sum(row["weight"] for row in rows),
            "members": len(rows),
            "answering": sum(row["weight"] > 0 for row in rows),
            "best": best_of(rows),
        }
        for group, rows in groups.items()
    ]
    answering = [row for row in members if row["weight"] > 0]
    return {
        "metric": name,
        "columns": columns,
        "rows": answering,
        "groups": summed,
        "members": len(members),
        "idle": len(members) - len(answering),
        "all": answer["all"],
        "best": best_of(members),
        "kind": answer.get("weights", "equal"),
    }


def _rises(metric: str) -> bool:
    return metric != "log_loss" and not metric.endswith("_error")


def tuning(metrics: dict) -> list[dict]:
    """What was fitted on out-of-fold predictions, its values as text."""

    def text(value: object) -> str:
        if isinstance(value, list):
            shown = ", ".join(f"{number:.3g}" for number in value[:8])
            return shown + (f", … ({len(value)})" if len(value) > 8 else "")
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return [{**step, "value": text(step["value"])} for step in metrics.get("tuning") or []]
