"""The escort paper's figures: what the verdicts say of findings made up by hand, and one figure from end to end."""

import dataclasses
import re

import numpy as np
import pytest

from escapevelocity.lab.experiments.damping import Damping
from escapevelocity.lab.experiments.experiment import Findings, Summary, silently
from escapevelocity.study.papers import sgw_verdicts
from escapevelocity.study.papers.figure import LabFigure
from escapevelocity.study.papers.registry import figures_of, find_figure
from escapevelocity.study.reproduce import Wanted, draw_figure
from escapevelocity.study.store import open_store


def findings(answers=(), **tables):
    """Findings whose main table is `main`."""
    named = {"" if name == "main" else name: columns for name, columns in tables.items()}
    return Findings(
        {name: {k: np.array(v) for k, v in t.items()} for name, t in named.items()}, Summary([], []), answers
    )


def starts(softmax, escort, escape=((200, 2000), (10, 40)), smallest=((0.01, 0.001), (0.2, 0.0632))):
    """Arrivals from the uniform policy and from a wrong corner at two depths; of SPG, then of EPG(2)."""
    return {
        "method": ["SPG"] * 3 + ["EPG(2)"] * 3,
        "kind": ["uniform", "corner r = 0.8, π₁ = 0.01", "corner r = 0.8, π₁ = 0.001"] * 2,
        "start": [0, 1, 2] * 2,
        "arrival_steps": [*softmax, *escort],
        "escape_steps": [np.nan, *escape[0], np.nan, *escape[1]],
        "smallest_coefficient": [0.3, *smallest[0], 1.0, *smallest[1]],
    }


STEPS = np.unique(np.geomspace(1, 100_000, 41).round())


def spg_paths(wrong=(0.3, 0.3, 0.3), arrivals=(20, 400, 3000), power=1.0):
    """SPG's paths from three starts: a wrong action's probability rises from 0.3 to `wrong`, then falls to 0; once
    arrived the sub-optimality is (0.01 t)^−power of the time since."""
    tables = []
    for start, (peak, arrival) in enumerate(zip(wrong, arrivals, strict=True)):
        since = np.maximum(STEPS - arrival, 1)
        table = {
            "method": np.full(STEPS.size, "SPG"),
            "start": np.full(STEPS.size, start),
            "step": STEPS,
            "suboptimality": (0.01 * since) ** -power,
            "prob_0": np.linspace(0.7, 1, STEPS.size),
            "prob_1": np.array([0.3, peak, *[0.0] * (STEPS.size - 2)]),
        }
        tables.append(table)
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


@pytest.mark.parametrize(
    ("escort", "peak", "said"),
    [
        ([10, 40, 20], 0.5, "Confirmed: from 3 of 3 starts .* up to 0.5; of 2 .*: EPG\\(2\\) 5 … 10 times"),
        ([10, 400, 20], 0.5, "Partly confirmed.*EPG\\(2\\) 1 … 5 times"),
        ([10, 40, 20], 0.3, "Partly confirmed: from 0 of 3 starts SPG first raises"),
        ([10, 800, np.inf], 0.3, "Not confirmed.*EPG\\(2\\) 0 … 0.5 times"),
    ],
)
def test_paths_are_judged_by_the_way_to_corners_and_by_how_much_sooner_an_escort_arrives(escort, peak, said):
    """SPG needs 400 and 100 updates."""
    tables = {"main": spg_paths([peak] * 3), "starts": starts([20, 400, 100], escort)}
    (sentence,) = sgw_verdicts.paths(findings(**tables))
    assert re.match(said, sentence), sentence


@pytest.mark.parametrize(
    ("escape", "arrivals", "power", "verdict"),
    [
        (((200, 2000), (10, 40)), (20, 400, 3000), 1.0, "Confirmed"),
        (((200, 2000), (10, 2000)), (20, 400, 3000), 1.0, "Partly confirmed"),  # the escort waits as long
        (((200, 1000), (10, 40)), (20, 400, 3000), 1.0, "Partly confirmed"),  # grows as π₁^−0.7
        (((200, 2000), (10, 40)), (20, 400, 3000), 0.9, "Partly confirmed"),
        (((200, 2000), (10, 40)), (20, 400, np.inf), 1.0, "Partly confirmed"),  # one start never arrives
    ],
)
def test_plateaus_are_judged_from_every_start_and_by_their_growth(escape, arrivals, power, verdict):
    paths = spg_paths(arrivals=(20, 400, 3000), power=power)
    table = starts(arrivals, [10, 40, 20], escape)
    (sentence,) = sgw_verdicts.plateaus(findings(main=paths, starts=table))
    assert sentence.startswith(f"{verdict}: from 3 starts SPG's sub-optimality falls as t^"), sentence
    if verdict == "Confirmed":
        assert "t^-1 over" in sentence
        assert "grows as π₁^-1;" in sentence
        assert sentence.endswith("SPG 200 … 2e+03, EPG(2) 10 … 40.")


ESCAPES = {
    "SPG": (np.nan, -1.0, [254, 2520, 25034], [250.0, 2500.0, 25000.0]),
    "EPG(1.5)": (1.5, 0.0, [5, 7, 8], [4.0, 5.7, 6.5]),
    "EPG(2)": (2.0, 0.0, [13, 25, 37], [12.0, 23.6, 35.1]),
    "EPG(4)": (4.0, -0.5, [90, 271, 945], [70.0, 286.0, 970.0]),
    "NPG": (np.nan, 0.0, [12, 24, 48], [12.0, 23.6, 24.0]),
}
FITTED = {"SPG": -0.97, "EPG(1.5)": -0.03, "EPG(2)": -0.13, "EPG(4)": -0.503, "NPG": -0.3}


@pytest.mark.parametrize(
    ("method", "steps", "fitted"),
    [
        ("none", None, None),
        ("SPG", None, -0.49),
        ("SPG", [254, 2490, 25034], -0.97),  # below the bound 2,500
        ("EPG(4)", None, -0.44),
        ("EPG(1.5)", None, -0.06),  # grows on, as a power
        ("EPG(2)", [13, 38, 118], -0.13),  # grows as a power, not as a logarithm
    ],
)
def test_every_part_of_the_escape_laws_is_judged(method, steps, fitted):
    """NPG has none of these laws: a slope that is off counts for nothing."""
    rows = []
    for name, (p, slope, own, law) in ESCAPES.items():
        for i in range(3):
            time = steps[i] if name == method and steps else own[i]
            slope_found = fitted if name == method and fitted else FITTED[name]
            rows.append((name, p, 10.0 ** -(i + 2), time, False, law[i], slope, slope_found))
    names = [
        "method",
        "p",
        "best_prob",
        "steps",
        "censored",
        "predicted_steps",
        "predicted_slope",
        "fitted_slope",
    ]
    first, second = sgw_verdicts.escapes(
        findings(main=dict(zip(names, zip(*rows, strict=True), strict=True)))
    )
    verdict = "Confirmed" if method == "none" else "Partly confirmed"
    assert first.startswith(f"{verdict}: slopes of log T against log π₁: SPG "), first
    assert "NPG" not in first
    assert second.startswith("Deepest escape over the law, for the 3 methods")
    if method == "none":
        assert second.endswith(" 2.")
        assert "EPG(4) -0.503 (law -0.500); T departs from a straight line" in first
        assert first.endswith("EPG(2) 0.0%; SPG's escape time over 1/(2·η·Δ·π₁): 1 … 1.02.")


@pytest.mark.parametrize(
    ("norm", "smallest", "verdict"),
    [
        (0.2, ((0.01, 0.001), (0.2, 0.0632)), "Confirmed"),
        (0.01, ((0.01, 0.001), (0.2, 0.0632)), "Partly confirmed"),
        (0.2, ((0.01, 0.001), (0.2, 0.019)), "Partly confirmed"),  # the escort's vanishes as fast
    ],
)
def test_coefficients_are_judged_by_the_inequality_and_by_how_they_vanish(norm, smallest, verdict):
    points = {"coefficient": [0.5, 0.1], "suboptimality": [0.2, 0.2], "gradient_norm": [norm, 0.2]}
    table = starts([1] * 3, [1] * 3, smallest=smallest)
    (sentence,) = sgw_verdicts.coefficients(findings(main=points, starts=table))
    assert sentence.startswith(f"{verdict}: the inequality holds at {2 if norm > 0.1 else 1} of 2")
    assert "falls as: SPG π₁^1, EPG(2) π₁^" in sentence


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
    ("uniform", "anywhere", "last", "verdict"),
    [
        ([0.0, 3.0, 30.0], [0.0, 3.0, 30.0], 99, "Confirmed"),
        ([3, 0.3, 30], [0.0, 3.0, 30.0], 99, "Partly confirmed"),
        ([0.0, 3.0, 30.0], [0.0, 3.0, 0.0], 99, "Partly confirmed"),  # softmax settles from nowhere else
        ([0.0, 3.0, 30.0], [0.0, 3.0, 30.0], 50, "Partly confirmed"),  # far from softmax at the largest p
    ],
)
def test_exponents_are_judged_by_escapes_stable_rates_of_both_starts_and_the_limit(
    uniform, anywhere, last, verdict
):
    p = [1.0, 2.0, np.inf]
    wells = {"p": p * 2, "best_prob": [0.1] * 3 + [0.01] * 3, "steps": [1, 99, 100, 1, last, 100]}
    stable = {"p": p * 2, "start": ["uniform"] * 3 + ["anywhere"] * 3, "rate": [*uniform, *anywhere]}
    (sentence,) = sgw_verdicts.exponents(findings(main=wells, stable=stable))
    assert sentence.startswith(f"{verdict}: escape times grow with p in 2 of 2 wells; at p = 2 they are")
    assert ("anywhere, grows with p: p = 1: none, " in sentence) == (anywhere[2] > 0)
    assert sentence.endswith("softmax: none." if anywhere[2] == 0 else "softmax: 30.")


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
