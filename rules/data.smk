# Raw images to a manifest, folds, plots of the data and packed pixels.


# `local`: beside images that no rule names, and that storage of results would therefore not take.
rule demo:
    output:
        identity=local("<cache>/demo/demo.json"),
    log:
        "<cache>/logs/demo.log",
    benchmark:
        "<cache>/benchmarks/demo.jsonl"
    localrule: True
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings={},
        code=code("demo.py"),
    message:
        "demo: scikit-learn's handwritten digits, as a Kaggle competition would lay them out"
    script:
        "../scripts/demo.py"


rule manifest:
    input:
        demo=[local(f"{CACHE}/demo/demo.json")] if plan.is_demo else [],
        kaggle=[local(f"{plan.kaggle_folder}/kaggle.json")] if plan.is_kaggle else [],
    output:
        manifest="<data>/manifest.csv",
        thumbnails="<data>/thumbnails.npy",
        rejected="<data>/rejected.csv",
        identity="<data>/manifest.json",
    log:
        "<data>/manifest.log",
    benchmark:
        "<data>/manifest.jsonl"
    conda:
        "../envs/eightfold.yaml"
    threads: 16
    resources:
        mem_mb=memory_mb(4000),
        runtime=minutes(120),
    params:
        settings=plan.manifest_settings,
        code=code("manifest.py"),
    message:
        "manifest: look at every image once"
    script:
        "../scripts/manifest.py"


rule folds:
    input:
        **manifest_files,
        duplicates=ancient("<run>/duplicates.csv"),
        duplicates_identity="<run>/duplicates.json",
    output:
        folds="<run>/folds.csv",
        identity="<run>/folds.json",
    log:
        "<run>/logs/folds.log",
    benchmark:
        "<run>/benchmarks/folds.jsonl"
    priority: 90
    conda:
        "../envs/eightfold.yaml"
    resources:
        held=ALL_HELD,
        mem_mb=memory_mb(2000),
        runtime=minutes(10),
    params:
        settings=plan.folds_settings,
        code=code("folds.py"),
    message:
        "folds: which images validate which fold"
    script:
        "../scripts/folds.py"


# Of the manifest alone, so that it is the first to run; it hands on nothing, so a changed key of `submission` trains nothing.
rule check_submission:
    input:
        **manifest_files,
    output:
        checked="<run>/submission.json",
    log:
        "<run>/logs/check_submission.log",
    benchmark:
        "<run>/benchmarks/check_submission.jsonl"
    priority: 100
    localrule: True
    conda:
        "../envs/eightfold.yaml"
    resources:
        held=ALL_HELD,
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings=plan.check_submission_settings(),
        code=code("check_submission.py"),
    message:
        "check: can the submission be written as it is asked for"
    script:
        "../scripts/check_submission.py"


rule check_job:
    input:
        **manifest_files,
        folds="<run>/folds.csv",
    output:
        checked="<run>/job.json",
    log:
        "<run>/logs/check_job.log",
    benchmark:
        "<run>/benchmarks/check_job.jsonl"
    priority: 100
    conda:
        "../envs/eightfold.yaml"
    resources:
        held=ALL_HELD,
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings=plan.check_job_settings(),
        code=code("check_job.py"),
    message:
        "check: does the metric fit the data, is every class learned, does the network take the sizes"
    script:
        "../scripts/check_job.py"


rule explore_data:
    input:
        **manifest_files,
    output:
        classes=report("<run>/explore/classes.svg", category="Data", caption="captions/classes.rst"),
        sizes=report("<run>/explore/sizes.svg", category="Data", caption="captions/sizes.rst"),
        sample=report("<run>/explore/sample.svg", category="Data", caption="captions/sample.rst"),
    log:
        "<run>/logs/explore_data.log",
    benchmark:
        "<run>/benchmarks/explore_data.jsonl"
    conda:
        "../envs/eightfold.yaml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=minutes(30),
    params:
        settings={"seed": plan.config["seed"]},
        code=code("explore_data.py"),
    message:
        "explore: images per class, their sizes, a sample"
    script:
        "../scripts/explore_data.py"


rule pixels:
    input:
        **manifest_files,
        parts=get_parts(f"{CACHE}/pixels-{{key}}/pixels", "{part}/pixels.json"),
        # All that the join reads is named: a temporary file that no job waits for is removed at once.
        parts_packed=get_parts(f"{CACHE}/pixels-{{key}}/pixels", "{part}/pixels.u8"),
        parts_index=get_parts(f"{CACHE}/pixels-{{key}}/pixels", "{part}/index.npy"),
    output:
        pixels="<cache>/pixels-{key}/pixels.u8",
        index="<cache>/pixels-{key}/index.npy",
        identity="<cache>/pixels-{key}/pixels.json",
    log:
        "<cache>/pixels-{key}/pixels.log",
    benchmark:
        "<cache>/pixels-{key}/pixels.jsonl"
    conda:
        "../envs/eightfold.yaml"
    threads: 16
    resources:
        mem_mb=memory_mb(4000),
        runtime=minutes(120),
    params:
        settings=lambda wildcards: {"short_side": plan.short_sides[wildcards.key]},
        code=code("pixels.py"),
    message:
        "pixels: decode and resize every image once"
    script:
        "../scripts/pixels.py"


rule duplicates:
    input:
        **manifest_files,
        thumbnails=ancient("<data>/thumbnails.npy"),
    output:
        pairs=report("<run>/duplicates.csv", category="Data"),
        record="<run>/duplicates.json",
    log:
        "<run>/logs/duplicates.log",
    benchmark:
        "<run>/benchmarks/duplicates.jsonl"
    priority: 90
    conda:
        "../envs/eightfold.yaml"
    resources:
        held=ALL_HELD,
        mem_mb=memory_mb(3000),
        runtime=minutes(60),
    params:
        settings={},
        code=code("duplicates.py"),
    message:
        "duplicates: images that are there twice, leaks, labels that contradict"
    script:
        "../scripts/duplicates.py"


use rule pixels as pixels_part with:
    input:
        **manifest_files,
    output:
        pixels=temp("<cache>/pixels-{key}/pixels.parts/{part}/pixels.u8"),
        index=temp("<cache>/pixels-{key}/pixels.parts/{part}/index.npy"),
        identity=temp("<cache>/pixels-{key}/pixels.parts/{part}/pixels.json"),
    log:
        "<cache>/pixels-{key}/pixels.parts/{part}.log",
    benchmark:
        "<cache>/pixels-{key}/pixels.parts/{part}.jsonl"
    message:
        "pixels: decode and resize part {wildcards.part}"
