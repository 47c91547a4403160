"""A manifest, or the whole workflow, run within this process on files that a test has written."""

import json
import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core.files import UserError
from eightfold.raw import manifest

ROOT = Path(__file__).parents[1]
DEFAULTS = resolve({})["data"] | {"source": "csv"}

# A head of a tiny network on one fold: seconds, of which the trunk's single view of each image is the most.
TINY = {
    "model": {"arch": "shufflenet_v2_x0_5", "weights": "none"},
    "recipe": [{"name": "head", "size": 32, "train": "head", "augment": False, "cycles": 2, "lr": 0.02}],
    "split": {"folds": 3, "use": [0]},
    "tta": {"views": 1},
    "batch_size": 8,
    "device": {"kind": "cpu", "precision": "float32"},
}


class Named(SimpleNamespace):
    """Files or params of a job, by name and one after another, as Snakemake hands them to a script."""

    def __iter__(self):
        return iter(vars(self).values())


def config_of(name: str, root: Path) -> dict:
    """The example as it is shipped, but for where its data lie."""
    config = check_yaml_file(ROOT / "examples" / f"{name}.yaml")
    config["data"]["root"] = str(root)
    return resolve(config, name)


def refused(data, *parts):
    with pytest.raises(UserError) as caught:
        manifest.build(data)
    for part in parts:
        assert str(part) in str(caught.value), caught.value
    return str(caught.value)


def run_in_this_process(config: dict, *targets: str) -> list[str]:
    """Run the jobs that Snakemake plans for its targets, one after another, without a process for each; their rules.

    The plan, the files and the params of every job are Snakemake's own; only the start of Python and torch is saved.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    Path("config_file.yaml").write_text(yaml.safe_dump(config))
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[Path("config_file.yaml").resolve()]),
            snakefile=ROOT / "Snakefile",
            workdir=Path.cwd(),
        )
        workflow.dag(DAGSettings(targets=set(targets))).execute_workflow(executor="dryrun")
        parts = ("input", "output", "params", "wildcards", "log", "resources", "benchmark")
        jobs = [
            SimpleNamespace(
                script=Path(job.rule.script).name, threads=1, **{part: getattr(job, part) for part in parts}
            )
            for level in workflow._workflow_store.dag.toposorted()
            for job in level
            if job.rule.script
        ]
    for job in jobs:
        for path in [*job.output, *job.log, *filter(None, [job.benchmark])]:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        runpy.run_path(str(ROOT / "scripts" / job.script), {"snakemake": job})
        if job.benchmark:  # the one figure of Snakemake's own that a script reads
            Path(job.benchmark).write_text(json.dumps({"s": time.monotonic() - began}) + "\n")
    return [job.script for job in jobs]
