"""Figures of adaptive sampling: their grids, and what they say of curves whose wells and differences are known."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from escapevelocity.errors import UserError
from escapevelocity.study.grid import cells
from escapevelocity.study.history import History, RunArrays
from escapevelocity.study.kinds import kind
from escapevelocity.study.papers.asr.arms import Arm, runs_of
from escapevelocity.study.papers.asr.compare import best_of
from escapevelocity.study.papers.asr.figures import (
    BROAD,
    CURRICULUM,
    CURRICULUM_FIGURE,
    DISTANCE,
    GRAVITY_WELL,
    HEADS_FIGURE,
)
from escapevelocity.study.papers.registry import figures_of, find_figure

STEPS = np.arange(1.0, 41.0)
RISING = np.linspace(0.2, 0.6, 40)
SEEDS = (1, 2, 3)
DEFAULTS = {
    "sampler": "adaptive", "self_regularisation": True, "init": "broad", "then": "broad", "switch_at": 0.5,
    "head": "softmax", "escort_p": 2.0, "controller_learning_rate": 0.01, "weight_std": None,
}  # fmt: skip


def run(name, offset=0.0, dip=0.0, **settings):
    """A curve that rises, shifted by `offset`, `dip` lower between steps 10 and 20; seeds lie 0.01 apart."""
    curve = RISING + offset
    curve[10:20] -= dip
    curves = np.stack([curve + 0.01 * seed for seed in SEEDS])
    columns = {f"{where}/recall_at_1": curves for where in ("test", "validation")}
    return RunArrays(name, DEFAULTS | settings, SEEDS, STEPS, columns)


def history(*runs):
    return History.from_arrays(list(runs))


@pytest.mark.parametrize("figure", figures_of("asr"), ids=lambda figure: figure.id)
@pytest.mark.parametrize("scale", ["small", "paper"])
def test_a_grid_holds_runs_that_can_be_made_and_at_paper_scale_five_seeds(figure, scale):
    study = figure.study("digits", scale)
    specs = [kind("asr").spec(cell.settings, study.seeds) for cell in cells(study)]
    assert len(set(specs)) == len(specs)
    assert all(spec.data.data == "digits" for spec in specs)
    assert len(study.seeds) == (5 if scale == "paper" else 3)


def test_figures_share_the_runs_that_are_the_same():
    def made(figure):
        study = figure.study("omniglot", "paper")
        return {tuple(sorted(cell.settings.items())) for cell in cells(study)}

    starts = made(find_figure("asr/starts"))
    assert len(starts) == 16
    assert len(starts & made(GRAVITY_WELL)) == 1  # narrow
    assert len(made(GRAVITY_WELL) & made(CURRICULUM_FIGURE)) == 2  # narrow and broad


def test_an_arm_finds_its_own_runs_by_what_it_sets_and_by_what_others_set():
    arms = (Arm("plain"), Arm("narrow", {"init": "narrow"}), Arm("wild", {"weight_std": 1.0}))
    found = history(run("a"), run("b", init="narrow"), run("c", weight_std=1.0), run("d", init="flat"))
    names = {arm.label: [one.name for one in runs_of(arm, arms, found).history.runs] for arm in arms}
    assert names == {"plain": ["a"], "narrow": ["b"], "wild": ["c"]}
    # Runs of another figure in the same store, which differ in what no arm here sets.
    alone = (Arm("plain"),)
    assert [one.name for one in runs_of(alone[0], alone, found).history.runs] == ["a"]


def test_scores_are_read_from_the_curve_by_hand():
    arms = (Arm("plain"),)
    runs = runs_of(arms[0], arms, history(run("a", dip=0.3)))
    final, whole, depth = (runs.scores(measure) for measure in ("final", "mean", "depth"))
    # The last tenth of 40 points is four: the mean of RISING[36:], that is its value at 37.5; seeds add 0.01 each.
    expected = 0.2 + 0.4 * 37.5 / 39
    # Histories hold float32.
    np.testing.assert_allclose(list(final.values()), [expected + 0.01 * seed for seed in SEEDS], rtol=1e-6)
    # The trapezoids of a straight line give its middle, 0.4; ten points of forty lie 0.3 lower, all of them inside.
    np.testing.assert_allclose(
        list(whole.values()), [0.4 - 0.3 * 10 / 39 + 0.01 * s for s in SEEDS], rtol=1e-6
    )
    # From the tenth point to the eleventh it rises by one step of the line and falls by 0.3.
    np.testing.assert_allclose(list(depth.values()), 0.3 - 0.4 / 39, rtol=1e-5)
    assert list(final) == list(SEEDS)


def test_the_well_is_confirmed_where_the_broad_start_falls_and_ends_above():
    well = history(run("n", init="narrow"), run("b", offset=0.1, dip=0.3))
    said = GRAVITY_WELL.measured(well, "digits")
    assert said[0].startswith("Confirmed: the broad start fell +0.290 [+0.290, +0.290] deeper")
    assert "ended +0.100 [+0.100, +0.100] above" in said[0]
    assert said[1].startswith("broad: 3 of 3 curves fell, 0.290 at most, from step 10")
    assert any(
        text.startswith("Not measured, for want of finished runs: narrow, policy weights") for text in said
    )
    assert (
        GRAVITY_WELL.answers(well, "digits") == said[:4]
    )  # Without the sentence for each arm, which the table has.


@pytest.mark.parametrize(
    ("offset", "dip", "verdict"),
    [
        (0.1, 0.0, "Partly confirmed"),
        (-0.1, 0.3, "Partly confirmed, partly the other way round"),
        (-0.1, 0.0, "Not confirmed"),
        (0.0, 0.0, "Cannot be told"),
    ],
)
def test_the_well_is_not_confirmed_without_a_fall_or_a_gain(offset, dip, verdict):
    runs = history(run("n", init="narrow"), run("b", offset=offset, dip=dip))
    assert GRAVITY_WELL.measured(runs, "digits")[0].startswith(f"{verdict}: ")


def test_what_a_bootstrap_of_the_range_alone_would_tell_is_left_open():
    """Three seeds ahead by 0.01, 0.05 and 0.09: their bootstrap is above 0, Student's interval is 0.05 ± 0.1."""
    ahead = run("c", sampler="curriculum", init="narrow")
    shifted = {name: curves + np.array([[0.01], [0.05], [0.09]]) for name, curves in ahead.columns.items()}
    runs = history(run("d", sampler="distance"), run("b"), ahead._replace(columns=shifted))
    assert CURRICULUM_FIGURE.measured(runs, "digits")[0].startswith(
        f"{CURRICULUM}: not told from {BROAD} at the end, +0.050 [-0.049, +0.149]"
    )
    found = CURRICULUM_FIGURE.found(runs)
    assert found[CURRICULUM].ahead_from(found[BROAD]) is None
    # 0.05 ± 4.30·0.04/√3; nothing is cut at 0 but what cannot be below.
    own, other = (found[label].scores("final") for label in (CURRICULUM, BROAD))
    expected = stats.ttest_rel(list(own.values()), list(other.values())).confidence_interval(0.95)
    interval = found[CURRICULUM].against(found[BROAD], "final").mean
    np.testing.assert_allclose((interval.low, interval.high), (expected.low, expected.high), rtol=1e-6)


def test_the_depth_of_one_well_in_three_seeds_is_not_told_from_none():
    curves = run("n", init="narrow", dip=0.3).columns
    fell = {name: np.stack([own[0], RISING, RISING]) for name, own in curves.items()}
    runs = history(run("n", init="narrow")._replace(columns=fell))
    narrow = GRAVITY_WELL.found(runs)["narrow"].interval("depth")
    assert narrow.estimate == pytest.approx(0.29 / 3, abs=1e-3)
    assert narrow.low == 0.0  # Below 0 by Student, where no depth can be.
    assert narrow.high == pytest.approx(0.097 + 4.303 * 0.29 / 3, abs=2e-3)  # s/√3 of (x, 0, 0) is x/3.


def test_a_fall_the_other_way_round_is_not_called_a_confirmation_alone():
    runs = history(run("n", init="narrow", dip=0.3), run("b", offset=0.1, init="broad"))
    said = GRAVITY_WELL.measured(runs, "digits")
    assert said[0].startswith("Partly confirmed, partly the other way round: the broad start fell -0.290")
    assert said[2].startswith("Broad less narrow at the first measurement: +0.100 [+0.100, +0.100]; ahead")


def test_an_arm_is_ahead_from_where_it_stays_ahead():
    runs = history(
        run("n", init="narrow"), run("b", offset=0.1, dip=0.3), run("c", offset=-0.1, weight_std=1.0)
    )
    found = GRAVITY_WELL.found(runs)
    broad, narrow = found["broad"], found["narrow"]
    # Above by 0.1 but for steps 11 to 20, where it is 0.2 below.
    assert broad.ahead_from(narrow) == 21.0
    assert narrow.ahead_from(broad) is None
    assert "ahead at every one from step 21 on" in GRAVITY_WELL.answers(runs, "digits")[2]
    assert found["broad, policy weights N(0, 1)"].ahead_from(narrow) is None


def test_depths_are_told_for_each_of_the_six_curves_with_what_counts_as_noise():
    runs = history(run("n", init="narrow"), run("b", dip=0.3, init="broad"))
    header, _, narrow, broad = GRAVITY_WELL.depths(runs)
    assert header.count("|") == narrow.count("|") == broad.count("|") == 8
    assert narrow.startswith("| narrow | 0 of 3 (0.000–0.000) |")
    assert broad.startswith("| broad | 3 of 3, 0.290 (0.000–0.000) |")


def test_heads_are_compared_at_the_same_rate_and_at_each_ones_best():
    runs = history(
        run("s1"),
        run("s2", offset=0.2, controller_learning_rate=0.03),
        run("e1", offset=0.1, head="escort"),
        run("e2", offset=0.05, head="escort", controller_learning_rate=0.03),
    )
    said = HEADS_FIGURE.measured(runs, "digits")[0]
    assert said.startswith("Behind softmax, escort p = 2")  # Its best is 0.1, softmax's 0.2.
    assert "+0.100 [+0.100, +0.100] at rate 0.01, -0.150 [-0.150, -0.150] at rate 0.03" in said
    assert "(escort p = 2, rate 0.01; softmax, rate 0.03; chosen by validation) -0.100" in said
    found = HEADS_FIGURE.found(runs)
    assert best_of(["softmax, rate 0.01", "softmax, rate 0.03"], found) == "softmax, rate 0.03"
    assert best_of(["softmax, rate 0.003"], found) == ""


def test_the_curriculum_is_paired_with_the_agent_and_with_distance_weighting():
    runs = history(
        run("d", sampler="distance"),
        run("b", offset=-0.1),
        run("c", offset=0.05, sampler="curriculum", init="narrow"),
    )
    said = CURRICULUM_FIGURE.measured(runs, "digits")
    assert said[0].startswith(f"{CURRICULUM}: ahead of {BROAD} at the end, +0.150 [+0.150, +0.150]")
    assert said[1].startswith(f"{BROAD}: behind {DISTANCE} at the end, -0.100 [-0.100, -0.100]")
    table = CURRICULUM_FIGURE.table(runs)
    assert len(table) == 2 + 3
    assert table[2].startswith("| distance-weighted | 3 |")
    assert table[3].endswith("| -0.100 [-0.100, -0.100] | -0.100 [-0.100, -0.100] |")


def test_starts_are_pooled_by_spread_and_by_mean():
    runs = history(
        run("n", init="narrow"),
        run("a", init="normal(0.5,0.05)"),
        run("b", init="normal(0.5,0.4)", dip=0.3),
        run("c", init="normal(1,0.4)", dip=0.3, offset=0.1),
        run("other", init="flat", dip=0.5),  # Not of the grid.
    )
    figure = find_figure("asr/starts")
    said = figure.measured(runs, "digits")
    assert said[0].startswith("6 of 9 curves fell below their best")
    # Levels are compared at the same values of the other number: both spreads are there at mean 0.5 alone.
    assert "at mean 0.5, mean over starts and seeds: 0.05: 0.000 [0.000, 0.000]; 0.4: 0.290" in said[1]
    assert said[2].startswith("Final gain over narrow by standard deviation of the start at mean 0.5, ")
    assert "0.05: 0.000 [0.000, 0.000]; 0.4: 0.000 [0.000, 0.000]" in said[2]
    assert "at standard deviation 0.4, mean over starts and seeds: 0.5: 0.290" in said[3]
    assert "0.5: 0.000 [0.000, 0.000]; 1: 0.100 [0.100, 0.100]" in said[4]
    assert said[5].startswith("Not measured, for want of finished runs: normal(0.3,0.4), normal(0.75,0.05)")
    assert [line.split(" | ")[0] for line in figure.table(runs)[2:]] == [
        "| narrow", "| normal(0.5,0.05)", "| normal(0.5,0.4)", "| normal(1,0.4)"
    ]  # fmt: skip


def test_starts_that_share_neither_mean_nor_spread_are_not_compared():
    runs = history(run("a", init="normal(0.5,0.05)"), run("b", init="normal(1,0.4)", dip=0.3))
    said = find_figure("asr/starts").measured(runs, "digits")
    assert said[1] == (
        "By standard deviation of the start: nothing to compare, no mean is there at every standard deviation."
    )
    assert said[2] == (
        "By mean of the start: nothing to compare, no standard deviation is there at every mean."
    )


def test_a_run_that_has_not_ended_is_drawn_and_not_judged():
    whole = history(run("n", init="narrow"), run("b", offset=0.1, dip=0.3), run("g", init="normal(0.5,0.4)"))
    half = dataclasses.replace(whole.runs[0], state="failed")
    assert half.settings["init"] == "broad"
    cut = History((half, *whole.runs[1:]), whole.rows)
    said = GRAVITY_WELL.measured(cut, "digits")
    assert said[0].startswith("Not measured, for want of finished runs: broad, narrow, policy weights")
    assert not any(text.startswith(("broad", "Confirmed")) for text in said)
    assert len(GRAVITY_WELL.table(cut)) == 2 + 1
    labels = [text.get_text() for text in GRAVITY_WELL.draw(cut, "digits").legends[0].get_texts()]
    assert labels == ["narrow", "broad"]
    late = History(tuple(dataclasses.replace(one, state="running") for one in whole.runs), whole.rows)
    assert find_figure("asr/starts").measured(late, "digits") == []


def test_heads_of_which_none_has_two_measurements_yet_are_all_drawn():
    heads = find_figure("asr/heads")
    whole = history(run("s", init="broad"), run("e", init="broad", head="escort"))
    begun = [
        one._replace(
            steps=one.steps[:1], columns={name: curves[:, :1] for name, curves in one.columns.items()}
        )
        for one in (run("s", init="broad"), run("e", init="broad", head="escort"))
    ]
    drawn = [heads.draw(found, "digits") for found in (whole, history(*begun))]
    assert all(figure.axes for figure in drawn)


def test_pictures_are_drawn_and_without_runs_the_figure_says_so():
    runs = history(run("n", init="narrow"), run("b", dip=0.3), run("g", init="normal(0.5,0.4)"))
    assert len(GRAVITY_WELL.draw(runs, "digits").axes) == 8  # Six panels in two rows of four places.
    assert find_figure("asr/starts").draw(runs, "digits").axes
    nothing = history(run("f", init="flat"))
    for figure in (GRAVITY_WELL, find_figure("asr/starts")):
        with pytest.raises(UserError, match=r"no run of digits"):
            figure.draw(nothing, "digits")
