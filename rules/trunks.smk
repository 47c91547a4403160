# Which network: the linear stage on the plain activations of several, out of fold. The activations are the run's own kind, so
# those of the network that is chosen are there already when the run is made.


use rule fit_linear as fit_linear_of_trunk with:
    input:
        **folds_files,
        trunk_identity=[],
        activations=ancient(get_activations_of_racer("safetensors")),
        activations_identities=get_activations_of_racer("json"),
    output:
        checkpoint="<run>/trunks/{racer}/fold{fold}/checkpoint.safetensors",
        snapshots="<run>/trunks/{racer}/fold{fold}/snapshots.safetensors",
        record="<run>/trunks/{racer}/fold{fold}/stage.json",
        history="<run>/trunks/{racer}/fold{fold}/history.csv",
        batches="<run>/trunks/{racer}/fold{fold}/batches.csv",
        valid="<run>/trunks/{racer}/fold{fold}/valid.safetensors",
    log:
        "<run>/logs/trunks/{racer}.fold{fold}.fit_linear_of_trunk.log",
    benchmark:
        "<run>/benchmarks/trunks/{racer}.fold{fold}.fit_linear_of_trunk.jsonl"
    wildcard_constraints:
        racer=one_of(re.escape(racer) for racer in plan.racers),
    params:
        settings=plan.fit_linear_settings(plan.quick_stage),
        code=code("fit_linear.py"),
    message:
        "fold {wildcards.fold}: fit a linear layer on {wildcards.racer}"


rule compare_trunks:
    input:
        get_held_out_images,
        **folds_files,
        job="<run>/job.json",
        stages=get_of_racers("stage.json"),
        valid=ancient(get_of_racers("valid.safetensors")),
        weights=get_of_their_networks("weights.json"),
        trunks=ancient(get_of_their_networks("trunk.safetensors")),
        activations=get_their_activations("json"),
        activations_times=ancient(get_their_activations("jsonl")),
    output:
        table="<run>/trunks.csv",
        text="<run>/trunks.txt",
        page="<run>/trunks.html",
    log:
        "<run>/logs/compare_trunks.log",
    benchmark:
        "<run>/benchmarks/compare_trunks.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(4000),
        runtime=minutes(20),
    params:
        settings=plan.compare_trunks_settings(),
        code=code("compare_trunks.py"),
    message:
        "trunks: which network answers best by a linear layer"
    script:
        "../scripts/compare_trunks.py"
