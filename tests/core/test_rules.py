"""A rule, its script, its log, its benchmark and its settings have one name."""

import re

import pytest

from eightfold.core.provenance import SCRIPTS

RULES = {
    match[2]: match[0]
    for path in sorted((SCRIPTS.parent / "rules").glob("*.smk"))
    for match in re.finditer(
        r"^(use rule \w+ as|rule) (\w+)\b.*?(?=^\S|\Z)", path.read_text(), re.DOTALL | re.MULTILINE
    )
}
OF_ANOTHER = {  # rules of one script whose files lie beside one another, and reports that share what they show
    "activations_tuned": "activations",
    "activations_part": "activations",
    "activations_tuned_part": "activations",
    "pixels_part": "pixels",
    "fit_linear_of_trunk": "fit_linear",
    "predict_part": "predict",
    "model_card": "report",
}


@pytest.mark.parametrize("name", RULES)
def test_what_a_rule_makes_does_not_depend_on_the_config(name):
    """Snakemake turns all triggers off for a finished job with an output that it has no record of."""
    output = re.search(r"^    output:\n(.*?)(?=^    \w)", RULES[name], re.DOTALL | re.MULTILINE)
    assert not output or not re.search(r"\bif\b|plan\.config", output[1])


def test_all_rules_with_a_script_are_seen():
    scripts = [name for name, text in RULES.items() if "    script:" in text]
    assert len(scripts) > 30 and "write_quick_submission" in RULES


@pytest.mark.parametrize("name", [name for name, text in RULES.items() if "    log:" in text])
def test_a_rule_its_script_its_log_its_benchmark_and_its_settings_have_one_name(name):
    text, shared = RULES[name], OF_ANOTHER.get(name, name)
    for section in ("log", "benchmark"):
        if path := re.search(rf'    {section}:\n\s+"([^"]+)"', text):
            assert name in path[1] or shared in path[1], path[1]
    if script := re.search(r'    script:\n\s+"\.\./scripts/(\w+)\.py"', text):
        assert script[1] == name and f'code("{name}.py")' in text
    for settings in re.findall(r"plan\.(\w+)_settings", text):
        assert settings == shared


def test_all_that_trains_waits_for_the_checks():
    in_train = re.findall(
        r"^(?:use rule \w+ as|rule) (\w+)", (SCRIPTS.parent / "rules/train.smk").read_text(), re.MULTILINE
    )
    heavy = [name for name in in_train if "    resources:" in RULES[name] and name != "weights"]
    assert {"activations", "find_lr", "train", "fit_linear"} <= set(heavy)
    assert all("held=1," in RULES[name] for name in heavy)
    for name in ("check_submission", "duplicates", "folds", "check_job"):
        assert "held=ALL_HELD," in RULES[name] and "    priority:" in RULES[name]
