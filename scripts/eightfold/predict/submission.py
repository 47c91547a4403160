"""The submission: a table in the sample's format, checked as it stands in the file, or no file at all."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from eightfold.core.files import UserError, replacing, write_text
from eightfold.core.wording import listed
from eightfold.predict.formats import (
    JOINED,
    PER_CLASS,
    TOP_K,
    answers_per_row,
    check_joined,
    infer_format,
    positive_class,
    read_ids,
    read_sample,
)

log = logging.getLogger("eightfold")


def read_predictions(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    """Ids, and probabilities float64 (n, classes), of a test.csv, by position: a class may be called "id"."""
    found = pd.read_csv(path, dtype={"id": str}, keep_default_na=False)
    return found.iloc[:, 0].tolist(), found.iloc[:, 1:].to_numpy(float)


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
        clip=settings.get("clip") or tuned.get("clip", 0),
        separator=separator,
        id_column=settings["id_column"],
        label_column=settings["label_column"],
        k=answers_per_row(sample, classes, settings["top_k"], separator),
        never_empty=all(label != "" for label in labels),
    )


class Asked(NamedTuple):
    """What is asked of a submission, and can be written: `prepare` makes it of the manifest and the config alone.

    ids: of the test images, in the sample's order. kind: one of FORMATS. left_out: classes that the sample has no column for.
    """

    ids: list[str]
    classes: list[str]
    kind: str
    why: str
    single_label: bool
    sample: pd.DataFrame | None
    layout: Layout
    left_out: list[str]

    def tabulate(self, ids: Sequence[str], probabilities: np.ndarray, decisions: np.ndarray) -> pd.DataFrame:
        """The submission of answers for ``ids``, as the function `tabulate` has it."""
        return tabulate(ids, probabilities, decisions, self.classes, self.kind, self.sample, self.layout)

    def checks(self) -> dict:
        """What `problems` compares a written file with."""
        what = {"test_ids": self.ids, "kind": self.kind, "single_label": self.single_label, "classes": self.classes}
        return {**what, "sample": self.sample, "separator": self.layout.separator}


def prepare(table: pd.DataFrame, info: dict, settings: Mapping, tuned: Mapping | None = None) -> Asked:
    """What is asked of the submission, said in the log. ``tuned``: as in `lay_out`.

    table, info: the manifest. settings: the config's `submission`, with ``id_column`` and ``label_column``, the names in the table
    of labels. Whatever cannot be written raises UserError here, so that the job `check_submission` finds it before any
    training: a submission of what this returns is never refused by `problems`.
    """
    sample, classes, separator = read_sample(info), info["classes"], settings["separator"]
    kind, why = infer_format(sample, classes, info["task"], settings["format"], separator, settings["label_column"])
    log.info("submission format: %s (%s)", kind, why)
    positive = positive_class(sample, classes, settings["positive"])
    if kind == "positive":
        log.info("the probability is that of class %r", positive)
    if kind in JOINED:
        check_joined(classes, separator)
    is_test = table["split"] == "test"
    ids = table["id"][is_test].tolist()
    if sample is not None:
        _check_ids(sample.iloc[:, 0].tolist(), ids, info["sample_submission"])
    columns = set(classes if sample is None or kind not in PER_CLASS else sample.columns[1:])
    left_out = [name for name in classes if name not in columns]
    if left_out:
        log.warning(
            "Warning: the sample submission asks for %d of the %d classes; these are left out of the submission:%s",
            len(classes) - len(left_out),
            len(classes),
            listed(left_out),
        )
    layout = lay_out(settings, tuned or {}, sample, classes, table["labels"][~is_test])
    return Asked(ids, list(classes), kind, why, info["task"] == "single", sample, layout, left_out)


def _check_ids(wanted: list[str], ids: list[str], sample: str) -> None:
    """Raise UserError unless the rows of the sample are the test images of the manifest, in its order."""
    if wanted == ids:
        return
    pairs = zip(wanted, ids, strict=False)
    row = next((row for row, (one, other) in enumerate(pairs) if one != other), min(len(wanted), len(ids)))
    sides = [repr(names[row]) if row < len(names) else "nothing" for names in (wanted, ids)]
    raise UserError(
        f"{sample}: row {row + 1} is {sides[0]}, where the test images have {sides[1]} (data.sample_submission, data.test); "
        f"the sample has {len(wanted)} rows, and there are {len(ids)} test images"
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

    probabilities: float (n, classes). decisions: of these, as `metrics.decide` has them. kind: one of FORMATS; `infer_format` says
    which the sample has the columns of. Where images have one label and the sample leaves classes out, the others' sum to 1.
    """
    id_column = layout.id_column if sample is None else sample.columns[0]
    classes, n = list(classes), len(probabilities)
    per_class = kind in PER_CLASS
    default = classes if per_class else [layout.label_column]
    names = default if sample is None else list(sample.columns[1:])
    place = {name: number for number, name in enumerate(classes)}
    if decisions.ndim == 1 and kind in ("zero_one", "tags"):
        decisions = np.eye(len(classes), dtype=np.int64)[decisions]
    if kind in ("probabilities", "positive"):
        p = np.clip(probabilities, layout.clip, 1 - layout.clip)
        single = bool(n and np.allclose(probabilities.sum(1), 1, atol=1e-6))
        if single and per_class and len(names) < len(classes):
            p = _among(p, [place[name] for name in names])
        p = p / p.sum(1, keepdims=True) if single else p
        wanted = names if per_class else [positive_class(sample, classes, layout.positive)]
        # Ten digits: rows of a thousand classes still sum to 1 within 1e-6 as written.
        columns = [[f"{value:.10f}" for value in p[:, place[name]]] for name in wanted]
    elif kind == "zero_one":
        columns = [[str(value) for value in decisions[:, place[name]]] for name in names]
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


def _among(p: np.ndarray, wanted: list[int]) -> np.ndarray:
    """Probabilities (n, classes) with 0 for all but the ``wanted`` classes; equal ones where these have none at all."""
    kept = np.zeros_like(p)
    kept[:, wanted] = p[:, wanted]
    nothing = np.flatnonzero(kept.sum(1) == 0)
    kept[np.ix_(nothing, wanted)] = 1
    return kept


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


def check_written(path: str | os.PathLike, table: pd.DataFrame, info: dict, settings: Mapping) -> None:
    """Raise UserError where a grader would refuse a written submission. The other arguments: as `prepare` has them."""
    wrong = problems(path, **prepare(table, info, settings).checks())
    if wrong:
        raise UserError(f"{path}: not sent, since a grader would refuse it: {'; '.join(wrong)}")


def write_checked(path: str | os.PathLike, submission: pd.DataFrame, **check) -> None:
    """Write a submission, read it back, check it; put it in place only when `problems` finds none (else UserError)."""
    with replacing(path) as temporary:
        write_text(temporary, submission.to_csv(index=False, lineterminator="\n"))
        wrong = problems(temporary, **check)
        if wrong:
            raise UserError(f"{path}: not written, since a grader would refuse it: {'; '.join(wrong)}")
