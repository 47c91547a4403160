"""A run's history as event files of TensorBoard, one a fold."""

from pathlib import Path

from eightfold.core.runtime import job
from eightfold.review import tracking

with job(snakemake):
    for path in snakemake.output.events:
        fold = Path(path).parent.name
        folders = [Path(history).parent for history in snakemake.input.histories if f"/{fold}/" in history]
        tracking.write_events(path, tracking.points(folders))
