# The last stage's network to probabilities, figures and a submission.


rule predict:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        folds=ancient("<run>/folds.csv"),
        folds_identity="<run>/folds.json",
        weights_identity="<weights>/weights.json",
        trunk=ancient(final_trunk(0)),
        trunk_identity=final_trunk(1),
        head=ancient(final_head(0)),
        head_identity=final_head(1),
        snapshots=ancient(final_snapshots),
        pixels=pixels_of,
        packed=ancient(packed_of),
        parts=parts_of(f"{plan.run}/fold{{fold}}/predictions/{{split}}", "{part}.safetensors"),
    output:
        logits="<run>/fold{fold}/predictions/{split}.safetensors",
        identity="<run>/fold{fold}/predictions/{split}.json",
    log:
        "<run>/logs/fold{fold}/predict_{split}.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/predict_{split}.jsonl"
    conda:
        "../envs/eightfold.yaml"
    threads: device_threads
    resources:
        gpu=gpus_of_whole,
        mem_mb=memory_mb(6000),
        runtime=minutes(120),
    params:
        settings=plan.predict_settings(),
        code=code("predict.py"),
    message:
        "fold {wildcards.fold}: predict the {wildcards.split} images"
    script:
        "../scripts/predict.py"


use rule predict as predict_part with:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        folds=ancient("<run>/folds.csv"),
        folds_identity="<run>/folds.json",
        weights_identity="<weights>/weights.json",
        trunk=ancient(final_trunk(0)),
        trunk_identity=final_trunk(1),
        head=ancient(final_head(0)),
        head_identity=final_head(1),
        snapshots=ancient(final_snapshots),
        pixels=pixels_of,
        packed=ancient(packed_of),
    output:
        logits=temp("<run>/fold{fold}/predictions/{split}.parts/{part}.safetensors"),
        identity=temp("<run>/fold{fold}/predictions/{split}.parts/{part}.json"),
    log:
        "<run>/logs/fold{fold}/predict_{split}.parts/{part}.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/predict_{split}.parts/{part}.jsonl"
    resources:
        gpu=gpus,
        mem_mb=memory_mb(6000),
        runtime=minutes(120),
    message:
        "fold {wildcards.fold}: predict the {wildcards.split} images, part {wildcards.part}"


rule score:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        job="<run>/job.json",
        stages=stage_files("stage.json"),
        stages_valid=ancient(stage_files("valid.safetensors")),
        runs_told=other_runs("metrics.json"),
        runs_valid=other_runs("predictions/valid.csv"),
        runs_test=other_runs("predictions/test.csv"),
        valid=ancient(predictions("valid", "safetensors")),
        valid_identities=predictions("valid", "json"),
        test=ancient(predictions("test", "safetensors")),
        test_identities=predictions("test", "json"),
    output:
        valid="<run>/predictions/valid.csv",
        test="<run>/predictions/test.csv",
        tuning="<run>/tuning.json",
        metrics="<run>/metrics.json",
    log:
        "<run>/logs/evaluate.log",
    benchmark:
        "<run>/benchmarks/evaluate.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(4000),
        runtime=minutes(20),
    params:
        settings=plan.evaluate_settings(),
        code=code("evaluate.py"),
    message:
        "evaluate: average views, snapshots, folds and runs; tune and score on the held-out images"
    script:
        "../scripts/evaluate.py"


rule write_submission:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        test="<run>/predictions/test.csv",
        tuning="<run>/tuning.json",
    output:
        submission=report("<run>/submission.csv", category="Result"),
        packed=["<run>/submission.csv.gz"] if plan.config["submission"]["gzip"] else [],
    log:
        "<run>/logs/submission.log",
    benchmark:
        "<run>/benchmarks/submission.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=minutes(10),
    params:
        settings=plan.submission_settings(),
        code=code("submission.py"),
    message:
        "submission: write, read back, check"
    script:
        "../scripts/submission.py"
