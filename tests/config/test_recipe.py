"""What a recipe leaves open: where each stage's views begin, and the least steps of a head."""

from hypothesis import given
from hypothesis import strategies as st

from eightfold.config.plan import Plan
from eightfold.config.resolve import resolve
from eightfold.config.schedules import stage_epochs


def recipe(*stages: dict) -> list[dict]:
    named = [{"name": f"s{i}", "size": 64, "train": "head", **stage} for i, stage in enumerate(stages)]
    return resolve({"recipe": named})["recipe"]


def test_each_augmented_stage_of_the_course_goes_on_after_the_views_of_those_before():
    assert [stage["first_view"] for stage in resolve({})["recipe"]] == [None, 1, 1, 4, 11, 14]


def test_head_stages_of_one_trunk_and_size_share_their_views_and_so_their_files():
    stages = [{"cycles": 2}, {"cycles": 3}, {"train": "all", "cycles": 2}, {"cycles": 2}, {"cycles": 2}, {"size": 96}]
    found = recipe(*stages)
    assert [stage["first_view"] for stage in found] == [1, 1, 4, 6, 6, 8]
    plan = Plan(resolve({"recipe": found}))
    assert plan.activations("s3", "0") == plan.activations("s4", "0")


def test_a_view_that_is_given_stays_and_the_next_stage_goes_on_after_it():
    found = recipe(
        {"first_view": 7, "cycles": 2}, {"train": "all"}, {"train": "all", "augment": False}, {"train": "all"}
    )
    assert [stage["first_view"] for stage in found] == [7, 9, 1, 10]


stages = st.fixed_dictionaries(
    {
        "train": st.sampled_from(["head", "all"]),
        "augment": st.booleans(),
        "size": st.sampled_from([64, 96]),
        "cycles": st.integers(1, 3),
    }
)


@given(st.lists(stages, min_size=1, max_size=6))
def test_no_stage_of_all_layers_shows_a_view_that_an_earlier_stage_showed(given_stages):
    found = recipe(*given_stages)
    seen: set[int] = set()
    for stage in found:
        views = (
            set(range(stage["first_view"], stage["first_view"] + stage_epochs(stage))) if stage["augment"] else set()
        )
        if stage["train"] == "all":
            assert not views & seen
        seen |= views
    assert seen == set(range(1, len(seen) + 1))  # none is left out either
    assert resolve({"recipe": found})["recipe"] == found


def test_a_head_has_a_floor_of_steps_and_a_stage_of_all_layers_has_none():
    found = recipe({}, {"min_steps": 0}, {"min_steps": 7}, {"train": "all"})
    assert [stage["min_steps"] for stage in found] == [100, 0, 7, 0]
