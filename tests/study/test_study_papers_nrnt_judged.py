"""The paper's claims are confirmed only by what tests them. Made-up histories whose answer is known by hand."""

import numpy as np
import pytest
from nrnt_synthetic import POINTS, cut, history_of
from scipy.stats import ttest_1samp

from escapevelocity.study.bootstrap import bootstrap_interval
from escapevelocity.study.correlation import RANKS
from escapevelocity.study.history import History
from escapevelocity.study.papers.nrnt import judge
from escapevelocity.study.papers.nrnt.judge import Check, interval_text, mean_interval
from escapevelocity.study.papers.nrnt.members import Member
from escapevelocity.study.papers.registry import find_figure
from escapevelocity.study.statistics import iqm

TASK = "Hopper-v4-relu"
OPEN = "cannot be told at this scale"
TIME = np.linspace(0, 1, POINTS)
RANK, RANK_AFTER = "health/actor/feature_rank_pca", "health/actor/feature_rank_pca_after"
BELOW, RETURN = "trust/ratio_below_mean", "perf/return_mean"


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(judge, "REPETITIONS", 200)  # what is told here is clear-cut


def _history(number: int, change=None, effect=True, scale="paper"):
    return history_of(find_figure(f"nrnt/figure-{number}").study(TASK, scale), effect, change=change)


def _measured(number: int, history) -> list[str]:
    return find_figure(f"nrnt/figure-{number}").measured(history, TASK)


def _outcome(said: list[str]) -> str:
    return said[-1].split(": ")[1].split(".")[0]


def _line(said: list[str], start: str) -> str:
    (line,) = (one for one in said if one.startswith(start))
    return line


def _caption(number: int, history) -> str:
    drawn = find_figure(f"nrnt/figure-{number}").draw(history, TASK)
    return " ".join(text.get_text().replace("\n", " ") for text in drawn.texts)


def _is_beta2(settings) -> bool:
    return settings["adam_beta2"] == 0.9


# --- confirmations that five seeds are too few for


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("claimed", ["above", "below"])
@pytest.mark.parametrize(
    "differences",
    [[5.0, 1.0, 0.2, 0.3, 4.0], [4.0, 5.0, 6.0, 5.0, 4.0], [5.0, -4.0, 1.0, -2.0, 4.0]],
    ids=["a bootstrap alone lies above", "both lie above", "none does"],
)
def test_what_only_a_bootstrap_of_five_seeds_tells_is_called_a_hint(differences, claimed, complete):
    check = Check("x", {Member(10, seed): value for seed, value in enumerate(differences)}, claimed)
    low, high = ttest_1samp(differences, 0).confidence_interval(0.95)
    undecided = "not confirmed" if complete else OPEN  # The outcome of an interval that holds the level.
    is_hint = bool(low <= 0 <= high) and check.outcome(complete) != undecided
    assert is_hint == (
        differences[0] == 5.0 and differences[1] == 1.0 and (claimed == "above" or not complete)
    )
    said = check.sentences(complete)
    assert said[0] == check.sentence(complete)
    expected = f"A hint only: by Student's interval that is {np.mean(differences):.3g} ["
    assert [line.startswith(expected) for line in said[1:]] == [True] * is_hint


# --- runs that have not come to their end


@pytest.mark.parametrize(("state", "fault"), [("running", None), ("failed", "non-finite loss")])
def test_a_young_or_dead_arm_leaves_the_comparison_of_two_others_as_it_was(state, fault):
    # PFO is better in the first 10 % and worse afterwards: read at the young arm's last step it would be confirmed.
    def change(settings):
        good = settings["remedy"] == "pfo"
        return {RETURN: np.where(TIME < 0.1, 1200 if good else 1000, 800 if good else 2000)}

    said = _measured(6, cut(_history(6, change), _is_beta2, 0.05, state, fault))
    line = _line(said, "Return, PFO (last")
    assert "−1,200 [−1,200, −1,200] over 15 pairs of 5 seeds; not confirmed" in line
    assert _outcome(said) == "not confirmed"


@pytest.mark.parametrize("number", [1, 4, 21, 33, 35, 36])
def test_nothing_is_judged_before_the_runs_compared_have_ended(number):
    figure = find_figure(f"nrnt/figure-{number}")
    task = figure.tasks[-1]
    young = cut(history_of(figure.study(task, "paper"), True), lambda settings: True, 0.9, "running")
    said = figure.measured(young, task)
    assert _outcome(said) == OPEN
    assert "cannot be told: runs have not ended." in said[1]
    assert "0 of them have ended; nothing is judged from the others yet" in said[0]
    assert "all are read at step" not in said[0]


def test_a_comparison_names_the_step_at_which_unfinished_runs_are_read():
    young = cut(_history(6), lambda settings: settings["remedy"] == "pfo", 0.5, "running")
    line = _line(_measured(6, young), "Return, PFO (last layer) less no remedy")
    assert "5 % before step 2,500,000 of 5,000,000" in line


def test_epochs_that_have_ended_are_compared_while_others_still_train():
    young = cut(_history(6), lambda settings: settings["epochs"] == 15, 0.05, "running")
    line = _line(_measured(6, young), "Return, PFO (last layer) less no remedy, last 5 %")
    assert "over 10 pairs of 5 seeds; confirmed." in line


def test_a_population_that_became_non_finite_is_read_where_it_ended_and_has_ended():
    dead = cut(_history(1), lambda settings: settings["epochs"] == 20, 0.6, "failed", "non-finite loss")
    said = _measured(1, dead)
    assert "15 of them" not in said[0]
    assert (
        "5 of 15 ended early because their numbers became non-finite (epochs 20, seed 25 at step 3,000,000; "
        in said[0]
    )
    # The made-up rank at 20 epochs is 60·(1 − t)/level; the last points up to 0.6 of the run are 34/60 … 36/60.
    rank = np.mean(60 * (1 - TIME[34:36])) / np.mean(1 + 0.02 * np.arange(5))
    assert f"Actor feature rank {rank:.2g}" in _line(said, "20 epochs, 5 runs, last 5 %")
    assert _outcome(said) == "confirmed"


# --- claims that were not tested


def test_ranks_and_returns_that_rise_do_not_confirm_that_they_fall():
    def change(settings):
        top = {10: 1.1, 15: 1.05, 20: 1.0}[settings["epochs"]]
        return {RANK_AFTER: 17 + 33 * top * TIME, RETURN: 200 + 1200 * top * TIME}

    said = _measured(1, _history(1, change))
    assert _line(said, "Actor feature rank within a run").endswith("not confirmed.")
    assert _line(said, "Return within a run of 20 epochs").endswith("not confirmed.")
    assert _line(said, "Actor feature rank, 20 epochs less 10").endswith("; confirmed.")
    assert _outcome(said) == "not confirmed"


def test_a_few_more_dead_neurons_are_no_collapse():
    def change(settings):
        return {"health/actor/dead_neurons": settings["epochs"] / 10 * np.ones(POINTS)}

    said = _measured(2, _history(2, change))
    assert _outcome(said) == OPEN
    why = "nothing collapsed (more than half of the units end dead in 0 of 5 runs of 20 epochs)"
    assert all(why in line for line in said[1:4])


def test_low_ratios_at_high_rank_speak_against_figure_3():
    # ε = 0.2: 0.45 lies 0.35 = 1.75 ε below 0.8.
    def change(settings):
        low = TIME > 0.9 if settings["epochs"] == 20 else TIME > 2
        return {RANK_AFTER: np.where(low, 9.0, 50.0), BELOW: np.where(low, 0.44, 0.45)}

    said = _measured(3, _history(3, change))
    assert "−0.01 [−0.01, −0.01] over 5 runs; confirmed." in said[1]
    assert "(claimed: below 1): mean 1.75 [1.75, 1.75] over 15 runs of 5 seeds; not confirmed." in said[2]
    assert _outcome(said) == "not confirmed"


def test_an_excess_ratio_that_pfo_does_not_lower_speaks_against_figure_6():
    def change(settings):
        return {"trust/ratio_above_mean": 9.0 if settings["remedy"] == "pfo" else 1.3}

    said = _measured(6, _history(6, change))
    assert _line(said, "Excess ratio, PFO").endswith("not confirmed.")
    assert _outcome(said) == "not confirmed"


@pytest.mark.parametrize("measured", [True, False])
def test_clip_ranges_without_effect_or_without_data_confirm_nothing(measured):
    rank = 40.0 if measured else np.nan
    wobble = np.array([[-1.0], [1.0], [0.0], [2.0], [-2.0]])
    history = _history(
        34, lambda settings: {RANK_AFTER: rank + wobble * np.cos(9 * settings["clip_epsilon"])}
    )
    said = _measured(34, history)
    assert _outcome(said) == OPEN
    steps = [line for line in said if line.startswith("Actor feature rank, ε")]
    assert len(steps) == 3
    assert not any("claimed" in line or "confirmed" in line for line in steps)


def test_seeds_whose_variance_collapsed_to_zero_are_not_left_out():
    def change(settings):
        return (
            {"policy/variance": np.array([[0.0]] * 4 + [[4.0]])}
            if settings["epochs"] == 20
            else {"policy/variance": 3.0}
        )

    line = _line(_measured(2, _history(2, change)), "Policy variance, 20 epochs over 10")
    assert "over 5 pairs; confirmed." in line
    assert "what is less than 1e−12 counts as that" in line


def test_trends_in_time_are_not_taken_for_the_condition_of_figure_4():
    # Ratio falls as the norm rises, but no rank is below ten and no neuron dead.
    drift = {RANK: 50.0 - 10 * TIME, "health/actor/dead_neurons": 0.0, BELOW: 0.7 - 0.2 * TIME}
    said = _measured(4, _history(4, lambda settings: drift))
    assert _outcome(said) == OPEN
    assert "no run has both windows with an actor's rank below 10 and others" in said[1]
    assert "feature rank (PCA) 1 [1, 1]" in _line(said, "Not judged")


def test_ranks_that_hardly_agree_do_not_tell_the_same_story():
    # Of every four points three are out of order in the same way: τ between the two waves is far below 0.5.
    waves = {
        f"health/actor/{name}_after": 30 + np.sin(2 * np.pi * (TIME + 0.15 * k))
        for k, name in enumerate(RANKS)
    }
    figure = find_figure("nrnt/figure-40")
    said = figure.measured(history_of(figure.study(TASK, "paper"), True, change=lambda settings: waves), TASK)
    assert sum(line.startswith("Actor rank") for line in said) == 10  # 5·4/2 pairs
    assert _outcome(said) == "not confirmed"


def test_a_rank_that_is_constant_in_all_runs_leaves_its_pairs_open():
    figure = find_figure("nrnt/figure-40")
    still = {"health/actor/numerical_rank_after": 64.0}
    history = history_of(figure.study(TASK, "paper"), True, change=lambda settings: still)
    said = figure.measured(history, TASK)
    assert _outcome(said) == OPEN
    assert sum("one of them is constant in every run" in line for line in said) == 4
    assert "the paper's code leaves it out altogether" in _caption(
        40, History(history.runs[:1], history.rows)
    )


# --- remedies at different epochs, and what a seed counts


def test_remedies_are_shown_at_epochs_that_all_of_them_have():
    whole = _history(6, lambda settings: {RETURN: 3000.0 - 100 * settings["epochs"]})
    few = History(
        tuple(run for run in whole.runs if run.settings["remedy"] == "none" and not _is_beta2(run.settings)
              and (run.settings["trunk"] == "separate" or run.settings["epochs"] == 20)),
        whole.rows,
    )  # fmt: skip
    said = _measured(6, few)
    assert "Shown at 20 epochs alone: not every remedy has ended at 10, 15." in said
    assert "Return 1,000 [1,000, 1,000]" in _line(said, "no remedy, 5 runs")
    assert "Return mean difference 0 [0, 0] over 5 pairs" in _line(
        said, "shared trunk less no remedy, last 5 %"
    )
    caption = _caption(6, few)
    assert "Shown at 20 epochs alone" in caption
    assert "trunk_updates = once, there twice" in caption


def test_runs_of_one_seed_count_as_one():
    seeds = {Member(10, seed): value for seed, value in enumerate([-1.0, 0.5, 2.0, 4.0, 5.5])}
    thrice = {Member(epochs, seed): value for (_, seed), value in seeds.items() for epochs in (10, 15, 20)}
    assert mean_interval(thrice) == mean_interval(seeds)
    assert "over 15 pairs of 5 seeds" in Check("a less b", thrice, "above").sentence(False)
    # 15 pairs of two seeds are two samples.
    two = {Member(epochs, seed): 1.0 for epochs in range(8) for seed in (1, 2)}
    assert Check("a less b", two, "above").outcome(True) == OPEN


@pytest.mark.parametrize("values", [[-1277.0, -711.0, -50.0], [-3.0, -2.9, -3.1, -3.2]])
def test_means_of_three_and_four_seeds_have_students_intervals(values):
    seeds = {Member(8, seed): value for seed, value in enumerate(values)}
    expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(
        mean_interval(seeds), (np.mean(values), expected.low, expected.high), rtol=1e-12
    )


def test_three_seeds_that_lie_on_one_side_as_chance_would_have_it_decide_nothing():
    def outcome(values):
        return Check("a less b", {Member(8, seed): x for seed, x in enumerate(values)}, "below").outcome(
            False
        )

    assert outcome([-1277.0, -711.0, -50.0]) == OPEN  # p = 0.2; a bootstrap interval ends at −50
    assert outcome([-3.0, -2.9, -3.1]) == "confirmed"
    assert outcome([3.0, 2.9, 3.1]) == "not confirmed"
    assert mean_interval({Member(8, seed): 2.0 for seed in range(3)}) == (2.0, 2.0, 2.0)


def test_intervals_are_those_that_the_bootstrap_gives_by_default(monkeypatch):
    monkeypatch.undo()
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    interval = bootstrap_interval(np.array(values), iqm, seed=0)
    shown = interval_text({Member(10, seed): value for seed, value in enumerate(values)})
    assert shown == f"{interval.estimate:.3g} [{interval.low:.3g}, {interval.high:.3g}]"


def test_the_caption_of_figure_35_says_how_our_shared_trunk_is_updated():
    assert "trunk_updates = once, there twice" in _caption(35, _history(35, scale="small"))
