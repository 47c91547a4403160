# What jobs read: the inputs that several rules share, and those that depend on the config or on a job's wildcards.
# Small JSON files carry identity from rule to rule (compared by checksum); large files are read beside them, as `ancient`.
from types import SimpleNamespace

manifest_files = {
    "manifest": ancient("<data>/manifest.csv"),
    "manifest_identity": "<data>/manifest.json",
}
folds_files = {
    **manifest_files,
    "folds": ancient("<run>/folds.csv"),
    "folds_identity": "<run>/folds.json",
}
weights_files = {
    "weights_identity": "<weights>/weights.json",
    "trunk": ancient("<weights>/trunk.safetensors"),
}


# ---- what a user has to give first: no file, or an error that says what is missing


def get_test_images(wildcards):
    if plan.has_test:
        return []
    refuse(
        f"run {plan.config['run']} has no test images (data.test is not set and {plan.root}/test does not exist), "
        "so there is nothing to submit: ask for `evaluate` instead"
    )


def get_held_out_images(wildcards):
    if plan.held_out:
        return []
    refuse("split.use: all holds no images out, so networks cannot be compared; give folds, such as split: {use: [0]}")


def get_competition(wildcards):
    if plan.config["data"]["competition"]:
        return []
    refuse("data.competition is not set: name the Kaggle competition to submit to, as its address has it")


def get_new_images(wildcards):
    images = plan.config["predict"]["images"]
    if images is None or not os.path.isdir(images):
        message = "predict.images is not set" if images is None else f"predict.images: {images} is not a folder"
        refuse(f"{message}; give the folder of new images: make predict IMAGES=folder")
    return []


def get_other_runs(name):
    """A file of each other run that is averaged with this one; those runs are made by their own configs."""

    def get(wildcards):
        paths = [f"{folder}/{name}" for folder in plan.other_runs]
        for path in paths:
            if not os.path.isfile(path):
                refuse(f"ensemble.runs: {path} does not exist; run that run's own config to `evaluate` first")
        return paths

    return get


# ---- pixels and parts


def get_size(wildcards):
    """The size (px) of the job's stage, of its shared activations, or of the final prediction."""
    if hasattr(wildcards, "size"):
        return int(wildcards.size)
    if hasattr(wildcards, "kind"):
        return plan.shared_activations[f"activations-{wildcards.kind}-{wildcards.key}"][0]
    return plan.known[getattr(wildcards, "stage", plan.last_stage)]["size"]


def get_pixels(wildcards):
    return f"{plan.pixels_folder(get_size(wildcards))}/pixels.json"


def get_packed(wildcards):
    """What lies beside pixels.json and is read with it."""
    folder = plan.pixels_folder(get_size(wildcards))
    return [f"{folder}/pixels.u8", f"{folder}/index.npy"]


pixels_files = {"pixels": get_pixels, "packed": ancient(get_packed)}


def get_parts(path, name):
    """A file of each part that a result is joined from (shards.py); none where one job makes the whole."""
    return lambda wildcards: plan.parts(path.format_map(vars(wildcards)), name)


# ---- what a stage starts from


def get_starting_trunk(name):
    """A file of the starting trunk that shared activations are of."""
    return lambda wildcards: f"{plan.shared_activations[f'activations-{wildcards.kind}-{wildcards.key}'][1]}/{name}"


def get_saved(get):
    """The files of the network that ``get`` names for a job, as two input functions; no files where it names none."""
    return SimpleNamespace(
        tensors=lambda wildcards: getattr(get(wildcards), "tensors", []),
        identity=lambda wildcards: getattr(get(wildcards), "identity", []),
    )


def is_of_all_layers(wildcards):
    return plan.known[wildcards.stage]["train"] == "all"


def get_activations(suffix):
    """The cached activations that a head or linear stage learns on."""

    def get(wildcards):
        if is_of_all_layers(wildcards):
            return []
        return [f"{path}.{suffix}" for path in plan.activations(wildcards.stage, wildcards.fold)]

    return get


# Of the stage that a job trains: a head or linear stage learns on activations, and reads neither a trunk nor pixels.
stage = SimpleNamespace(
    trunk=get_saved(lambda w: plan.starting_trunk(w.stage, w.fold) if is_of_all_layers(w) else None),
    # What a linear stage's activations were made by; none where that is the pretrained trunk.
    tuned_trunk=get_saved(lambda w: plan.starting_trunk(w.stage, w.fold) if plan.trunk_stage(w.stage) else None),
    head=get_saved(lambda w: plan.starting_head(w.stage, w.fold)),
    activations=get_activations("safetensors"),
    activations_identities=get_activations("json"),
    pixels=lambda w: get_pixels(w) if is_of_all_layers(w) else [],
    packed=lambda w: get_packed(w) if is_of_all_layers(w) else [],
)
stage_files = {
    **folds_files,
    "weights_identity": "<weights>/weights.json",
    "trunk": ancient(stage.trunk.tensors),
    "trunk_identity": stage.trunk.identity,
    "head": ancient(stage.head.tensors),
    "head_identity": stage.head.identity,
    "activations": ancient(stage.activations),
    "activations_identities": stage.activations_identities,
    "pixels": stage.pixels,
    "packed": ancient(stage.packed),
}

# The last stage's network of the fold that is looked into.
last = SimpleNamespace(
    trunk=get_saved(lambda wildcards: plan.final_trunk(plan.first_fold)),
    head=get_saved(lambda wildcards: plan.saved(plan.last_stage, plan.first_fold)),
)


# ---- the networks that may answer


def get_answering(name, stages, folds=None):
    """A file of each of some stages, of the job's fold or of some folds."""
    return lambda wildcards: [
        f"{plan.run}/fold{fold}/{stage}/{name}"
        for fold in ([wildcards.fold] if folds is None else folds)
        for stage in stages
    ]


def get_networks(folds=None):
    """The files of all networks that may answer: of a job's fold, or of some folds."""
    return {
        **weights_files,
        "checkpoints": ancient(get_answering("checkpoint.safetensors", plan.answering, folds)),
        "stages": get_answering("stage.json", plan.answering, folds),
        "snapshots": ancient(get_answering("snapshots.safetensors", plan.answering_snapshots, folds)),
    }


# The pixels of each size that they see; two sizes may share a folder.
answering_folders = [plan.pixels_folder(size) for size in plan.answering_sizes]
answering_pixels = {
    "pixels": [f"{folder}/pixels.json" for folder in answering_folders],
    "packed": ancient(
        [f"{folder}/{name}" for folder in dict.fromkeys(answering_folders) for name in ("pixels.u8", "index.npy")]
    ),
}


def get_chosen(wildcards):
    """What answers, where it is known before the images are predicted: for those to submit."""
    return f"{plan.run}/chosen.json" if wildcards.split == "test" else []


def get_gzipped(name):
    """The compressed submission, where the config asks for one."""
    return [f"{plan.run}/{name}.csv.gz"] if plan.config["submission"]["gzip"] and plan.has_test else []


# ---- files of every fold and stage


def get_predictions(split, suffix):
    """The predictions of a split, one file a fold; none where the run has no such images."""
    return [f"{plan.run}/fold{fold}/predictions/{split}.{suffix}" for fold in plan.predicted(split)]


def get_of_stages(name, stages=None):
    """A file of every stage of every fold."""
    stages = plan.stages if stages is None else stages
    return [f"{plan.run}/fold{fold}/{stage}/{name}" for fold in plan.folds for stage in stages]


def get_of_finders(name):
    """A file of every learning-rate finder whose rate is used."""
    return [f"{plan.run}/fold{fold}/{stage}/{name}" for fold in plan.finder_folds for stage in plan.auto_stages]


def get_of_quick(name, folds):
    """A file of the quick stage of some folds."""
    return [f"{plan.run}/fold{fold}/{plan.quick_stage}/{name}" for fold in folds]


def get_quick_activations(suffix):
    """The plain activations of the pretrained trunk, for the test images; none where there are no such images."""
    return f"{plan.activations(plan.quick_stage, '')[0]}.{suffix}" if plan.has_test else []


def get_outputs_of(name, values):
    """The outputs of a job, by its rule and its wildcards."""
    return [str(path).format_map(values) for path in getattr(rules, name).output]


def get_timed_parts(name, values):
    """The parts of a job that are timed. None where its result was joined from others than `shards` says now: to name their
    benchmarks would ask for them beside the new ones, as soon as the work is done again."""
    output, parts = get_outputs_of(name, values)[0], names(plan.shards)
    made = memory.parts_of(output) if os.path.exists(output) else None
    return parts if made in (None, parts) else []


def get_benchmarks(wildcards):
    """The benchmark file of every job of the run but of the two that come after them, `timings` and `report`."""
    found = []
    for name, values in jobs_of(plan):
        if name in DIVIDED:
            pattern = str(getattr(rules, f"{name}_part").benchmark)
            found += [pattern.format_map({**values, "part": part}) for part in get_timed_parts(name, values)]
        if not name.endswith("_part"):
            found.append(str(getattr(rules, name).benchmark).format_map(values))
    # Where results lie in a store, Snakemake's pattern begins with its own copy of the store.
    return [path[path.index("results/") :] for path in found]


def get_outputs():
    """The patterns of the outputs of each rule whose jobs are timed, divided or not."""
    named = dict.fromkeys(name for name, _ in jobs_of(plan))  # a rule has thousands of jobs where the work is divided
    named |= dict.fromkeys(f"{name}_part" for name in DIVIDED if name in named)
    return {name: [str(path) for path in getattr(rules, name).output] for name in sorted(named)}


# ---- what made the results that are there


def get_made():
    """The outputs of each job of each target, by rule, as (rule, paths); not those in a store, which have no record beside them."""
    for name, values in jobs_of_all_targets(plan):
        paths = get_outputs_of(name, values)
        if not paths[0].startswith(".snakemake"):
            yield name, paths


def get_joined():
    """The outputs of each job that the work can be divided of, and those of its parts, as (paths, paths)."""
    for name, values in jobs_of_all_targets(plan):
        if name in DIVIDED:
            parts = [get_outputs_of(f"{name}_part", {**values, "part": part}) for part in names(plan.shards)]
            yield get_outputs_of(name, values), sum(parts, [])


def recall_results():
    """Give Snakemake back what it does not know of the results that are there (memory.py); called when all rules are read."""
    backend = getattr(workflow.workflow_settings, "persistence_backend", "file")  # newer versions have two
    if not workflow.is_main_process or str(backend) != "file":
        return
    try:
        changed = contents.changed_files(plan.contents, plan.root, plan.listed, contents.say_if_long)
        stale = ["manifest"] if changed else []
        recalled = memory.recall([paths for name, paths in get_made() if name not in stale], RECORD_FORMAT_VERSION)
        for paths, parts in get_joined():
            memory.divide(paths, parts, RECORD_FORMAT_VERSION)
        memory.forget([path for name, paths in get_made() if name in stale for path in paths], RECORD_FORMAT_VERSION)
    except OSError as error:
        refuse(f"{error}; what made the results has to be noted there")
    for message in (contents.summary(plan.root, changed), memory.summary(recalled)):
        if message:
            print(message, file=sys.stderr, flush=True)


# ---- networks side by side


def get_of_racers(name):
    """A file of each racer's linear stage in each fold that holds images out."""
    return [f"{plan.run}/trunks/{racer}/fold{fold}/{name}" for racer in plan.racers for fold in plan.held_out]


def get_of_their_networks(name):
    """A file beside the starting trunk of each network of each racer."""
    return [
        f"{plan.weights_folder_of(arch, weights)}/{name}"
        for racer in plan.racers.values()
        for arch, weights in racer.parts
    ]


def get_their_activations(suffix):
    """The plain activations of each network of each racer."""
    return [f"{path}.{suffix}" for racer in plan.racers for path in plan.activations_of_racer(racer)]


def get_activations_of_racer(suffix):
    return lambda wildcards: [f"{path}.{suffix}" for path in plan.activations_of_racer(wildcards.racer)]
