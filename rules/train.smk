# The recipe's stages. A head stage learns on cached activations, a stage of all layers on views of the packed pixels.
# Small JSON files carry identity from rule to rule (compared by checksum); large files ride along as `ancient`.


# Local: nodes of a cluster seldom reach the network that weights come from.
rule weights:
    output:
        trunk="<weights>/trunk.safetensors",
        identity="<weights>/weights.json",
    log:
        "<weights>/weights.log",
    benchmark:
        "<weights>/weights.jsonl"
    localrule: True
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(4000),
        runtime=minutes(30),
    params:
        settings=plan.weights_settings,
        code=code("weights.py"),
    message:
        "weights: the trunk to start from"
    script:
        "../scripts/weights.py"


rule activations:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        pixels=pixels_of,
        packed=ancient(packed_of),
        weights_identity="<weights>/weights.json",
        trunk=ancient("<weights>/trunk.safetensors"),
        trunk_identity="<weights>/weights.json",
        parts=parts_of(f"{CACHE}/activations-{{kind}}-{{key}}/views_{{first}}-{{last}}", "{part}.safetensors"),
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
    threads: device_threads
    resources:
        gpu=gpus_of_whole,
        mem_mb=memory_mb(6000),
        runtime=minutes(240),
    params:
        settings=lambda wildcards: plan.activations_settings(
            size_of(wildcards), int(wildcards.first), int(wildcards.last)
        ),
        code=code("activations.py"),
    message:
        "activations of the starting trunk: views {wildcards.first} to {wildcards.last}"
    script:
        "../scripts/activations.py"


use rule activations as activations_part with:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        pixels=pixels_of,
        packed=ancient(packed_of),
        weights_identity="<weights>/weights.json",
        trunk=ancient("<weights>/trunk.safetensors"),
        trunk_identity="<weights>/weights.json",
    output:
        activations=temp("<cache>/activations-{kind}-{key}/views_{first}-{last}.parts/{part}.safetensors"),
        identity=temp("<cache>/activations-{kind}-{key}/views_{first}-{last}.parts/{part}.json"),
    log:
        "<cache>/activations-{kind}-{key}/views_{first}-{last}.parts/{part}.log",
    benchmark:
        "<cache>/activations-{kind}-{key}/views_{first}-{last}.parts/{part}.jsonl"
    resources:
        gpu=gpus,
        mem_mb=memory_mb(6000),
        runtime=minutes(240),
    message:
        "activations of the starting trunk: views {wildcards.first} to {wildcards.last}, part {wildcards.part}"


use rule activations as activations_tuned with:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        folds=ancient("<run>/folds.csv"),
        folds_identity="<run>/folds.json",
        pixels=pixels_of,
        packed=ancient(packed_of),
        weights_identity="<weights>/weights.json",
        trunk=ancient("<run>/fold{fold}/{stage}/checkpoint.safetensors"),
        trunk_identity="<run>/fold{fold}/{stage}/stage.json",
        parts=parts_of(
            f"{plan.run}/fold{{fold}}/{{stage}}/activations/{{size}}px_views_{{first}}-{{last}}", "{part}.safetensors"
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
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        folds=ancient("<run>/folds.csv"),
        folds_identity="<run>/folds.json",
        pixels=pixels_of,
        packed=ancient(packed_of),
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
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        folds=ancient("<run>/folds.csv"),
        folds_identity="<run>/folds.json",
        weights_identity="<weights>/weights.json",
        trunk=ancient(stage_trunk(0)),
        trunk_identity=stage_trunk(1),
        head=ancient(stage_head(0)),
        head_identity=stage_head(1),
        activations=ancient(stage_activations("safetensors")),
        activations_identities=stage_activations("json"),
        pixels=stage_pixels(pixels_of),
        packed=ancient(stage_pixels(packed_of)),
    output:
        found="<run>/fold{fold}/{stage}/lr_find.json",
    log:
        "<run>/logs/fold{fold}/{stage}.lr_find.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/{stage}.lr_find.jsonl"
    conda:
        "../envs/eightfold.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=memory_mb(16000),
        runtime=minutes(120),
    params:
        settings=lambda wildcards: plan.lr_find_settings(wildcards.stage),
        code=code("lr_find.py"),
    message:
        "fold {wildcards.fold}: learning-rate finder of {wildcards.stage}"
    script:
        "../scripts/lr_find.py"


rule train:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        folds=ancient("<run>/folds.csv"),
        folds_identity="<run>/folds.json",
        weights_identity="<weights>/weights.json",
        trunk=ancient(stage_trunk(0)),
        trunk_identity=stage_trunk(1),
        head=ancient(stage_head(0)),
        head_identity=stage_head(1),
        activations=ancient(stage_activations("safetensors")),
        activations_identities=stage_activations("json"),
        pixels=stage_pixels(pixels_of),
        packed=ancient(stage_pixels(packed_of)),
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
    threads: training_threads
    resources:
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
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        folds=ancient("<run>/folds.csv"),
        folds_identity="<run>/folds.json",
        trunk_identity=tuned_trunk,
        activations=ancient(stage_activations("safetensors")),
        activations_identities=stage_activations("json"),
    output:
        checkpoint="<run>/fold{fold}/{stage}/checkpoint.safetensors",
        snapshots="<run>/fold{fold}/{stage}/snapshots.safetensors",
        record="<run>/fold{fold}/{stage}/stage.json",
        history="<run>/fold{fold}/{stage}/history.csv",
        batches="<run>/fold{fold}/{stage}/batches.csv",
        valid="<run>/fold{fold}/{stage}/valid.safetensors",
    log:
        "<run>/logs/fold{fold}/{stage}.train.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/{stage}.train.jsonl"
    wildcard_constraints:
        stage=one_of([stage for stage in plan.known if plan.is_linear(stage)]),
    conda:
        "../envs/eightfold.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=memory_mb(16000),
        runtime=minutes(240),
    params:
        settings=lambda wildcards: plan.fit_settings(wildcards.stage),
        code=code("fit_linear.py"),
    message:
        "fold {wildcards.fold}: fit {wildcards.stage}"
    script:
        "../scripts/fit_linear.py"
