"""What the figures say of histories whose answer is known."""

import numpy as np
import pytest
from nrnt_synthetic import POINTS, history_of

from escapevelocity.study.history import History, RunArrays
from escapevelocity.study.papers.nrnt import judge
from escapevelocity.study.papers.nrnt.judge import Check, interval_text, judgement, paired
from escapevelocity.study.papers.nrnt.members import Group, Member, Track
from escapevelocity.study.papers.nrnt.read import Span, at_end
from escapevelocity.study.papers.registry import figures_of, find_figure

FIGURES = [figure for figure in figures_of("nrnt") if figure.tasks]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(judge, "REPETITIONS", 200)  # what is told here is clear-cut


def _numbers(*values) -> dict:
    return {Member(10, seed): float(value) for seed, value in enumerate(values)}


def _said(figure, effect, scale="small", task=None):
    task = task or figure.tasks[-1]
    return figure.measured(history_of(figure.study(task, scale), effect), task)


def _judgement(said: list[str]) -> str:
    (line,) = (one for one in said if one.startswith("Judgement"))
    return line.split(": ")[1].split(".")[0]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.id)
def test_a_history_with_the_effect_confirms_the_claim(figure):
    study = figure.study(figure.tasks[-1], "small")
    history = history_of(study, True, seeds=study.seeds[:3])  # three pairs are enough, and quick
    assert _judgement(figure.measured(history, figure.tasks[-1])) == "confirmed"


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 12, 25, 32, 34, 35, 36, 41])
def test_a_history_without_the_effect_does_not_confirm_the_claim(number):
    said = _said(find_figure(f"nrnt/figure-{number}"), effect=False)
    assert _judgement(said) in ("not confirmed", "cannot be told at this scale")


@pytest.mark.parametrize("number", [1, 6, 21, 33, 35])
def test_no_effect_in_all_of_the_papers_runs_is_not_confirmed(number):
    assert (
        _judgement(_said(find_figure(f"nrnt/figure-{number}"), effect=False, scale="paper"))
        == "not confirmed"
    )


@pytest.mark.parametrize("number", [6, 35])
def test_no_effect_at_small_scale_cannot_be_told(number):
    said = _said(find_figure(f"nrnt/figure-{number}"), effect=False)
    assert _judgement(said) == "cannot be told at this scale"


def test_a_reliable_dial_speaks_against_the_claim_of_figure_34():
    # The made-up ranks without effect fall with every step to a larger ε.
    assert _judgement(_said(find_figure("nrnt/figure-34"), effect=False)) == "not confirmed"


def test_the_small_scale_says_how_it_differs_from_the_paper():
    note = _said(find_figure("nrnt/figure-1"), True, task="Hopper-v4-relu")[0]
    assert "learning rate 0.003 instead of 0.0003" in note
    assert "300,000 steps instead of 5,000,000" in note
    assert "not the paper's experiment" in note
    assert "15 of the 15 planned runs are there." in note


def test_missing_runs_are_counted():
    figure = find_figure("nrnt/figure-6")
    history = history_of(figure.study("Hopper-v4", "paper"), True)
    some = History(history.runs[:4], history.rows)
    said = figure.measured(some, "Hopper-v4")
    assert "20 of the 90 planned runs are there." in said[0]
    assert any(line.startswith("No run is there of") for line in said)
    assert "No run is there yet" in figure.measured(History((), history.rows), "Hopper-v4")[0]


def test_missing_columns_are_said_to_be_not_measured():
    figure = find_figure("nrnt/figure-1")
    study = figure.study("Hopper-v4", "small")
    settings = {**study.base, "epochs": 10, "remedy": "none"}
    only = RunArrays("run", settings, study.seeds, [1.0, 3e5], {"perf/return_mean": np.ones((5, 2))})
    said = figure.measured(History.from_arrays([only]), "Hopper-v4")
    assert any(line.startswith("Actor pre-activation norm") and "not measured" in line for line in said)
    assert any("Actor feature rank not measured" in line for line in said)
    assert _judgement(said) == "cannot be told at this scale"


def test_epochs_without_capacity_losses_are_named_beside_those_that_have_them():
    figure = find_figure("nrnt/figure-1")
    study = figure.study("Hopper-v4", "small")
    runs = []
    for epochs in (10, 15, 20):
        capacity = np.ones((5, 2)) if epochs != 10 else np.full((5, 2), np.nan)
        columns = {"perf/return_mean": np.ones((5, 2)), "capacity/actor": capacity}
        settings = {**study.base, "epochs": epochs, "remedy": "none"}
        runs.append(RunArrays(f"run-{epochs}", settings, study.seeds, [1.0, 3e5], columns))
    history = History.from_arrays(runs)
    said = "Capacity losses of 10 epochs are not measured; `ev capacity RUN` adds them to a run."
    assert said in figure.measured(history, "Hopper-v4")
    caption = " ".join(text.get_text().replace("\n", " ") for text in figure.draw(history, "Hopper-v4").texts)
    assert said in caption
    whole = History.from_arrays(runs[1:])
    assert not any("Capacity losses" in line for line in figure.measured(whole, "Hopper-v4"))


def _group(steps, values, **settings) -> Group:
    run = RunArrays("run", {"epochs": 10, **settings}, tuple(range(len(values))), steps, {"x": values})
    history = History.from_arrays([run])
    return Group("a", history.runs, history)


def test_the_windows_of_a_straight_line_are_where_they_should_be():
    steps = np.arange(1.0, 1001.0)
    span = Span(1000.0, 1000.0)
    track = Track(steps, steps)
    assert span.first(track) == pytest.approx(25.5)  # mean of 1 … 50
    assert span.middle(track) == pytest.approx(500.5)  # mean of 476 … 525
    assert span.last(track) == pytest.approx(975.0)  # mean of 950 … 1000: a window is closed at both ends
    assert span.whole(track) == pytest.approx(500.5)


def test_a_rank_that_has_fallen_to_nothing_has_fallen_furthest():
    steps = np.arange(1.0, 1001.0)
    span = Span(1000.0, 1000.0)
    rank = np.where(steps <= 500, 60.0, 0.0)  # Features that are all zero have rank 0.
    assert span.of_best(Track(steps, rank)) == pytest.approx(np.log(1 / 60))
    assert span.of_best(Track(steps, np.where(steps <= 500, 60.0, 30.0))) == pytest.approx(np.log(1 / 2))
    assert span.of_best(Track(steps, np.zeros(1000))) == 0.0  # Nothing there to lose.
    assert np.isnan(span.of_best(Track(steps, np.full(1000, np.nan))))


def test_a_frozen_member_is_read_where_it_ended():
    steps = np.arange(1.0, 1001.0)
    frozen = np.where(steps <= 400, steps, np.nan)
    assert Span(1000.0, 1000.0).last(Track(steps, frozen)) == pytest.approx(390.0)  # mean of 380 … 400


def test_a_value_that_is_undefined_at_the_end_is_read_before_and_the_sentence_says_so():
    steps = np.arange(1.0, 1001.0)
    early = np.where(steps <= 600, steps, np.nan)
    nothing = np.full(1000, np.nan)
    run = RunArrays("run", {"epochs": 10}, (1, 2, 3), steps, {"perf/return_mean": [steps, early, nothing]})
    history = History.from_arrays([run])
    one = Group("none", history.runs, history)
    (said,) = at_end([one], ["return"])
    assert said.startswith("none, 3 runs, last 5 % (IQM over seeds): ")
    assert said.endswith(
        "Return 780 [585, 975] (of 2 runs, 1 of them read earlier, where it was last defined)."
    )
    # A member that was frozen there has its end there.
    frozen = Track(steps[:600], steps[:600], end=600.0)
    assert not Span(1000.0, 1000.0).is_earlier(frozen)
    assert Span(1000.0, 1000.0).last(frozen) == Span(1000.0, 1000.0).last(Track(steps, early))


def test_an_excess_ratio_is_measured_in_five_percent_of_the_members_own_length():
    steps = np.arange(1.0, 1001.0)
    ratios = {"trust/ratio_above_mean": [steps], "trust/ratio_below_mean": [np.ones(1000)]}
    whole = RunArrays("whole", {"epochs": 10}, (1,), steps, ratios)
    short = RunArrays(
        "short", {"epochs": 10}, (2,), steps[:500], {n: [v[0][:500]] for n, v in ratios.items()}
    )
    few = {n: [np.where(steps <= 6, v[0], np.nan)] for n, v in ratios.items()}
    history = History.from_arrays([whole, short, RunArrays("few", {"epochs": 10}, (3,), steps, few)])
    # Of 500 steps the last 5 % are 475 … 500. Ten points are asked of a run of 1,000, so six are too few.
    found = Span(1000.0, 1000.0).excess(Group("none", history.runs, history), continuous=False)
    assert found == pytest.approx({Member(10, 1): 975.0, Member(10, 2): 487.5})


def test_members_that_stop_early_bring_the_common_end_forward():
    runs = [
        RunArrays(name, {"epochs": epochs}, (1,), np.arange(1.0, end + 1), {"x": np.ones((1, end))})
        for name, epochs, end in (("long", 10, 100), ("short", 20, 60))
    ]
    history = History.from_arrays(runs)
    groups = [Group(run.name, (run,), history) for run in history.runs]
    assert Span.of(groups) == Span(100.0, 60.0)


def test_a_curve_is_mean_and_range_over_members_without_points_where_nobody_has_a_value():
    curve = _group([1.0, 2.0, 3.0], np.array([[1.0, np.nan, 3.0], [3.0, np.nan, 5.0]])).curve("x")
    np.testing.assert_array_equal(curve.steps, [1.0, 3.0])
    # Two points of two: α of a run with 3 points, 1 − 0.95^(1000/3) ≈ 1, so smoothing hardly shows.
    np.testing.assert_allclose(curve.mean, [2.0, 4.0], rtol=1e-3)
    np.testing.assert_allclose((curve.low[0], curve.high[0]), (1.0, 3.0))


def test_one_seed_alone_can_be_read():
    one = _group([1.0, 2.0], np.array([[1.0, 1.0], [5.0, 5.0]])).only(1)
    assert one.members == (Member(10, 1),)
    assert one.readings("x", Span(2.0, 2.0).last) == {Member(10, 1): 5.0}


def test_differences_are_paired_by_epochs_and_seed():
    first = {Member(10, 1): 5.0, Member(20, 1): 7.0, Member(10, 2): np.e, Member(10, 3): np.nan}
    second = {Member(10, 1): 4.0, Member(10, 2): 1.0, Member(10, 3): 1.0, Member(30, 1): 0.0}
    assert paired(first, second) == pytest.approx({Member(10, 1): 1.0, Member(10, 2): np.e - 1})
    assert paired(first, second, log=True) == pytest.approx(
        {Member(10, 1): np.log(5 / 4), Member(10, 2): 1.0}
    )


def test_zeros_have_the_logarithm_of_a_least_value():
    # 1e−12 over 1: a collapsed seed counts, as the strongest effect there is.
    one = Member(1, 1)
    assert paired({one: 0.0}, {one: 1.0}, log=True) == pytest.approx({one: -12 * np.log(10)})


@pytest.mark.parametrize(
    ("differences", "complete", "outcome"),
    [
        ((2.0, 3.0, 4.0), False, "confirmed"),
        ((1.0, 2.0, 3.0), False, "cannot be told at this scale"),  # 2 ± 2.5, by Student's t
        ((1.0, 2.0, 3.0), True, "not confirmed"),
        ((1.0, 2.0), True, "cannot be told at this scale"),  # two pairs are too few
        ((), True, "cannot be told at this scale"),
        ((-2.0, -3.0, -4.0), False, "not confirmed"),
        ((-1.0, 0.0, 1.0), False, "cannot be told at this scale"),
        ((-1.0, 0.0, 1.0), True, "not confirmed"),
    ],
)
def test_the_rule_of_a_single_difference(differences, complete, outcome):
    check = Check("a less b", _numbers(*differences), "above")
    assert check.outcome(complete) == outcome
    turned = Check("b less a", _numbers(*(-x for x in differences)), "below")
    assert turned.outcome(complete) == outcome


def test_a_claim_holds_when_all_its_parts_do():
    good, bad, open_ = (
        Check("a", _numbers(*values), "above") for values in ((1.0,) * 3, (-1.0,) * 3, (-1.0, 0.0, 1.0))
    )
    assert judgement([good, good], False) == "confirmed"
    assert judgement([good, open_], False) == "cannot be told at this scale"
    assert judgement([good, open_, bad], False) == "not confirmed"
    assert judgement([], True) == "cannot be told at this scale"


def test_a_check_is_written_with_its_claim_interval_and_outcome():
    check = Check("Norm, a over b", _numbers(*[np.log(2.0)] * 3), "above", as_factor=True)
    assert (
        check.sentence(False) == "Norm, a over b (claimed: above 1): factor 2 [2, 2] over 3 pairs; confirmed."
    )
    assert interval_text(_numbers(*[-1500.0] * 5)) == "−1,500 [−1,500, −1,500]"


def test_figure_6_reports_what_went_into_the_history():
    said = _said(find_figure("nrnt/figure-6"), True, "paper", task="Hopper-v4")
    # PFO is healthy throughout: norm 20 times the seeds' levels 1 … 1.08, whose interquartile mean is 1.04.
    (line,) = (one for one in said if one.startswith("PFO (last layer), 15 runs"))
    assert "Actor pre-activation norm 20.8 [" in line
    assert "Excess ratio 1.73 [1.73, 1.73]" in line  # 1.3 / 0.75
    # Without remedy the norm grows within the run by exp(3·0.3), exp(3·0.7) and exp(3) at 10, 15 and 20 epochs.
    (norm,) = (
        one for one in said if one.startswith("Actor pre-activation norm, PFO (last layer) over no remedy")
    )
    # From 0.95 of the run on there are four of its 60 points, 57/60 … 60/60: one factor per number of epochs.
    time = np.linspace(0, 1, POINTS)[-4:]
    factors = [np.mean(np.exp(3 * s * time)) for s in (0.3, 0.7, 1.0)]
    assert f"factor {np.exp(-np.mean(np.log(factors))):.3g} [" in norm
