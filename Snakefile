# Eightfold: labelled images in, a Kaggle submission out, by the eight steps of fast.ai 2018, lesson 2.
#
#   data      demo, manifest, check_submission, duplicates, folds, check_job, explore_data, pixels
#   train     weights, activations, find_lr, train, fit_linear      once per fold and stage of the recipe
#   predict   predict, choose, score, write_submission
#   trunks    fit_linear_of_trunk, compare_trunks        other networks beside the run's own
#   quick     quick_answer, write_quick_submission      the linear stage alone
#   review    review, timings, report
#
# Targets: submission (default), evaluate, quick, trunks, report, explore, lr_find, look, clean_cache.
from snakemake.utils import min_version

min_version("9.19")


# A file given by --configfile stands alone: nothing of the demo's config leaks into it.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/inputs.smk"


report: "rules/captions/workflow.rst"


include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/predict.smk"
include: "rules/quick.smk"
include: "rules/trunks.smk"
include: "rules/review.smk"
include: "rules/new.smk"
include: "rules/kaggle.smk"
include: "rules/solar.smk"


recall_results()


onstart:
    hold_folder()


onsuccess:
    if set(workflow.dag_settings.targets) == {"trunks"}:
        last_words(Path(f"{plan.run}/trunks.txt").read_text())
    elif set(workflow.dag_settings.targets) != {"look"}:
        last_words(closing_summary(plan.run, plan.predict_folder if plan.config["predict"]["images"] else None))


onerror:
    print("What is finished stays finished: fix the cause, if there is one, and run the same command again.")
    last_words(closing_failure([log] if isinstance(log, str) else log))


rule submission:
    default_target: True
    input:
        get_test_images,
        "<run>/submission.json",
        "<run>/submission.csv",
        get_gzipped("submission"),
        "<run>/metrics.json",
        "<run>/report.html",
        "<run>/timings.csv",
        plan.tracked,
    localrule: True


rule evaluate:
    input:
        "<run>/metrics.json",
        "<run>/report.html",
        "<run>/timings.csv",
        plan.tracked,
    localrule: True


rule quick:
    input:
        "<run>/metrics_quick.json",
        "<run>/report_quick.html",
        ["<run>/submission.json", "<run>/submission_quick.csv"] if plan.has_test else [],
        get_gzipped("submission_quick"),
    localrule: True


rule trunks:
    input:
        "<run>/trunks.html",
    localrule: True


# What all else is made from. After an edit of the code that reads raw data, or an upgrade, `make` asks for this first: where
# the same manifest and folds come out again, nothing below them is made again.
rule look:
    input:
        "<data>/manifest.json",
        "<run>/folds.json",
    localrule: True


rule explore:
    input:
        rules.explore_data.output,
    localrule: True


rule lr_find:
    input:
        collect("<run>/fold{fold}/{stage}/lr_find.svg", fold=plan.finder_folds, stage=plan.trained_stages),
    localrule: True
