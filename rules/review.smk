# What a person looks at: sheets of right and wrong answers, times, the report.


rule draw_lr_find:
    input:
        found="<run>/fold{fold}/{stage}/lr_find.json",
    output:
        plot=report(
            "<run>/fold{fold}/{stage}/lr_find.svg",
            category="Training",
            subcategory="{stage}",
            labels={"fold": "{fold}", "figure": "learning-rate finder"},
            caption="captions/lr_find.rst",
        ),
    log:
        "<run>/logs/fold{fold}/{stage}.draw_lr_find.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/{stage}.draw_lr_find.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings={},
        code=code("draw_lr_find.py"),
    message:
        "fold {wildcards.fold}: plot the learning-rate finder of {wildcards.stage}"
    script:
        "../scripts/draw_lr_find.py"


rule draw_strength:
    input:
        record="<run>/fold{fold}/{stage}/stage.json",
    output:
        plot=report(
            "<run>/fold{fold}/{stage}/strength.svg",
            category="Training",
            subcategory="{stage}",
            labels={"fold": "{fold}", "figure": "strength"},
            caption="captions/strength.rst",
        ),
    log:
        "<run>/logs/fold{fold}/{stage}.draw_strength.log",
    benchmark:
        "<run>/benchmarks/fold{fold}/{stage}.draw_strength.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings={},
        code=code("draw_strength.py"),
    message:
        "fold {wildcards.fold}: plot the choice of {wildcards.stage}'s strength"
    script:
        "../scripts/draw_strength.py"


rule draw:
    input:
        batches=get_of_stages("batches.csv", plan.trained_stages),
        histories=get_of_stages("history.csv", plan.trained_stages),
    output:
        losses=report(get_of_stages("loss.svg", plan.trained_stages), category="Training", caption="captions/loss.rst"),
        rates=report(get_of_stages("lr.svg", plan.trained_stages), category="Training", caption="captions/lr.rst"),
    log:
        "<run>/logs/draw.log",
    benchmark:
        "<run>/benchmarks/draw.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings={},
        code=code("draw.py"),
    message:
        "draw: loss and learning rate of every stage"
    script:
        "../scripts/draw.py"


rule review:
    input:
        **manifest_files,
        **pixels_files,
        valid="<run>/predictions/valid.csv",
        tuning="<run>/tuning.json",
    output:
        confusion=report("<run>/review/confusion.svg", category="Review", caption="captions/confusion.rst"),
        most_correct=report("<run>/review/most_correct.svg", category="Review", caption="captions/sheet.rst"),
        most_incorrect=report("<run>/review/most_incorrect.svg", category="Review", caption="captions/sheet.rst"),
        most_uncertain=report("<run>/review/most_uncertain.svg", category="Review", caption="captions/sheet.rst"),
        random_right=report("<run>/review/random_right.svg", category="Review", caption="captions/sheet.rst"),
        random_wrong=report("<run>/review/random_wrong.svg", category="Review", caption="captions/sheet.rst"),
        label_noise=report("<run>/review/label_noise.svg", category="Review", caption="captions/label_noise.rst"),
        label_noise_table="<run>/review/label_noise.csv",
        tables="<run>/review/tables.json",
    log:
        "<run>/logs/review.log",
    benchmark:
        "<run>/benchmarks/review.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=minutes(20),
    params:
        settings={"per_sheet": 8, "seed": plan.config["seed"]},
        code=code("review.py"),
    message:
        "review: confusion matrix, and sheets of the most telling images"
    script:
        "../scripts/review.py"


rule show_augmentation:
    input:
        **manifest_files,
        **pixels_files,
    output:
        sheet=report("<run>/explore/augmented.svg", category="Data", caption="captions/augmented.rst"),
    log:
        "<run>/logs/show_augmentation.log",
    benchmark:
        "<run>/benchmarks/show_augmentation.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=minutes(10),
    params:
        settings=plan.show_augmentation_settings(),
        code=code("show_augmentation.py"),
    message:
        "explore: images before and after augmentation"
    script:
        "../scripts/show_augmentation.py"


rule insight:
    input:
        **folds_files,
        **pixels_files,
        weights_identity="<weights>/weights.json",
        trunk=ancient(last.trunk.tensors),
        trunk_identity=last.trunk.identity,
        head=ancient(last.head.tensors),
        head_identity=last.head.identity,
    output:
        cam_most_incorrect=report("<run>/review/cam_most_incorrect.svg", category="Review", caption="captions/cam.rst"),
        cam_most_uncertain=report("<run>/review/cam_most_uncertain.svg", category="Review", caption="captions/cam.rst"),
        map="<run>/review/map.json",
    log:
        "<run>/logs/insight.log",
    benchmark:
        "<run>/benchmarks/insight.jsonl"
    conda:
        "../envs/eightfold.yaml"
    threads: get_device_threads
    resources:
        gpu=gpus,
        mem_mb=memory_mb(6000),
        runtime=minutes(30),
    params:
        settings=plan.insight_settings(),
        code=code("insight.py"),
    message:
        "insight: what the network looks at, and which images look alike to it"
    script:
        "../scripts/insight.py"


rule timings:
    input:
        benchmarks=get_benchmarks,
    output:
        timings="<run>/timings.csv",
    log:
        "<run>/logs/timings.log",
    benchmark:
        "<run>/benchmarks/timings.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings=lambda wildcards: {"outputs": get_outputs()},
        code=code("timings.py"),
    message:
        "timings: seconds and peak memory of each job"
    script:
        "../scripts/timings.py"


rule report:
    input:
        metrics="<run>/metrics.json",
        manifest_identity="<data>/manifest.json",
        rejected="<data>/rejected.csv",
        folds="<run>/folds.json",
        explore=[*rules.explore_data.output, *rules.show_augmentation.output],
        duplicates="<run>/duplicates.json",
        stages=get_of_stages("stage.json"),
        histories=get_of_stages("history.csv"),
        lr_finds=get_of_finders("lr_find.json"),
        plots=[
            *get_of_stages("loss.svg", plan.trained_stages),
            *get_of_stages("lr.svg", plan.trained_stages),
            *get_of_stages("strength.svg", plan.linear_stages),
            *get_of_finders("lr_find.svg"),
        ],
        review=[
            f"{plan.run}/review/{name}.svg"
            for name in (
                "confusion",
                "most_correct",
                "most_incorrect",
                "most_uncertain",
                "random_right",
                "random_wrong",
                "cam_most_incorrect",
                "cam_most_uncertain",
                "label_noise",
            )
        ],
        map="<run>/review/map.json",
        tables="<run>/review/tables.json",
        timings="<run>/timings.csv",
    output:
        report=report("<run>/report.html", category="Result"),
        config="<run>/config.json",
    log:
        "<run>/logs/report.log",
    benchmark:
        "<run>/benchmarks/report.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=minutes(10),
    params:
        settings=plan.report_settings(),
        code=code("report.py"),
    message:
        "report: one page that holds all of it"
    script:
        "../scripts/report.py"


rule clean_cache:
    log:
        "<run>/logs/clean_cache.log",
    localrule: True
    conda:
        "../envs/eightfold.yaml"
    params:
        settings={"cache": CACHE},
        code=code("clean_cache.py"),
    message:
        "clean_cache: remove what runs share; a later change then computes it again"
    script:
        "../scripts/clean_cache.py"


# Looks and changes nothing: no output, so it runs whenever it is asked for.
rule doctor:
    log:
        "<run>/logs/doctor.log",
    localrule: True
    conda:
        "../envs/eightfold.yaml"
    params:
        settings={"config": plan.config},
        code=code("doctor.py"),
    message:
        "doctor: is all there that this run needs, is what earlier runs left whole"
    script:
        "../scripts/doctor.py"
