"""The submission: a table in the sample's format, checked as it stands in the file, or no file at all."""

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd

from eightfold.files import UserError, replacing, write_text


def read_ids(path: str | os.PathLike) -> pd.DataFrame:
    """A CSV with every cell as text: leading zeros, 20 digits and `nan` survive. Raises UserError naming the file."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from error


def infer_format(sample: pd.DataFrame | None, classes: Sequence[str], task: str, wanted: str) -> tuple[str, str]:
    """The format of the submission (probabilities, positive, label or tags), and why.

    Taken from config where it names one, else from the sample's columns and cells. Raises UserError when neither tells.
    """
    if wanted != "auto":
        return wanted, "config"
    if sample is None:
        return "probabilities", "no sample submission: an id and a column per class"
    columns = list(sample.columns[1:])
    if set(columns) == set(classes):
        return "probabilities", "the sample has a column per class"
    if len(columns) == 1:
        if task == "multi":
            return "tags", f"the sample has one column, {columns[0]!r}, and images have several labels"
        cells = set(sample[columns[0]])
        if cells <= set(classes) and not (len(classes) == 2 and cells <= {"0", "1"}):
            return "label", f"the cells of the sample's column {columns[0]!r} are classes"
        if len(classes) == 2:
            return "positive", f"the sample has one column, {columns[0]!r}, for a job of two classes"
    extra, missing = sorted(set(columns) - set(classes)), sorted(set(classes) - set(columns))
    raise UserError(
        f"sample submission: cannot tell its format. Its columns {extra[:5]} are no classes, and it lacks {missing[:5]}. "
        f"Set submission.format to one of probabilities, positive, label, tags"
    )


def table(
    ids: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    kind: str,
    sample: pd.DataFrame | None = None,
    positive: str | None = None,
    clip: float = 0.0,
    separator: str = " ",
    id_column: str = "id",
) -> pd.DataFrame:
    """The submission as text cells, in the order of ``ids``, with the sample's column names and order where there is one.

    probabilities: float (n, classes). positive: the class whose probability a one-column submission gives (default:
    the last). clip: probabilities are kept in [clip, 1 - clip] and rows of several classes rescaled to 1 first.
    """
    id_column = id_column if sample is None else sample.columns[0]
    names = list(sample.columns[1:]) if sample is not None else {"probabilities": list(classes)}.get(kind, ["label"])
    if kind in ("probabilities", "positive"):
        single = np.allclose(probabilities.sum(1), 1, atol=1e-6)
        probabilities = np.clip(probabilities, clip, 1 - clip)
        if single:
            probabilities = probabilities / probabilities.sum(1, keepdims=True)
        columns = names if kind == "probabilities" else [positive if positive is not None else classes[-1]]
        unknown = [name for name in columns if name not in classes]
        if unknown:
            raise UserError(f"submission: {unknown[:5]} are no classes of this job, which has {list(classes)[:10]}")
        position = {name: i for i, name in enumerate(classes)}
        # Ten digits: rows of a thousand classes still sum to 1 within 1e-6 as written.
        cells = {
            name: [f"{p:.10f}" for p in probabilities[:, position[column]]]
            for name, column in zip(names, columns, strict=True)
        }
    elif kind == "label":
        cells = {names[0]: [classes[i] for i in probabilities.argmax(1)]}
    else:
        cells = {
            names[0]: [separator.join(c for c, p in zip(classes, row, strict=True) if p > 0.5) for row in probabilities]
        }
    return pd.DataFrame({id_column: list(ids), **cells})


def problems(
    path: str | os.PathLike,
    test_ids: Sequence[str],
    kind: str,
    single_label: bool,
    classes: Sequence[str],
    sample: pd.DataFrame | None,
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
                f"cells that are no finite number in rows {np.flatnonzero(~np.isfinite(values).all(1))[:5].tolist()}"
            )
        elif ((values < 0) | (values > 1)).any():
            result.append("probabilities outside [0, 1]")
        elif kind == "probabilities" and single_label and (np.abs(values.sum(1) - 1) > 1e-6).any():
            result.append(f"rows that do not sum to 1: {np.flatnonzero(np.abs(values.sum(1) - 1) > 1e-6)[:5].tolist()}")
    elif kind == "label" and not set(found.iloc[:, 1]) <= set(classes):
        result.append(f"labels that are no classes: {sorted(set(found.iloc[:, 1]) - set(classes))[:5]}")
    return result


def write_checked(path: str | os.PathLike, submission: pd.DataFrame, **check) -> None:
    """Write a submission, read it back, check it; put it in place only when `problems` finds none (else UserError)."""
    with replacing(path) as temporary:
        write_text(temporary, submission.to_csv(index=False, lineterminator="\n"))
        wrong = problems(temporary, **check)
        if wrong:
            raise UserError(f"{path}: not written, since a grader would refuse it: {'; '.join(wrong)}")
