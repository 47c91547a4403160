# The config, checked, and the plan that follows from it. Nothing here imports torch or asks a network.
import atexit
import os
import sys
from pathlib import Path

from snakemake.persistence import RECORD_FORMAT_VERSION


def refuse(message):
    """Stop, by one line. Not by an exception: Snakemake puts its traceback below the text of each, and hides what matters."""
    sys.exit(f"Error: {message}")


def last_words(message):
    """Say something, if there is something, when Snakemake has said all of its own."""
    if message:
        atexit.register(print, message, file=sys.stderr, flush=True)


# Of this file's own checkout, also where another Snakefile uses this workflow as a module. Of github(...) Snakemake keeps
# the files that it reads in folders as they lie in the repository, so once all are read, they are a checkout.
home = workflow.current_basedir.join("..")
if hasattr(home, "hosted_repo"):
    folder = home.path.strip(".")
    listed = home.hosted_repo.repo.git.ls_tree(
        "-r", "--name-only", f"{home.ref}:{folder}", "scripts", "schemas", "envs"
    )
    for name in listed.splitlines():
        workflow.source_path(f"../{name}")
    library = Path(workflow.source_path("../scripts/train.py")).parent
else:
    library = Path(home.get_path_or_uri(secret_free=False)) / "scripts"
if not library.is_dir():
    refuse(
        "Eightfold's rules import its library, so they run from a checkout or from github(...) or gitlab(...): clone the "
        "repository and name the clone's Snakefile in `snakefile:` instead of gitfile(...) (docs/module.md)"
    )
sys.path.append(str(library))

from eightfold.review.last_words import failure as closing_failure
from eightfold.review.last_words import summary as closing_summary
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core import contents
from eightfold.core.files import UserError
from eightfold.core.listing import finished_runs
from eightfold.upkeep.check_first import ALL as ALL_HELD
from eightfold.upkeep.check_first import hold_back
from eightfold.upkeep import memory
from eightfold.upkeep.gpu_limit import limit_gpus
from eightfold.upkeep.lock import hold as hold_folder
from eightfold.upkeep.temporary import choose_folder
from eightfold.config.jobs import DIVIDED, jobs_of, jobs_of_all_targets
from eightfold.config.plan import CACHE, Plan, installed
from eightfold.core.provenance import code_digest
from eightfold.core.shards import names

try:
    if moved := choose_folder(".snakemake/tmp"):
        print(moved, file=sys.stderr, flush=True)
    config_files = [Path(path) for path in workflow.overwrite_configfiles] or [Path("config.yaml")]
    for config_file in filter(Path.is_file, config_files):  # a module's config has no file of its own
        check_yaml_file(config_file)
    plan = Plan(resolve(config, ", ".join(map(str, config_files))))
    plan.check()
except UserError as error:
    refuse(error)


pathvars:
    run=plan.run,
    cache=CACHE,
    data=plan.data_folder,
    weights=plan.weights_folder,
    new=plan.predict_folder,


wildcard_constraints:
    fold="|".join(plan.folds),
    stage="|".join(plan.known),
    split="valid|test",
    key="[0-9a-f]{12}",
    first=r"\d+",
    last=r"\d+",
    size=r"\d+",
    part=r"\d+_of_\d+",


# 1 where a job would take a GPU, 0 where there is none; what joins the parts of others needs none.
gpus = plan.gpus()
gpus_of_whole = gpus if plan.shards == 1 else 0

if gpus:
    limit_gpus(workflow, plan.devices)

# What costs hours waits until the job is checked: its rules have `held=1`, those of the checks `held=ALL_HELD` and a priority.
hold_back(workflow)


# Of this machine; None where jobs run on other machines, or where nothing runs (`snakemake --report` has no --cores).
cores = workflow.resource_settings.cores if workflow.nodes is None else None


def get_device_threads(wildcards):
    """Cores of a job of the device; a profile's set-threads counts more."""
    return plan.threads(cores)


def get_training_threads(wildcards):
    """The same for training a stage, which may take several GPUs."""
    return plan.threads(cores, wildcards.stage)


# All rules have the same two params, what they depend on in the config and what their code means (provenance.py).
def code(script):
    return code_digest(script)


def one_of(names):
    """A wildcard that is one of some names; without any it is nothing."""
    return "|".join(names) or "(?!)"


def memory_mb(base):
    """Memory request that grows when a job is tried again."""
    return lambda wildcards, attempt: base * attempt


def minutes(base):
    """Time request that grows when a job is tried again; training goes on where the last attempt stopped."""
    return lambda wildcards, attempt: base * attempt
