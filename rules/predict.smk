# The networks that may answer, to probabilities, figures and a submission.


rule predict:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        folds=ancient("<run>/folds.csv"),
        folds_identity="<run>/folds.json",
        weights_identity="<weights>/weights.json",
        trunk=ancient("<weights>/trunk.safetensors"),
        checkpoints=ancient(answering_files("checkpoint.safetensors")),
        stages=answering_files("stage.json"),
        snapshots=ancient(answering_snapshots),
        pixels=answering_pixels,
        packed=ancient(answering_packed),
        chosen=chosen_for_test,
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
        trunk=ancient("<weights>/trunk.safetensors"),
        checkpoints=ancient(answering_files("checkpoint.safetensors")),
        stages=answering_files("stage.json"),
        snapshots=ancient(answering_snapshots),
        pixels=answering_pixels,
        packed=ancient(answering_packed),
        chosen=chosen_for_test,
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


# What answers for the test images is known before they are predicted, so that no other network needs to see them.
rule choose:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        job="<run>/job.json",
        runs_told=other_runs("metrics.json"),
        runs_valid=other_runs("predictions/valid.csv"),
        valid=ancient(predictions("valid", "safetensors")),
        valid_identities=predictions("valid", "json"),
    output:
        chosen="<run>/chosen.json",
    log:
        "<run>/logs/choose.log",
    benchmark:
        "<run>/benchmarks/choose.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(4000),
        runtime=minutes(20),
    params:
        settings=plan.choose_settings(),
        code=code("choose.py"),
    message:
        "choose: which networks answer, on the held-out images"
    script:
        "../scripts/choose.py"


rule score:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        job="<run>/job.json",
        chosen="<run>/chosen.json",
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
