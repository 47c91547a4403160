# Kaggle in and out, by its official client: envs/requirements-extra.txt. Nothing of `submission` needs it.


# Both rules run where Snakemake runs: nodes of a cluster seldom reach the network.
# `local`, as the demo's: beside images that no rule names.
rule kaggle_data:
    output:
        identity=local("<cache>/kaggle-{competition}/kaggle.json"),
    log:
        "<cache>/kaggle-{competition}/kaggle_data.log",
    benchmark:
        "<cache>/kaggle-{competition}/kaggle_data.jsonl"
    wildcard_constraints:
        competition="[a-z0-9][a-z0-9-]*",
    localrule: True
    conda:
        "../envs/extra.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(240),
    params:
        settings=lambda wildcards: {"competition": wildcards.competition},
        code=code("kaggle_data.py"),
    message:
        "kaggle: download and unpack {wildcards.competition}"
    script:
        "../scripts/kaggle_data.py"


rule submit:
    input:
        get_competition,
        get_test_images,
        **manifest_files,
        submission="<run>/submission.csv",
    output:
        submitted="<run>/submitted.json",
    log:
        "<run>/logs/submit.log",
    benchmark:
        "<run>/benchmarks/submit.jsonl"
    localrule: True
    conda:
        "../envs/extra.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(90),
    params:
        settings=plan.submit_settings(),
        code=code("submit.py"),
    message:
        "submit: send the submission to Kaggle and wait for its score"
    script:
        "../scripts/submit.py"
