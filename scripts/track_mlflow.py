"""A run's history, config and figures in the local database of MLflow."""

from pathlib import Path

from eightfold.core.files import read_json, write_json
from eightfold.core.runtime import job, log
from eightfold.review import tracking
from eightfold.review.compare import flat

with job(snakemake):
    settings, given = snakemake.params.settings, snakemake.input
    stages: dict[str, list[Path]] = {}
    for history in map(Path, given.histories):
        stages.setdefault(history.parts[-3].removeprefix("fold"), []).append(history.parent)
    final = {k: v for k, v in (read_json(given.metrics).get("final") or {}).items() if isinstance(v, int | float)}
    record = {fold: tracking.points(folders) for fold, folders in stages.items()}
    ids = tracking.write_mlflow(settings["store"], settings["run"], record, flat(settings["config"]), final)
    write_json(snakemake.output.record, {"store": settings["store"], "runs": ids})
    log.info("look at it: mlflow ui --backend-store-uri sqlite:///%s", settings["store"])
