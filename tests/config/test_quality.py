"""What a quality, or a number of hours, buys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightfold.config import quality
from eightfold.config.quality import FEW, QUALITIES, SOME, Budget, Job, best_within, choose, ladder, read_budget
from eightfold.config.resolve import resolve
from eightfold.core.files import UserError

JOBS = st.builds(
    Job,
    labelled=st.integers(2, 10**7),
    classes=st.integers(2, 5000),
    short_side=st.none() | st.integers(1, 5000),
    preset=st.sampled_from(["side_on", "top_down", "basic"]),
    gpu=st.booleans(),
    split_given=st.booleans(),
)
COSTS = st.lists(st.floats(0.1, 1e7), min_size=10, max_size=10)  # seconds of the rungs, in no order


def costs_of(job: Job, costs: list[float]):
    return dict(zip([rung.name for rung in ladder(job)], costs, strict=False))


@given(JOBS)
def test_every_rung_is_a_recipe_that_holds(job):
    rungs = ladder(job)
    assert len({rung.name for rung in rungs}) == len(rungs) and set(QUALITIES) <= {rung.name for rung in rungs}
    assert (rungs[0].name, rungs[-1].name) == ("quick", "best")
    for rung in rungs:
        config = {
            "data": {"source": "demo"},
            "model": {"arch": rung.arch},
            "recipe": rung.stages,
            "split": {"use": rung.folds},
            "tta": {"views": rung.views},
        }
        resolve(config)


@given(JOBS)
def test_a_later_rung_leaves_nothing_out_that_an_earlier_one_trains(job):
    """Fewer stages, folds and views never stand above more."""
    for below, above in zip(ladder(job), ladder(job)[1:], strict=False):
        assert {stage["name"] for stage in below.stages} <= {stage["name"] for stage in above.stages}
        assert len(below.folds) <= len(above.folds) and below.views <= above.views


@given(JOBS, COSTS, st.floats(0.001, 1e4), st.floats(1, 100))
def test_more_hours_never_give_a_worse_rung_and_what_is_chosen_fits(job, costs, hours, times):
    names = [rung.name for rung in ladder(job)]
    of = costs_of(job, costs)
    little, much = (choose(job, Budget(hours=h), lambda rung: of[rung.name]) for h in (hours, hours * times))
    assert names.index(little.recipe.name) <= names.index(much.recipe.name)
    for choice, seconds in ((little, hours * 3600), (much, hours * times * 3600)):
        assert choice.seconds == of[choice.recipe.name]
        assert choice.fits == (choice.seconds <= seconds)
        if not choice.fits:
            assert choice.recipe.name == names[0]
        if choice.next_rung:
            name, cost = choice.next_rung
            assert names.index(name) == names.index(choice.recipe.name) + 1 and cost > seconds


def test_rungs_above_one_that_does_not_fit_are_not_asked_for():
    """Each costs a timing of its network."""
    job, asked = Job(5000, 2, 400, "side_on", False), []

    def seconds_of(recipe):
        asked.append(recipe.name)
        return len(asked) * 10.0

    assert best_within(ladder(job), seconds_of, 25.0).recipe.name == asked[1] and len(asked) == 3


@given(JOBS)
def test_few_images_have_no_stage_of_all_layers_and_many_have_the_course(job):
    of = {rung.name: rung for rung in ladder(job)}
    trained = [stage for rung in of.values() for stage in rung.stages if stage["train"] == "all"]
    assert bool(trained) == (job.labelled >= FEW and job.labelled >= 10 * job.classes)
    assert {stage["cycles"] for stage in trained} <= ({2} if job.labelled < SOME else {3})
    assert [stage["train"] for stage in of["quick"].stages] == ["linear", "head"] and of["quick"].views == 0
    sizes = {stage["size"] for stage in of["best"].stages}
    assert sizes == set(quality.sizes_for(job.short_side))
    assert of["best"].folds == ([0] if job.split_given else [0, 1, 2, 3, 4])


def test_sizes_follow_from_the_images():
    assert quality.sizes_for(400) == [224, 299] and quality.sizes_for(None) == [224, 299]
    assert quality.sizes_for(28) == [32] and quality.sizes_for(64) == [64]
    assert quality.sizes_for(128)[-1] <= 160 and len(quality.sizes_for(128)) == 2


@pytest.mark.parametrize("word", QUALITIES)
def test_a_quality_is_taken_at_its_word(word):
    assert read_budget(word) == Budget(word) and read_budget() == Budget("good")
    assert choose(Job(300, 2, 400, "basic", True), read_budget(word), lambda rung: 1e9).recipe.name == word


@pytest.mark.parametrize(("text", "hours"), [("2", 2.0), ("0.5", 0.5), ("1e2", 100.0)])
def test_hours_may_be_fractions(text, hours):
    assert read_budget(hours=text) == Budget(hours=hours)


@pytest.mark.parametrize(
    ("quality", "hours"),
    [("good", "1"), ("Good", ""), ("better", ""), ("", "0"), ("", "-2"), ("", "inf"), ("", "a day")],
)
def test_what_cannot_be_meant_is_refused(quality, hours):
    with pytest.raises(UserError, match=r"QUALITY=|HOURS=") as error:
        read_budget(quality, hours)
    assert "\n" not in str(error.value)
