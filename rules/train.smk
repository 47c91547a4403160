# The recipe's stages. A head stage learns on cached activations, a stage of all layers on views of the packed pixels.


# Local: nodes of a cluster seldom reach the network that weights come from.
rule weights:
    output:
        trunk="<cache>/weights-{key}/trunk.safetensors",
        identity="<cache>/weights-{key}/weights.json",
    log:
        "<cache>/weights-{key}/weights.log",
    benchmark:
        "<cache>/weights-{key}/weights.jsonl"
    localrule: True
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(4000),
        runtime=minutes(30),
    params:
        settings=lambda wildcards: plan.starting_weights[wildcards.key],
        code=code("weights.py"),
    message:
        "weights: a trunk to start from"
    script:
        "../scripts/weights.py"


rule activations:
    input:
        **manifest_files,
        **pixels_files,
        weights_identity=get_starting_trunk("weights.json"),
        trunk=ancient(get_starting_trunk("trunk.safetensors")),
        trunk_identity=get_starting_trunk("weights.json"),
        parts=get_parts(f"{CACHE}/activations-{{kind}}-{{key}}/views_{{first}}-{{last}}", "{part}.safetensors"),
        parts_identities=get_parts(f"{CACHE}/activations-{{kind}}-{{key}}/views_{{first}}-{{last}}", "{part}.json"),
    output:
        activations="<cache>/activations-{kind}-{key}/views_{first}-{last}.safetensors",
        identity="<cache>/activations-{kind}-{key}/views_{first}-{last}.json",
    log:
        "<cache>/activations-{kind}-{key}/views_{first}-{last}.log",
    benchmark:
        "<cache>/activations-{kind}-{key}/views_{first}-{last}.jsonl"
    wildcard_constraints:
        kind="plain|augmented",
    conda:
        "../envs/eightfold.yaml"
    threads: get_device_threads
    resources:
        held=1,
        gpu=gpus_of_whole,
        mem_mb=memory_mb(6000),
        runtime=minutes(240),
    params:
        settings=lambda wildcards: plan.activations_settings(
            get_size(wildcards), int(wildcards.first), int(wildcards.last)
        ),
        code=code("activations.py"),
    message:
        "activations of the starting trunk: views {wildcards.first} to {wildcards.last}"
    script:
        "../scripts/activations.py"


use rule activations as activations_part with:
    input:
        **manifest_files,
        **pixels_files,
        weights_identity=get_starting_trunk("weights.json"),
        trunk=ancient(get_starting_trunk("trunk.safetensors")),
        trunk_identity=get_starting_trunk("weights.json"),
    output:
        activations=temp("<cache>/activations-{kind}-{key}/views_{first}-{last}.parts/{part}.safetensors"),
        identity=temp("<cache>/activations-{kind}-{key}/views_{first}-{last}.parts/{part}.json"),
    log:
        "<cache>/activations-{kind}-{key}/views_{first}-{last}.parts/{part}.log",
    benchmark:
        "<cache>/activations-{kind}-{key}/views_{first}-{last}.parts/{part}.jsonl"
    resources:
        held=1,
        gpu=gpus,
        mem_mb=memory_mb(6000),
        runtime=minutes(240),
    message:
        "activations of the starting trunk: views {wildcards.first} to {wildcards.last}, part {wildcards.part}"


use rule activations as activations_tuned with:
    input:
        **folds_files,
        **pixels_files,
        weights_identity="<weights>/weights.json",
        trunk=ancient("<run>/fold{fold}/{stage}/checkpoint.safetensors"),
        trunk_identity="<run>/fold{fold}/{stage}/stage.json",
        parts=get_parts(
            f"{plan.run}/fold{{fold}}/{{stage}}/activations/{{size}}px_views_{{first}}-{{last}}", "{part}.safetensors"
        ),
        parts_identities=get_parts(
            f"{plan.run}/fold{{fold}}/{{stage}}/activations/{{size}}px_views_{{first}}-{{last}}", "{part}.json"
        ),
    output:
        activations="<run>/fold{fold}/{stage}/activations/{size}px_views_{first}-{last}.safetensors",
        identity="<run>/fold{fold}/{stage}/activations/{size}px_views_{first}-{last}.json",
    log:
        "<run>/logs/fold{fold}/{stage}.activations_{size}px_{first}-{last}.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/{stage}.activations_{size}px_{first}-{last}.jsonl"
    params:
        settings=lambda wildcards: plan.activations_settings(
            int(wildcards.size), int(wildcards.first), int(wildcards.last), wildcards.stage
        ),
        code=code("activations.py"),
    message:
        "fold {wildcards.fold}: activations of {wildcards.stage}'s trunk at {wildcards.size} px, "
        "views {wildcards.first} to {wildcards.last}"


use rule activations as activations_tuned_part with:
    input:
        **folds_files,
        **pixels_files,
        weights_identity="<weights>/weights.json",
        trunk=ancient("<run>/fold{fold}/{stage}/checkpoint.safetensors"),
        trunk_identity="<run>/fold{fold}/{stage}/stage.json",
    output:
        activations=temp("<run>/fold{fold}/{stage}/activations/{size}px_views_{first}-{last}.parts/{part}.safetensors"),
        identity=temp("<run>/fold{fold}/{stage}/activations/{size}px_views_{first}-{last}.parts/{part}.json"),
    log:
        "<run>/logs/fold{fold}/{stage}.activations_{size}px_{first}-{last}.parts/{part}.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/{stage}.activations_{size}px_{first}-{last}.parts/{part}.jsonl"
    resources:
        held=1,
        gpu=gpus,
        mem_mb=memory_mb(6000),
        runtime=minutes(240),
    params:
        settings=lambda wildcards: plan.activations_settings(
            int(wildcards.size), int(wildcards.first), int(wildcards.last), wildcards.stage
        ),
        code=code("activations.py"),
    message:
        "fold {wildcards.fold}: activations of {wildcards.stage}'s trunk at {wildcards.size} px, "
        "views {wildcards.first} to {wildcards.last}, part {wildcards.part}"


rule find_lr:
    input:
        **stage_files,
    output:
        found="<run>/fold{fold}/{stage}/lr_find.json",
    log:
        "<run>/logs/fold{fold}/{stage}.find_lr.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/{stage}.find_lr.jsonl"
    conda:
        "../envs/eightfold.yaml"
    threads: get_device_threads
    resources:
        held=1,
        gpu=gpus,
        mem_mb=memory_mb(16000),
        runtime=minutes(120),
    params:
        settings=lambda wildcards: plan.find_lr_settings(wildcards.stage),
        code=code("find_lr.py"),
    message:
        "fold {wildcards.fold}: learning-rate finder of {wildcards.stage}"
    script:
        "../scripts/find_lr.py"


rule train:
    input:
        **stage_files,
        lr_find=lambda wildcards: plan.lr_find(wildcards.stage, wildcards.fold),
    output:
        checkpoint="<run>/fold{fold}/{stage}/checkpoint.safetensors",
        snapshots="<run>/fold{fold}/{stage}/snapshots.safetensors",
        record="<run>/fold{fold}/{stage}/stage.json",
        history=report(
            "<run>/fold{fold}/{stage}/history.csv",
            category="Training",
            subcategory="{stage}",
            labels={"fold": "{fold}", "figure": "history"},
        ),
        batches="<run>/fold{fold}/{stage}/batches.csv",
        valid="<run>/fold{fold}/{stage}/valid.safetensors",
    log:
        "<run>/logs/fold{fold}/{stage}.train.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/{stage}.train.jsonl"
    wildcard_constraints:
        stage=one_of(plan.trained_stages),
    conda:
        "../envs/eightfold.yaml"
    threads: get_training_threads
    resources:
        held=1,
        gpu=lambda wildcards: plan.gpus(wildcards.stage),
        mem_mb=memory_mb(16000),
        runtime=minutes(480),
    params:
        settings=lambda wildcards: plan.train_settings(wildcards.stage),
        code=code("train.py"),
    message:
        "fold {wildcards.fold}: train {wildcards.stage}"
    script:
        "../scripts/train.py"


# A linear stage leaves the same files as one that is trained; its snapshots and batches are empty.
rule fit_linear:
    input:
        **folds_files,
        trunk_identity=stage.tuned_trunk.identity,
        activations=ancient(stage.activations),
        activations_identities=stage.activations_identities,
    output:
        checkpoint="<run>/fold{fold}/{stage}/checkpoint.safetensors",
        snapshots="<run>/fold{fold}/{stage}/snapshots.safetensors",
        record="<run>/fold{fold}/{stage}/stage.json",
        history="<run>/fold{fold}/{stage}/history.csv",
        batches="<run>/fold{fold}/{stage}/batches.csv",
        valid="<run>/fold{fold}/{stage}/valid.safetensors",
    log:
        "<run>/logs/fold{fold}/{stage}.fit_linear.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/{stage}.fit_linear.jsonl"
    wildcard_constraints:
        stage=one_of([stage for stage in plan.known if plan.is_linear(stage)]),
    conda:
        "../envs/eightfold.yaml"
    threads: get_device_threads
    resources:
        held=1,
        gpu=gpus,
        mem_mb=memory_mb(16000),
        runtime=minutes(240),
    params:
        settings=lambda wildcards: plan.fit_linear_settings(wildcards.stage),
        code=code("fit_linear.py"),
    message:
        "fold {wildcards.fold}: fit {wildcards.stage}"
    script:
        "../scripts/fit_linear.py"
