# What a finished run is good for: new pictures, other programs, other runs to compare it with.


rule predict_new:
    input:
        new_images_needed,
        manifest_identity="<data>/manifest.json",
        weights_identity="<weights>/weights.json",
        trunks=ancient(each_fold(final_trunk(0))),
        trunk_identities=each_fold(final_trunk(1)),
        heads=ancient(each_fold(final_head(0))),
        head_identities=each_fold(final_head(1)),
        snapshots=ancient(each_fold(final_snapshots)),
    output:
        predictions="<new>/predictions.csv",
        unreadable="<new>/unreadable.csv",
        sheet=report("<new>/sheet.svg", category="New pictures"),
    log:
        "<new>/predict_new.log",
    benchmark:
        "<new>/predict_new.jsonl"
    conda:
        "../envs/eightfold.yaml"
    threads: 16
    resources:
        gpu=gpus,
        mem_mb=memory_mb(6000),
        runtime=minutes(120),
    params:
        settings=lambda wildcards: plan.predict_new_settings(),
        code=code("predict_new.py"),
    message:
        "predict: the new pictures of predict.images"
    script:
        "../scripts/predict_new.py"
