"""The escort paper's figures: what the verdicts say of findings made up by hand, and one figure from end to end."""

import dataclasses
import re

import numpy as np
import pytest

from escapevelocity.lab.experiments.damping import Damping
from escapevelocity.lab.experiments.experiment import Findings, Summary, silently
from escapevelocity.study.papers import sgw_verdicts
from escapevelocity.study.papers.figure import LabFigure
from escapevelocity.study.papers.kept_findings import find_or_run, findings_path, read_findings
from escapevelocity.study.papers.registry import figures_of, find_figure
from escapevelocity.study.reproduce import Wanted, draw_figure
from escapevelocity.study.store import open_store


def findings(answers=(), **tables):
    """Findings whose main table is `main`."""
    named = {"" if name == "main" else name: columns for name, columns in tables.items()}
    return Findings(
        {name: {k: np.array(v) for k, v in t.items()} for name, t in named.items()}, Summary([], []), answers
    )


def starts(softmax, escort):
    """Arrivals from the uniform policy and two wrong corners."""
    return {
        "method": ["SPG"] * 3 + ["EPG(2)"] * 3,
        "kind": ["uniform", "corner r = 0.8, π₁ = 0.01", "corner r = 0.1, π₁ = 0.01"] * 2,
        "arrival_steps": [*softmax, *escort],
        "smallest_coefficient": [0.3, 0.01, 0.02, 1.0, 0.2, 0.1],
    }


@pytest.mark.parametrize(
    ("escort", "said"),
    [
        ([10, 40, 20], "Confirmed: of 2 starts in wrong corners, .*: EPG\\(2\\) 5 … 10 times"),
        ([10, 400, 20], "Partly confirmed.*EPG\\(2\\) 1 … 5 times"),
        ([10, 800, np.inf], "Not confirmed.*EPG\\(2\\) 0 … 0.5 times"),
    ],
)
def test_paths_are_judged_by_how_much_sooner_an_escort_arrives(escort, said):
    """SPG needs 400 and 100 updates."""
    (sentence,) = sgw_verdicts.paths(findings(starts=starts([20, 400, 100], escort)))
    assert re.match(said, sentence), sentence


def test_plateaus_are_measured_in_units_of_the_good_start():
    """Sub-optimality 3/t; the worst corner costs SPG 400/20 = 20 times the uniform start, the escort 40/10 = 4."""
    steps = np.array([0, 1, 10, 100, 1000, 10_000])
    path = {
        "method": ["SPG"] * 6,
        "kind": ["uniform"] * 6,
        "step": steps,
        "suboptimality": 3 / np.maximum(steps, 1),
    }
    (sentence,) = sgw_verdicts.plateaus(findings(main=path, starts=starts([20, 400, 100], [10, 40, 20])))
    assert sentence.startswith("Confirmed: over the last decade of steps")
    assert "falls as t^-1.000" in sentence
    assert sentence.endswith("SPG 20, EPG(2) 4.")


@pytest.mark.parametrize(("slope", "verdict"), [(-0.49, "Partly confirmed"), (-0.97, "Confirmed")])
def test_escapes_are_judged_by_their_slopes(slope, verdict):
    """SPG agrees to 0.05 with its law −1 or does not; EPG(4) does with −0.5; NPG has none and is twice its law."""
    table = {
        "method": ["SPG", "EPG(4)", "NPG"],
        "best_prob": [1e-3] * 3,
        "steps": [2520, 271, 48],
        "censored": [False] * 3,
        "predicted_steps": [2500.0, 271.0, 24.0],
        "predicted_slope": [-1.0, -0.5, 0.0],
        "fitted_slope": [slope, -0.503, -0.08],
    }
    first, second, third = sgw_verdicts.escapes(findings(main=table))
    assert (
        first
        == f"{verdict}: slopes of log T against log π₁: SPG {slope:.3f} (law -1.000), EPG(4) -0.503 (law -0.500)."
    )
    assert second.endswith(": 1.01 … 1.01.")
    assert third.endswith("2 … 2.")


@pytest.mark.parametrize(("norm", "verdict"), [(0.2, "Confirmed"), (0.01, "Partly confirmed")])
def test_coefficients_are_judged_by_the_inequality_and_by_their_smallest(norm, verdict):
    points = {"coefficient": [0.5, 0.1], "suboptimality": [0.2, 0.2], "gradient_norm": [norm, 0.2]}
    (sentence,) = sgw_verdicts.coefficients(findings(main=points, starts=starts([1] * 3, [1] * 3)))
    assert sentence.startswith(f"{verdict}: the inequality holds at {2 if norm > 0.1 else 1} of 2")
    assert sentence.endswith("SPG 0.01, EPG(2) 0.1.")


def test_rooms_are_judged_at_each_methods_own_best_rate():
    table = {
        "method": ["SPG", "SPG", "EPG(2)", "EPG(4)"],
        "iteration": [0] * 4,
        "is_best": [False, True, True, True],
        "solved_at": [9.0, 365.0, np.nan, 235.0],
    }
    (sentence,) = sgw_verdicts.rooms(findings(main=table))
    assert sentence.startswith("Partly confirmed")
    assert sentence.endswith("SPG 365, EPG(2) never, EPG(4) 235.")


def test_damping_is_judged_by_exponents_and_decay_rates():
    fits = {
        "loss": ["SCE", "ECE(2)", "ECE(1.5)"],
        "exponent": [-1.0, np.nan, np.nan],
        "fitted_exponent": [-1.001, np.nan, np.nan],
        "decay": [np.nan, 0.04, np.nan],
        "fitted_decay": [np.nan, 0.02, np.nan],
    }
    (sentence,) = sgw_verdicts.damping(findings(fits=fits))
    assert sentence == (
        "Partly confirmed: KL falls as SCE t^-1.001 (law t^-1), ECE(2) e^(−0.02·t) (law e^(−0.04·t))."
    )


def test_classification_counts_intervals_that_are_apart():
    """Reward: the best escort is above in the first setting and overlaps in the second. Loss: it is worse in both."""
    methods = ["SPG", "EPG(2)", "EPG(4)", "SCE", "ECE(4)"]
    best = {
        "start": ["uniform"] * 5 + ["wrong"] * 5,
        "optimiser": ["SGD"] * 10,
        "method": methods * 2,
        "objective": ["reward", "reward", "reward", "likelihood", "likelihood"] * 2,
        "reward": [0.8, 0.7, 0.9, 0, 0, 0.8, 0.7, 0.81, 0, 0],
        "loss": [0, 0, 0, 0.1, 0.5, 0, 0, 0, 0.1, 0.6],
    }
    for name, width in (("reward", 0.02), ("loss", 0.05)):
        best[f"{name}_low"] = [value - width for value in best[name]]
        best[f"{name}_high"] = [value + width for value in best[name]]
    rewards, losses = sgw_verdicts.classification(findings(best=best))
    assert rewards.startswith("Partly confirmed for EPG against SPG: of 2 pairs")
    assert rewards.endswith("reward in 1, the worse in 0, and the 95 % intervals overlap in 1.")
    assert losses.startswith("Not confirmed for ECE against SCE")
    assert losses.endswith("loss in 0, the worse in 2, and the 95 % intervals overlap in 0.")


@pytest.mark.parametrize(
    ("rates", "verdict"), [([0.0, 3.0, 30.0], "Confirmed"), ([3, 0.3, 30], "Partly confirmed")]
)
def test_exponents_are_judged_by_escape_times_and_stable_rates(rates, verdict):
    wells = {"p": [1.0, 2.0, 1.0, 2.0], "best_prob": [0.1, 0.1, 0.01, 0.01], "steps": [1, 5, 1, 9]}
    stable = {"p": [1.0, 2.0, np.inf], "start": ["uniform"] * 3, "rate": rates}
    (sentence,) = sgw_verdicts.exponents(findings(main=wells, stable=stable))
    assert sentence.startswith(f"{verdict}: escape times grow with p in 2 of 2 wells")
    assert ("p = 1: none, " in sentence) == (rates[0] == 0)
    assert sentence.endswith("softmax: 30.")


@pytest.mark.parametrize("figure", figures_of("sgw"), ids=lambda figure: figure.id)
def test_both_scales_are_settings_of_the_experiment_and_it_has_the_pictures_asked_for(figure):
    assert type(figure.settings("small")) is type(figure.settings("paper"))
    assert figure.settings("paper") == type(figure.settings("paper"))()
    assert figure.study("", "small") is None


@pytest.fixture
def quick():
    figure = find_figure("sgw/figure-6")
    assert isinstance(figure, LabFigure)
    return dataclasses.replace(figure, small={"escort_powers": (4.0,), "num_steps": 100, "num_points": 50})


def test_an_experiment_runs_once_and_is_drawn_again_from_what_is_kept(quick, tmp_path, monkeypatch):
    store, wanted = open_store(tmp_path / "store", create=True), Wanted(quick, "", "small")
    drawn = draw_figure(wanted, {}, store, tmp_path / "out", silently)
    assert drawn.problem == ""
    monkeypatch.setattr(Damping, "run", None)
    again = draw_figure(wanted, {}, store, tmp_path / "again", None)
    assert again.said == drawn.said
    names = ["figure-6-fits.parquet", "figure-6.md", "figure-6.parquet", "figure-6.pdf", "figure-6.png"]
    for folder in ("out", "again"):
        assert sorted(path.name for path in (tmp_path / folder / "sgw").iterdir()) == names
    page, page_again = (
        (tmp_path / folder / "sgw" / "figure-6.md").read_text() for folder in ("out", "again")
    )
    # The last line names the commit, which may be another one by now where people work on the checkout.
    assert page.rpartition("Drawn with")[0] == page_again.rpartition("Drawn with")[0]
    assert f"**What was claimed.** {quick.claim}" in page
    assert f"**What we measured.** {drawn.said[0]}" in page
    assert "    num_steps = 100" in page
    assert "    ev reproduce sgw/figure-6 --scale small" in page


def test_findings_that_are_kept_are_those_that_were_found(tmp_path):
    class Made(Damping):
        def run(self, track=silently):
            tables = {"": {"x": np.array([1.5, np.nan]), "who": np.array(["a", "b"]), "n": np.array([1, 2])}}
            return Findings(tables, Summary(["h"], [["a", np.arange(4)[3], np.float64("nan")]]), ["said"])

    kept = find_or_run(tmp_path, "damping", Made())
    np.testing.assert_array_equal(kept.tables[""]["x"], [1.5, np.nan])
    assert list(kept.tables[""]["who"]) == ["a", "b"]
    assert np.asarray(kept.tables[""]["n"]).dtype == np.int64
    assert kept.summary.headings == ["h"]
    assert repr(kept.summary.rows) == "[['a', 3, nan]]"
    assert kept.answers == ["said"]
    assert findings_path(tmp_path, "damping", Made()) != findings_path(
        tmp_path, "damping", Made(num_steps=500)
    )


def test_damaged_findings_are_told(tmp_path):
    (tmp_path / "findings.json").write_text("{")
    with pytest.raises(ValueError, match=r"damaged .*remove the folder and run again"):
        read_findings(tmp_path)
