"""The history in other programs' formats, read back by those programs."""

import math

import pandas as pd
import pytest

from eightfold.core.files import write_table
from eightfold.review import tracking

EXTRA = "envs/requirements-extra.txt is not installed"


@pytest.fixture
def stages(tmp_path):
    """Two stages of two epochs of three mini-batches; the second measures nothing."""
    folders = [tmp_path / "fold0" / name for name in ("head", "all")]
    for number, folder in enumerate(folders):
        epochs = {"epoch": [1, 2], "train_loss": [0.5, 0.25], "seconds": [6.0, 3.0], "accuracy": [0.5, 0.75]}
        epochs["valid_loss"] = [None if number else 0.5, None if number else 0.375]
        batches = {"epoch": [1, 1, 1, 2, 2, 2], "lr": 0.01 / (1 + number), "loss": [6.0, 5, 4, 3, 2, 1]}
        write_table(folder / "history.csv", pd.DataFrame(epochs))
        write_table(folder / "batches.csv", pd.DataFrame(batches))
    return folders


def test_steps_and_seconds_run_on_through_the_stages(stages):
    told = tracking.points(stages)
    losses = [point for point in told if point.name == "batch/loss"]
    assert [point.step for point in losses] == list(range(1, 13)) and [p.value for p in losses] == [
        6,
        5,
        4,
        3,
        2,
        1,
    ] * 2
    assert [point.seconds for point in losses] == [2, 4, 6, 7, 8, 9, 11, 13, 15, 16, 17, 18]
    valid = [point for point in told if point.name == "epoch/valid_loss"]
    assert [(point.step, point.value) for point in valid] == [(1, 0.5), (2, 0.375)]  # what was not measured is not told


def test_tensorboard_reads_what_was_written(stages, tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=EXTRA)
    path = tmp_path / "run" / "events.out.tfevents.0"
    told = tracking.points(stages)
    tracking.write_events(path, told)
    found = reading.EventAccumulator(str(path.parent)).Reload()
    assert set(found.Tags()["scalars"]) == {point.name for point in told}
    for name in found.Tags()["scalars"]:
        wanted = [(p.step, p.seconds, p.value) for p in told if p.name == name]
        for event, (step, seconds, value) in zip(found.Scalars(name), wanted, strict=True):
            assert (event.step, event.wall_time) == (step, seconds) and math.isclose(event.value, value, rel_tol=1e-6)
    first = path.read_bytes()
    tracking.write_events(path, told)
    assert path.read_bytes() == first


def test_mlflow_reads_what_was_written_and_a_run_is_there_once(stages, tmp_path, monkeypatch):
    pytest.importorskip("mlflow.tracking", reason=EXTRA)
    pytest.importorskip("alembic", reason=EXTRA)
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    told = tracking.points(stages)
    for accuracy in (0.5, 0.75):
        params = {"seed": "0", "text": "x" * 7000}
        ids = tracking.write_mlflow(tmp_path / "m.db", "demo", {"0": told}, params, {"accuracy": accuracy})
    tracking.write_mlflow(tmp_path / "m.db", "other", {"0": told[:1]}, {}, {})
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'm.db'}")
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id
    assert {run.info.run_name for run in client.search_runs([experiment])} == {"demo/fold0", "other/fold0"}
    run = client.get_run(ids["0"])
    assert (
        run.data.metrics["final/accuracy"] == 0.75 and run.data.params["seed"] == "0" and run.info.status == "FINISHED"
    )
    losses = client.get_metric_history(ids["0"], "batch/loss")
    assert [(m.step, m.timestamp, m.value) for m in losses] == [
        (p.step, 1000 * p.seconds, p.value) for p in told if p.name == "batch/loss"
    ]
