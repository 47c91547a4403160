# The networks that may answer, to probabilities, figures and a submission.


rule predict:
    input:
        **folds_files,
        **get_networks(),
        **answering_pixels,
        chosen=get_chosen,
        parts=get_parts(f"{plan.run}/fold{{fold}}/predictions/{{split}}", "{part}.safetensors"),
        parts_identities=get_parts(f"{plan.run}/fold{{fold}}/predictions/{{split}}", "{part}.json"),
    output:
        logits="<run>/fold{fold}/predictions/{split}.safetensors",
        identity="<run>/fold{fold}/predictions/{split}.json",
    log:
        "<run>/logs/fold{fold}/predict_{split}.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/predict_{split}.jsonl"
    conda:
        "../envs/eightfold.yaml"
    threads: get_device_threads
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
        **folds_files,
        **get_networks(),
        **answering_pixels,
        chosen=get_chosen,
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
        **manifest_files,
        job="<run>/job.json",
        runs_metrics=get_other_runs("metrics.json"),
        runs_valid=get_other_runs("predictions/valid.csv"),
        valid=ancient(get_predictions("valid", "safetensors")),
        valid_identities=get_predictions("valid", "json"),
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
        **manifest_files,
        job="<run>/job.json",
        chosen="<run>/chosen.json",
        stages=get_of_stages("stage.json"),
        stages_valid=ancient(get_of_stages("valid.safetensors")),
        runs_metrics=get_other_runs("metrics.json"),
        runs_valid=get_other_runs("predictions/valid.csv"),
        runs_test=get_other_runs("predictions/test.csv"),
        valid=ancient(get_predictions("valid", "safetensors")),
        valid_identities=get_predictions("valid", "json"),
        test=ancient(get_predictions("test", "safetensors")),
        test_identities=get_predictions("test", "json"),
    output:
        valid="<run>/predictions/valid.csv",
        test="<run>/predictions/test.csv",
        tuning="<run>/tuning.json",
        metrics=report("<run>/metrics.json", category="Result"),
    log:
        "<run>/logs/score.log",
    benchmark:
        "<run>/benchmarks/score.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(4000),
        runtime=minutes(20),
    params:
        settings=plan.score_settings(),
        code=code("score.py"),
    message:
        "score: average views, snapshots, folds and runs; tune and score on the held-out images"
    script:
        "../scripts/score.py"


rule write_submission:
    input:
        **manifest_files,
        test="<run>/predictions/test.csv",
        tuning="<run>/tuning.json",
    output:
        submission=report("<run>/submission.csv", category="Result"),
    log:
        "<run>/logs/write_submission.log",
    benchmark:
        "<run>/benchmarks/write_submission.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=minutes(10),
    params:
        settings=plan.write_submission_settings(),
        code=code("write_submission.py"),
    message:
        "submission: write, read back, check"
    script:
        "../scripts/write_submission.py"


# A rule of its own: Snakemake would not notice an output that a changed config adds to a finished job.
rule gzip_submission:
    input:
        submission="<run>/{name}.csv",
    output:
        packed="<run>/{name}.csv.gz",
    log:
        "<run>/logs/gzip_submission.{name}.log",
    benchmark:
        "<run>/benchmarks/gzip_submission.{name}.jsonl"
    wildcard_constraints:
        name="submission|submission_quick",
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings={},
        code=code("gzip_submission.py"),
    message:
        "submission: the same file compressed"
    script:
        "../scripts/gzip_submission.py"
