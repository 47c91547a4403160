# The first answer, in a minute: the linear stage on the starting trunk. All that it makes on the way serves the whole run.


rule quick_answer:
    input:
        **folds_files,
        job="<run>/job.json",
        stages=get_of_quick("stage.json", plan.held_out or plan.folds),
        valid=ancient(get_of_quick("valid.safetensors", plan.held_out or plan.folds)),
        checkpoints=ancient(get_of_quick("checkpoint.safetensors", plan.predicted("test"))),
        checkpoint_identities=get_of_quick("stage.json", plan.predicted("test")),
        activations=ancient(get_quick_activations("safetensors")),
        activations_identity=get_quick_activations("json"),
    output:
        test="<run>/predictions/test_quick.csv",
        report="<run>/report_quick.html",
        metrics="<run>/metrics_quick.json",
    log:
        "<run>/logs/quick_answer.log",
    benchmark:
        "<run>/benchmarks/quick_answer.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(4000),
        runtime=minutes(20),
    params:
        settings=plan.quick_answer_settings(),
        code=code("quick_answer.py"),
    message:
        "quick: score the linear stage on the held-out images, answer the test images"
    script:
        "../scripts/quick_answer.py"


use rule write_submission as write_quick_submission with:
    input:
        **manifest_files,
        test="<run>/predictions/test_quick.csv",
    output:
        submission=report("<run>/submission_quick.csv", category="Result"),
    log:
        "<run>/logs/write_quick_submission.log",
    benchmark:
        "<run>/benchmarks/write_quick_submission.jsonl"
    message:
        "quick: write the submission, read back, check"
