# The config, checked, and the plan that follows from it. Nothing here writes, imports torch or asks a network.
import atexit
import os
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace


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
from eightfold.core.files import UserError, read_json
from eightfold.core.listing import finished_runs as runs_below
from eightfold.upkeep.lock import hold as hold_folder
from eightfold.config.plan import CACHE, Plan, installed
from eightfold.core.provenance import code_digest

try:
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

# Jobs on this machine hold a GPU each and together no more than there are, unless --resources or a profile says how many.
# (A cluster, known by its `jobs`, counts its own.)
if gpus and workflow.nodes is None and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", plan.devices)


def device_threads(wildcards):
    """Cores of a job of the device; a profile's set-threads counts more."""
    return plan.threads(workflow.cores if workflow.nodes is None else None)


def training_threads(wildcards):
    """The same for training a stage, which may take several GPUs."""
    return plan.threads(workflow.cores if workflow.nodes is None else None, wildcards.stage)


# All rules have the same two params, what they depend on in the config and what their code means (provenance.py).
def code(script):
    return code_digest(script)


def memory_mb(base):
    """Memory request that grows when a job is tried again."""
    return lambda wildcards, attempt: base * attempt


def minutes(base):
    """Time request that grows when a job is tried again; training goes on where the last attempt stopped."""
    return lambda wildcards, attempt: base * attempt


def test_images_needed(wildcards):
    if plan.has_test:
        return []
    refuse(
        f"run {plan.config['run']} has no test images (data.test is not set and {plan.root}/test does not exist), "
        "so there is nothing to submit: ask for `evaluate` instead"
    )


def one_of(names):
    """A wildcard that is one of some names; without any it is nothing."""
    return "|".join(names) or "(?!)"


def parts_of(path, name):
    """A file of each part that a result is joined from (shards.py); none where one job makes the whole."""
    return lambda wildcards: plan.parts(path.format_map(vars(wildcards)), name)


def pixels_of(wildcards):
    return f"{plan.pixels_folder(size_of(wildcards))}/pixels.json"


def packed_of(wildcards):
    """What lies beside pixels.json and is read with it."""
    folder = plan.pixels_folder(size_of(wildcards))
    return [f"{folder}/pixels.u8", f"{folder}/index.npy"]


def size_of(wildcards):
    """The size (px) of the job's stage, of its shared activations, or of the final prediction."""
    if hasattr(wildcards, "size"):
        return int(wildcards.size)
    if hasattr(wildcards, "kind"):
        return plan.activation_sizes[f"activations-{wildcards.kind}-{wildcards.key}"]
    return plan.known[getattr(wildcards, "stage", plan.last_stage)]["size"]


def trunk_of(stage, fold):
    """Checkpoint and identity of the trunk that a stage starts from."""
    made_by = plan.trunk_stage(stage)
    if made_by is None:
        return [f"{plan.weights_folder}/trunk.safetensors", f"{plan.weights_folder}/weights.json"]
    return checkpoint_of(made_by, fold)


def checkpoint_of(stage, fold):
    return [f"{plan.run}/fold{fold}/{stage}/checkpoint.safetensors", f"{plan.run}/fold{fold}/{stage}/stage.json"]


def stage_trunk(part):
    """What a stage of all layers starts from; a head stage learns on activations and reads no trunk."""

    def get(wildcards):
        if plan.stages[wildcards.stage]["train"] != "all":
            return []
        return trunk_of(wildcards.stage, wildcards.fold)[part]

    return get


def stage_head(part):
    """The head of the stage before, if there is one."""

    def get(wildcards):
        before = plan.previous(wildcards.stage)
        return checkpoint_of(before, wildcards.fold)[part] if before else []

    return get


def stage_activations(suffix):
    """The cached activations that a head or linear stage learns on."""

    def get(wildcards):
        if plan.known[wildcards.stage]["train"] == "all":
            return []
        return [f"{path}.{suffix}" for path in plan.activations(wildcards.stage, wildcards.fold)]

    return get


def stage_pixels(files_of):
    """The pixels that a stage of all layers learns on."""
    return lambda wildcards: files_of(wildcards) if plan.stages[wildcards.stage]["train"] == "all" else []


def final_trunk(part):
    """The trunk behind the final prediction: the last stage's own, or that of the last stage that trained all layers."""

    def get(wildcards):
        if plan.stages[plan.last_stage]["train"] == "all":
            return checkpoint_of(plan.last_stage, wildcards.fold)[part]
        return trunk_of(plan.last_stage, wildcards.fold)[part]

    return get


def final_head(part):
    return lambda wildcards: checkpoint_of(plan.last_stage, wildcards.fold)[part]


def answering_files(name):
    """A file of each stage whose network may answer, or holds the trunk of one that may."""
    return lambda wildcards: [f"{plan.run}/fold{wildcards.fold}/{stage}/{name}" for stage in plan.answering]


def answering_snapshots(wildcards):
    """The snapshots that may answer."""
    folder = f"{plan.run}/fold{wildcards.fold}"
    return [f"{folder}/{stage}/snapshots.safetensors" for stage in plan.answering_snapshots]


def answering_pixels(wildcards):
    """The pixels of each size that the networks which may answer see."""
    return [f"{plan.pixels_folder(size)}/pixels.json" for size in plan.answering_sizes]


def answering_packed(wildcards):
    """What lies beside each pixels.json and is read with it."""
    folders = [plan.pixels_folder(size) for size in plan.answering_sizes]
    return [f"{folder}/{name}" for folder in dict.fromkeys(folders) for name in ("pixels.u8", "index.npy")]


def chosen_for_test(wildcards):
    """What answers, where it is known before the images are predicted: for those to submit."""
    return f"{plan.run}/chosen.json" if wildcards.split == "test" else []


def tuned_trunk(wildcards):
    """The stage.json of the stage whose trunk a linear stage stands on; none where that is the starting trunk."""
    made_by = plan.trunk_stage(wildcards.stage)
    return checkpoint_of(made_by, wildcards.fold)[1] if made_by else []


def each_fold(get):
    """The files that an input function gives, of every fold whose network is submitted."""

    def get_all(wildcards):
        found = [get(SimpleNamespace(fold=fold)) for fold in plan.submitted]
        return [path for paths in found for path in ([paths] if isinstance(paths, str) else paths)]

    return get_all


def first_fold(get):
    """The files that an input function gives of the run's first fold."""
    return lambda wildcards: get(SimpleNamespace(fold=plan.first_fold))


def competition_needed(wildcards):
    if plan.config["data"]["competition"]:
        return []
    refuse("data.competition is not set: name the Kaggle competition to submit to, as its address has it")


def new_images_needed(wildcards):
    images = plan.config["predict"]["images"]
    if images is None or not os.path.isdir(images):
        message = "predict.images is not set" if images is None else f"predict.images: {images} is not a folder"
        refuse(f"{message}; give the folder of new pictures: make predict IMAGES=folder")
    return []


def finished_runs():
    return runs_below("results")


def predictions(split, suffix):
    """The predictions of a split, one file a fold; none where the run has no such images."""
    return [f"{plan.run}/fold{fold}/predictions/{split}.{suffix}" for fold in plan.predicted(split)]


def other_runs(name):
    """A file of each other run that is averaged with this one; those runs are made by their own configs."""

    def get(wildcards):
        paths = [f"{folder}/{name}" for folder in plan.other_runs]
        for path in paths:
            if not os.path.isfile(path):
                refuse(f"ensemble.runs: {path} is not there; run that run's own config to `evaluate` first")
        return paths

    return get


def stage_files(name, stages=None):
    """A file of every stage of every fold."""
    return [
        f"{plan.run}/fold{fold}/{stage}/{name}"
        for fold in plan.folds
        for stage in (plan.stages if stages is None else stages)
    ]


def quick_files(name, kept):
    """A file of the quick stage of each fold among ``kept``."""
    return [f"{plan.run}/fold{fold}/{plan.quick_stage}/{name}" for fold in kept]


def quick_activations(suffix):
    """The plain activations of the starting trunk, for the test images; none where there are no such images."""
    return f"{plan.activations(plan.quick_stage, '')[0]}.{suffix}" if plan.has_test else []


def auto_stages():
    """The stages whose learning rate comes from their own finder."""
    return [stage for stage in plan.trained_stages if plan.lr(stage) == (None, stage)]


def finder_files(name):
    """A file of every learning-rate finder whose rate is used."""
    return [f"{plan.run}/fold{fold}/{stage}/{name}" for fold in plan.finder_folds for stage in auto_stages()]


def benchmarks():
    """The benchmark files of every job of a run but the two that come after them, `timings` and `report`."""
    stages, run = plan.stages, f"{plan.run}/benchmarks"
    sizes = {stage["size"] for stage in stages.values()}
    heads = [name for name, stage in stages.items() if stage["train"] != "all"]
    shared = [path for name in heads if plan.trunk_stage(name) is None for path in plan.activations(name, "")]
    own = [
        f"{run}/fold{fold}/{plan.trunk_stage(name)}.activations_{stages[name]['size']}px_{first}-{last}"
        for fold in plan.folds
        for name in heads
        if plan.trunk_stage(name)
        for first, last in plan.views(name)
    ]
    each = [f"{run}/fold{fold}/{stage}" for fold in plan.folds for stage in stages]
    finders = [f"{run}/fold{fold}/{stage}.lr_find" for fold in plan.finder_folds for stage in auto_stages()]
    predicted = [f"{run}/fold{fold}/predict_{split}" for split in plan.splits for fold in plan.predicted(split)]
    drawn = [f"{path.removesuffix('.lr_find')}.draw_lr_find" for path in finders]
    drawn += [f"{run}/fold{fold}/{stage}.draw_strength" for fold in plan.folds for stage in plan.linear_stages]
    paths = [
        *([f"{CACHE}/benchmarks/demo"] if plan.is_demo else []),
        *([f"{plan.kaggle_folder}/kaggle"] if plan.is_kaggle else []),
        f"{plan.data_folder}/manifest",
        f"{run}/folds",
        f"{run}/check_job",
        f"{run}/duplicates",
        f"{run}/explore",
        f"{run}/augmented",
        *(f"{plan.pixels_folder(size)}/pixels" for size in sorted(sizes)),
        f"{plan.weights_folder}/weights",
        *shared,
        *finders,
        *own,
        *(f"{path}.train" for path in each),
        *predicted,
        f"{run}/choose",
        f"{run}/evaluate",
        f"{run}/review",
        f"{run}/insight",
        f"{run}/draw",
        *drawn,
        *([f"{run}/submission"] if plan.has_test else []),
    ]
    return [f"{path}.jsonl" for path in dict.fromkeys(paths)]


def versions():
    """Versions of what computes the results, read without importing it."""
    names = ("snakemake", "torch", "torchvision", "numpy", "pandas", "pillow", "scikit-learn")
    extras = {name: installed(name) for name in ("timm",) if plan.config["model"]["arch"].startswith(f"{name}/")}
    return {name: version(name) for name in names} | extras
