"""The history of a run in the formats of TensorBoard and MLflow, from the files that training left (optional packages)."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from eightfold.core.files import UserError, replacing

EXTRAS = "pip install -r envs/requirements-extra.txt"
EXPERIMENT = "eightfold"


class Point(NamedTuple):
    """A figure of a run: ``step`` counts over all stages from 1, ``seconds`` is the time of training so far."""

    name: str
    step: int
    seconds: float
    value: float


def points(folders: Sequence[str | os.PathLike]) -> list[Point]:
    """The figures of the stages of one fold, in the order they were trained, from history.csv and batches.csv of each."""
    found, seconds, epochs, steps = [], 0.0, 0, 0
    for folder in map(Path, folders):
        history, batches = pd.read_csv(folder / "history.csv"), pd.read_csv(folder / "batches.csv")
        for epoch in history.to_dict("records"):
            of_epoch = batches[batches["epoch"] == epoch["epoch"]]
            for place, batch in enumerate(of_epoch.to_dict("records"), 1):
                now = seconds + epoch["seconds"] * place / len(of_epoch)
                steps += 1
                found += [Point(f"batch/{name}", steps, now, batch[name]) for name in ("lr", "loss")]
            seconds, epochs = seconds + epoch["seconds"], epochs + 1
            names = ("train_loss", "valid_loss", "accuracy")
            found += [
                Point(f"epoch/{name}", epochs, seconds, epoch[name]) for name in names if epoch[name] == epoch[name]
            ]
    return found


def write_events(path: str | os.PathLike, history: Sequence[Point]) -> None:
    """An event file of TensorBoard. The clock of its events is the time of training, so equal points are equal bytes."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise UserError(f"tracking: tensorboard is not installed ({error.name}): {EXTRAS}") from error
    with replacing(path) as temporary, open(temporary, "wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=0, file_version="brain.Event:2").SerializeToString())
        for point in history:
            value = Summary(value=[Summary.Value(tag=point.name, simple_value=point.value)])
            writer.write(Event(wall_time=point.seconds, step=point.step, summary=value).SerializeToString())


@contextlib.contextmanager
def _mlflow(store: str | os.PathLike) -> Iterator:
    """A client of the database ``store``, alone with it: two that make its tables at once would fail."""
    # MLflow reports its use to its makers unless it is asked not to.
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    try:
        import alembic  # noqa: F401  MLflow imports it when it meets a database
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UserError(f"tracking: mlflow is not installed ({error.name}): {EXTRAS}") from error
    store = Path(store).absolute()
    store.parent.mkdir(parents=True, exist_ok=True)
    with open(store.with_name(f".{store.name}.lock"), "w") as lock:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield MlflowClient(tracking_uri=f"sqlite:///{store}")


def write_mlflow(
    store: str | os.PathLike, run: str, folds: Mapping[str, Sequence[Point]], params: Mapping, final: Mapping
):
    """Put a run into the local database ``store`` of MLflow, replacing what it held of that run; ids by fold.

    params: texts by name, of the config. final: the figures of the final prediction, which each fold's MLflow run gets.
    """
    from mlflow.entities import Metric, Param

    with _mlflow(store) as client:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        for old in client.search_runs([number], filter_string=f"tags.eightfold = '{run}'", max_results=1000):
            client.delete_run(old.info.run_id)
        ids = {}
        for fold, history in folds.items():
            made = client.create_run(number, start_time=0, run_name=f"{run}/fold{fold}", tags={"eightfold": run}).info
            rows = [Metric(p.name, p.value, round(1000 * p.seconds), p.step) for p in history]
            end = rows[-1].timestamp if rows else 0
            rows += [Metric(f"final/{name}", float(value), end, 0) for name, value in final.items()]
            for first in range(0, len(rows), 1000):  # as many as it takes at once
                client.log_batch(made.run_id, rows[first : first + 1000])
            shown = [Param(name, value[:6000]) for name, value in params.items()]
            for first in range(0, len(shown), 100):
                client.log_batch(made.run_id, params=shown[first : first + 100])
            client.set_terminated(made.run_id, end_time=end)
            ids[fold] = made.run_id
    return ids
