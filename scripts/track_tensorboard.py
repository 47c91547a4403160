"""A run's history as event files of TensorBoard, one a fold."""

from pathlib import Path

from eightfold import tracking
from eightfold.runtime import job

with job(snakemake.log[0], snakemake.threads):
    for path in snakemake.output.events:
        fold = Path(path).parent.name
        folders = [Path(history).parent for history in snakemake.input.histories if f"/{fold}/" in history]
        tracking.write_events(path, tracking.points(folders))
