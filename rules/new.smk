# What a finished run is good for: new images, other programs, other runs to compare it with.


rule predict_new:
    input:
        get_new_images,
        **get_networks(plan.submitted),
        tuning="<run>/tuning.json",
        metrics="<run>/metrics.json",
        manifest_identity="<data>/manifest.json",
        chosen="<run>/chosen.json",
    output:
        predictions="<new>/predictions.csv",
        unreadable="<new>/unreadable.csv",
        sheet=report("<new>/sheet.svg", category="New images"),
    log:
        "<new>/predict_new.log",
    benchmark:
        "<new>/predict_new.jsonl"
    conda:
        "../envs/eightfold.yaml"
    threads: get_device_threads
    resources:
        gpu=gpus,
        mem_mb=memory_mb(6000),
        runtime=minutes(120),
    params:
        settings=lambda wildcards: plan.predict_new_settings(),
        code=code("predict_new.py"),
    message:
        "predict: the new images of predict.images"
    script:
        "../scripts/predict_new.py"


# Other programs' formats; .onnx needs envs/requirements-extra.txt.
rule export_model:
    input:
        **manifest_files,
        **get_networks(plan.submitted),
        **answering_pixels,
        tuning="<run>/tuning.json",
        chosen="<run>/chosen.json",
    output:
        model="<run>/export/model.{format}",
        record="<run>/export/model.{format}.json",
    log:
        "<run>/logs/export_model_{format}.log",
    benchmark:
        "<run>/benchmarks/export_model_{format}.jsonl"
    wildcard_constraints:
        format="pt2|onnx",
    conda:
        "../envs/extra.yaml"
    threads: get_device_threads
    resources:
        mem_mb=memory_mb(8000),
        runtime=minutes(60),
    params:
        settings=plan.export_model_settings(),
        code=code("export_model.py"),
    message:
        "export: the network as {wildcards.format}"
    script:
        "../scripts/export_model.py"


rule model_card:
    input:
        metrics="<run>/metrics.json",
        manifest_identity="<data>/manifest.json",
        folds="<run>/folds.json",
        tables="<run>/review/tables.json",
        stages=get_of_stages("stage.json"),
    output:
        card="<run>/model_card.md",
    log:
        "<run>/logs/model_card.log",
    benchmark:
        "<run>/benchmarks/model_card.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings=plan.report_settings(),
        code=code("model_card.py"),
    message:
        "model card: what it is, how good it is, what it is not for"
    script:
        "../scripts/model_card.py"


rule export:
    input:
        rules.model_card.output,
        "<run>/export/model.pt2",
        "<run>/export/model.onnx",
    localrule: True


# It reads what finished runs left and asks none of them to be made: their files are named in its settings, by digest.
rule compare:
    output:
        table="results/compare.csv",
        page="results/compare.html",
    log:
        "<cache>/logs/compare.log",
    benchmark:
        "<cache>/benchmarks/compare.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings=lambda wildcards: {"runs": finished_runs("results")},
        code=code("compare.py"),
    message:
        "compare: all finished runs"
    script:
        "../scripts/compare.py"


# The same history for other programs; each needs envs/requirements-extra.txt and is made where `tracking` names it.
rule track_tensorboard:
    input:
        histories=get_of_stages("history.csv"),
        batches=get_of_stages("batches.csv"),
    output:
        events=collect("<run>/tensorboard/fold{fold}/events.out.tfevents.0", fold=plan.folds),
    log:
        "<run>/logs/track_tensorboard.log",
    benchmark:
        "<run>/benchmarks/track_tensorboard.jsonl"
    conda:
        "../envs/extra.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings={},
        code=code("track_tensorboard.py"),
    message:
        "tracking: TensorBoard's event files"
    script:
        "../scripts/track_tensorboard.py"


rule track_mlflow:
    input:
        metrics="<run>/metrics.json",
        histories=get_of_stages("history.csv"),
        batches=get_of_stages("batches.csv"),
    output:
        record="<run>/mlflow.json",
    log:
        "<run>/logs/track_mlflow.log",
    benchmark:
        "<run>/benchmarks/track_mlflow.jsonl"
    conda:
        "../envs/extra.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings=plan.track_mlflow_settings(),
        code=code("track_mlflow.py"),
    message:
        "tracking: the run in MLflow's local database"
    script:
        "../scripts/track_mlflow.py"
