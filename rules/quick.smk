# The first answer, in a minute: the linear stage on the starting trunk. All that it makes on the way serves the whole run.


rule quick_answer:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        folds=ancient("<run>/folds.csv"),
        folds_identity="<run>/folds.json",
        job="<run>/job.json",
        stages=quick_files("stage.json", plan.held_out or plan.folds),
        valid=ancient(quick_files("valid.safetensors", plan.held_out or plan.folds)),
        checkpoints=ancient(quick_files("checkpoint.safetensors", plan.predicted("test"))),
        checkpoint_identities=quick_files("stage.json", plan.predicted("test")),
        activations=ancient(quick_activations("safetensors")),
        activations_identity=quick_activations("json"),
    output:
        test="<run>/predictions/test_quick.csv",
        report="<run>/report_quick.html",
        metrics="<run>/metrics_quick.json",
    log:
        "<run>/logs/quick.log",
    benchmark:
        "<run>/benchmarks/quick.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(4000),
        runtime=minutes(20),
    params:
        settings=plan.quick_settings(),
        code=code("quick.py"),
    message:
        "quick: score the linear stage on the held-out images, answer the test images"
    script:
        "../scripts/quick.py"


use rule write_submission as write_quick_submission with:
    input:
        manifest=ancient("<data>/manifest.csv"),
        manifest_identity="<data>/manifest.json",
        test="<run>/predictions/test_quick.csv",
    output:
        submission=report("<run>/submission_quick.csv", category="Result"),
        packed=["<run>/submission_quick.csv.gz"] if plan.config["submission"]["gzip"] else [],
    log:
        "<run>/logs/submission_quick.log",
    benchmark:
        "<run>/benchmarks/submission_quick.jsonl"
    message:
        "quick: write the submission, read back, check"
