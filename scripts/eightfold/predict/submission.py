"""The submission: a table in the sample's format, checked as it stands in the file, or no file at all."""

import io
import os
from collections.abc import Mapping, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import pandas as pd

from eightfold.core.files import UserError, replacing, write_text
from eightfold.raw.stores import Store

FORMATS = ("probabilities", "positive", "label", "index", "tags", "top_k", "zero_one")
TOP_K = 5


def read_ids(path: str | os.PathLike | BinaryIO) -> pd.DataFrame:
    """A CSV with every cell as text: leading zeros, 20 digits and `nan` survive. Raises UserError naming the file."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from error


def read_sample(info: dict) -> pd.DataFrame | None:
    """The sample submission of a manifest, from an archive too; None where there is none."""
    if not info["sample_submission"]:
        return None
    inside = os.path.relpath(info["sample_submission"], info["root"])
    return read_ids(io.BytesIO(Store(info["root"], info["reading"]).read(inside)))


def read_predictions(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    """Ids, and probabilities float64 (n, classes), of a test.csv, by position: a class may be called "id"."""
    found = pd.read_csv(path, dtype={"id": str}, keep_default_na=False)
    return found.iloc[:, 0].tolist(), found.iloc[:, 1:].to_numpy(float)


def infer_format(
    sample: pd.DataFrame | None, classes: Sequence[str], task: str, wanted: str, separator: str = " "
) -> tuple[str, str]:
    """The format of the submission (one of FORMATS), and why.

    Taken from config where it names one, else from the sample's columns and cells. Raises UserError when neither decides,
    or when a column per class is wanted and the sample has not those columns.
    """
    columns = [] if sample is None else list(sample.columns[1:])
    extra, missing = sorted(set(columns) - set(classes)), sorted(set(classes) - set(columns))
    if wanted != "auto":
        if sample is not None and wanted in ("probabilities", "zero_one") and (extra or missing):
            raise UserError(_columns_differ(f"submission.format is {wanted}", extra, missing))
        return wanted, "config"
    if sample is None:
        return "probabilities", "no sample submission: an id and a column per class"
    if not extra and not missing:
        return "probabilities", "the sample has a column per class"
    if len(columns) == 1:
        return _one_column(columns[0], list(sample[columns[0]]), classes, task, separator)
    raise UserError(_columns_differ("cannot tell its format", extra, missing))


def _one_column(name: str, cells: list[str], classes: Sequence[str], task: str, separator: str) -> tuple[str, str]:
    """The format of a sample with one column besides the ids."""
    column, seen, known = f"the sample's one column, {name!r}", set(cells), set(classes)
    if task == "multi":
        return "tags", f"{column}, is for images of several labels"
    several = [cell for cell in cells if cell not in known and len(cell.split(separator)) > 1]
    if several and all(set(cell.split(separator)) <= known for cell in seen):
        return "top_k", f"{column}, has cells of several class names, such as {several[0]!r}"
    if len(classes) == 2 and _are_numbers(seen, 0, 1) and (known == {"0", "1"} or not seen <= known):
        return "positive", f"{column}, has numbers from 0 to 1, for a job of two classes"
    if seen <= known:
        return "label", f"{column}, has cells that are classes"
    if len(classes) == 2 and name in classes:
        return "positive", f"{column}, is called as one of the two classes"
    if all(cell.isdecimal() and int(cell) < len(classes) for cell in seen):
        return "index", f"{column}, has whole numbers below {len(classes)}, and the classes have names"
    strange = sorted(seen - known)
    raise UserError(
        f"sample submission: cannot tell its format: {column}, has cells such as {strange[0]!r}, which are not classes of "
        f"this job ({', '.join(map(repr, classes[:5]))}, ...). Set submission.format to one of {', '.join(FORMATS)}"
    )


def _columns_differ(why: str, extra: list[str], missing: list[str]) -> str:
    parts = [f"its columns {extra[:5]} are not classes of this job"] if extra else []
    parts += [f"it lacks columns for the {len(missing)} classes {missing[:5]}"] if missing else []
    return (
        f"sample submission: {why}; {', and '.join(parts)}. Is it the sample of this competition, and data.label right? "
        f"Else set submission.format to one of {', '.join(FORMATS)}"
    )


def _are_numbers(cells: set[str], low: float, high: float) -> bool:
    numbers = pd.to_numeric(pd.Series(sorted(cells)), errors="coerce")
    return bool(((numbers >= low) & (numbers <= high)).all())


def positive_class(sample: pd.DataFrame | None, classes: Sequence[str], given: str | None) -> str:
    """The class whose probability one column gives: the config's; that of the column's name; the last in order."""
    if given is not None:
        if given not in classes:
            raise UserError(
                f"submission.positive is {given!r}, which is not a class of this job; allowed: {list(classes)[:10]}"
            )
        return given
    named = [] if sample is None else [name for name in sample.columns[1:] if name in classes]
    return named[0] if named else classes[-1]


def answers_per_row(sample: pd.DataFrame | None, classes: Sequence[str], given: int | None, separator: str) -> int:
    """How many names a top-k answer has: the config's number, else as many as the sample's longest cell, else 5."""
    if given is None and sample is not None and sample.shape[1] == 2:
        given = max(len(cell.split(separator)) for cell in sample.iloc[:, 1])
    return min(given or TOP_K, len(classes))


class Layout(NamedTuple):
    """How the cells of a submission are written, where no sample says so.

    positive: the class whose probability a one-column submission gives (default: see `positive_class`). clip: probabilities
    are kept in [clip, 1 - clip] and rows of several classes rescaled to 1. k: names in a top-k answer. never_empty: a row of
    tags without any gets the likeliest.
    """

    positive: str | None = None
    clip: float = 0.0
    separator: str = " "
    id_column: str = "id"
    label_column: str = "label"
    k: int = TOP_K
    never_empty: bool = False


def lay_out(
    settings: Mapping, tuned: Mapping, sample: pd.DataFrame | None, classes: Sequence[str], labels: Sequence[str]
) -> Layout:
    """The layout that the settings of a submission ask for.

    tuned: what tuning.json holds, {} where there is none; its clip counts where the settings have none. labels: the cells of all
    labelled images: where each of them has a label, so has each answer.
    """
    separator = settings["separator"]
    return Layout(
        positive=settings["positive"],
        clip=settings["clip"] or tuned.get("clip", 0),
        separator=separator,
        id_column=settings["id_column"],
        label_column=settings["label_column"],
        k=answers_per_row(sample, classes, settings["top_k"], separator),
        never_empty=all(label != "" for label in labels),
    )


def tabulate(
    ids: Sequence[str],
    probabilities: np.ndarray,
    decisions: np.ndarray,
    classes: Sequence[str],
    kind: str,
    sample: pd.DataFrame | None,
    layout: Layout,
) -> pd.DataFrame:
    """The submission as text cells, in the order of ``ids``, with the sample's column names and order where there is one.

    probabilities: float (n, classes). decisions: of these, as `metrics.decide` has them. kind: one of FORMATS. Raises UserError
    where the sample has other columns than that format.
    """
    id_column = layout.id_column if sample is None else sample.columns[0]
    classes, n = list(classes), len(probabilities)
    per_class = kind in ("probabilities", "zero_one")
    default = classes if per_class else [layout.label_column]
    names = default if sample is None else list(sample.columns[1:])
    if not per_class and len(names) != 1:
        raise UserError(f"submission: format {kind} has one column besides the ids, and the sample has {len(names)}")
    if kind in ("probabilities", "positive"):
        p = np.clip(probabilities, layout.clip, 1 - layout.clip)
        single = bool(n and np.allclose(probabilities.sum(1), 1, atol=1e-6))
        p = p / p.sum(1, keepdims=True) if single else p
        wanted = names if per_class else [positive_class(sample, classes, layout.positive)]
        # Ten digits: rows of a thousand classes still sum to 1 within 1e-6 as written.
        columns = [[f"{value:.10f}" for value in p[:, classes.index(name)]] for name in wanted]
    elif kind == "zero_one":
        hot = decisions if decisions.ndim == 2 else np.eye(len(classes), dtype=np.int64)[decisions]
        columns = [[str(value) for value in hot[:, classes.index(name)]] for name in names]
    elif kind == "tags":
        if layout.never_empty and n:
            decisions = decisions.copy()
            empty = np.flatnonzero(decisions.sum(1) == 0)
            decisions[empty, probabilities[empty].argmax(1)] = 1
        columns = [[layout.separator.join(classes[i] for i in np.flatnonzero(row)) for row in decisions]]
    elif kind == "top_k":
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, : layout.k]
        columns = [[layout.separator.join(classes[i] for i in row) for row in best]]
    else:
        if decisions.ndim == 2:  # of several labels, one is asked for
            decisions = probabilities.argmax(1)
        columns = [[classes[i] if kind == "label" else str(i) for i in decisions]]
    # By position, not by name: a class may be called as the column of ids is.
    return pd.DataFrame(dict(enumerate([list(ids), *columns]))).set_axis([id_column, *names], axis=1)


def problems(
    path: str | os.PathLike,
    test_ids: Sequence[str],
    kind: str,
    single_label: bool,
    classes: Sequence[str],
    sample: pd.DataFrame | None,
    separator: str = " ",
) -> list[str]:
    """What a grader would refuse in a written submission, read back from the file; empty when nothing."""
    found = read_ids(path)
    result = []
    if sample is not None and list(found.columns) != list(sample.columns):
        result.append(f"columns {list(found.columns)[:5]} are not the sample's {list(sample.columns)[:5]}")
    ids = found.iloc[:, 0]
    if ids.duplicated().any():
        result.append(f"duplicate ids: {ids[ids.duplicated()].unique()[:5].tolist()}")
    if sample is not None and ids.tolist() != sample.iloc[:, 0].tolist():
        result.append("ids are not the sample's, in its order")
    if set(ids) != set(test_ids):
        missing, extra = sorted(set(test_ids) - set(ids)), sorted(set(ids) - set(test_ids))
        result.append(f"ids differ from the test images': missing {missing[:5]}, unknown {extra[:5]}")
    if kind in ("probabilities", "positive"):
        values = found.iloc[:, 1:].apply(pd.to_numeric, errors="coerce").to_numpy(float)
        if not np.isfinite(values).all():
            result.append(
                f"cells that are not finite numbers in rows {np.flatnonzero(~np.isfinite(values).all(1))[:5].tolist()}"
            )
        elif ((values < 0) | (values > 1)).any():
            result.append("probabilities outside [0, 1]")
        elif kind == "probabilities" and single_label and (np.abs(values.sum(1) - 1) > 1e-6).any():
            result.append(f"rows that do not sum to 1: {np.flatnonzero(np.abs(values.sum(1) - 1) > 1e-6)[:5].tolist()}")
    elif kind == "zero_one":
        if not set(found.iloc[:, 1:].to_numpy().ravel()) <= {"0", "1"}:
            result.append("cells that are neither 0 nor 1")
    else:
        allowed = {str(i) for i in range(len(classes))} if kind == "index" else set(classes)
        multi_label = kind in ("tags", "top_k")
        answers = [
            cell.split(separator) if multi_label and cell else [cell] * (not multi_label) for cell in found.iloc[:, 1]
        ]
        strange = sorted({name for names in answers for name in names} - allowed)
        if strange:
            result.append(f"labels that are not classes: {strange[:5]}")
        if any(len(set(names)) < len(names) for names in answers):
            result.append("a label twice in one answer")
        if kind == "top_k" and not all(answers):
            result.append("an answer without a name")
    return result


def check_written(path: str | os.PathLike, table: pd.DataFrame, info: dict, wanted: str, separator: str) -> None:
    """Raise UserError where a grader would refuse a written submission. table, info: the manifest; wanted: its format."""
    sample, single = read_sample(info), info["task"] == "single"
    kind, _ = infer_format(sample, info["classes"], info["task"], wanted, separator)
    test_ids = table["id"][table["split"] == "test"].tolist()
    wrong = problems(path, test_ids, kind, single, info["classes"], sample, separator)
    if wrong:
        raise UserError(f"{path}: not sent, since a grader would refuse it: {'; '.join(wrong)}")


def write_checked(path: str | os.PathLike, submission: pd.DataFrame, **check) -> None:
    """Write a submission, read it back, check it; put it in place only when `problems` finds none (else UserError)."""
    with replacing(path) as temporary:
        write_text(temporary, submission.to_csv(index=False, lineterminator="\n"))
        wrong = problems(temporary, **check)
        if wrong:
            raise UserError(f"{path}: not written, since a grader would refuse it: {'; '.join(wrong)}")
