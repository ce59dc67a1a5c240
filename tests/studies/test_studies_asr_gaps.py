"""Counterfactual branches and the agent's clock: against the run itself, and numbers made by hand."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import beta
from studies.asr.__main__ import GAPS
from studies.asr.clock import AGENTS, ESCAPED, Escapes, gap_at_decisions, predicted_escape, simulated_escapes
from studies.asr.gaps import (
    CANDIDATES,
    HOLD,
    LENGTH,
    forced,
    measure_gaps,
    metrics_of,
    policies_of,
    rewards_of,
    thirds,
)
from studies.asr.gaps_figure import draw
from studies.asr.gaps_page import clock_section, escapes_text, gaps_of, needed_gap, section

from escapevelocity.health import accumulated_gap_needed
from escapevelocity.lab import accumulated_gap_escape_time
from escapevelocity.metric_learning.config import ControllerConfig, SamplerConfig
from escapevelocity.metric_learning.presets import preset_spec
from escapevelocity.metric_learning.training import train
from escapevelocity.runs import open_run


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A short run on the digits with one checkpoint before its end, and its branches."""
    folder = tmp_path_factory.mktemp("gaps")
    spec = preset_spec("digits", seeds=(1, 2))
    controller = dataclasses.replace(spec.controller, every=1)
    learner = dataclasses.replace(spec.learner, batch_size=20, per_class=4)
    spec = dataclasses.replace(spec, steps=20, controller=controller, learner=learner, test_every=20)
    run = open_run(train(spec, out=folder).path)
    measure_gaps(run, spec, folder / "gaps.json", "digits", lambda text: None, length=2)
    return run, spec, json.loads((folder / "gaps.json").read_text())["digits"]


def test_holding_repeats_what_the_run_itself_did_next(measured):
    run, _, entry = measured
    points, metrics = metrics_of(entry)
    assert points.tolist() == [0, 10]
    assert metrics.shape == (2, len(CANDIDATES), 2, 3)
    records = run.records()
    for index, seed in enumerate((1, 2)):
        own = {int(b): float(m) for b, m, s in zip(*(records[c].to_pylist() for c in ("batch", "asr/metric", "seed")), strict=True) if s == seed}  # fmt: skip # noqa: E501
        # The masses of period 10 had been decided when the branch began; only later ones differ. Kept to 6 digits.
        assert metrics[1, HOLD, index, 0] == pytest.approx(own[9], abs=1e-6)
        assert metrics[1, HOLD, index, 1] == pytest.approx(own[10], abs=1e-6)
        assert metrics[0, HOLD, index, 1] == pytest.approx(own[0], abs=1e-6)
    assert np.isnan(metrics[0, :, :, 0]).all()  # Nothing is measured before the first decision.
    assert np.isfinite(metrics[1]).all()
    assert not np.array_equal(metrics[1, 0], metrics[1, 2])


def test_the_policy_of_a_fresh_agent_is_uniform_and_later_ones_are_probabilities(measured):
    run, spec, _ = measured
    found = policies_of(run, spec)
    assert list(found) == ["0", "10", "20"]
    assert found["0"] == [[round(1 / 3, 6)] * 3] * 2
    later = np.array([found["10"], found["20"]])
    assert ((later > 0) & (later < 1)).all()
    assert not np.array_equal(later[0], later[1])


def test_a_raise_multiplies_its_third_once_for_every_decision_taken():
    masses = np.full(9, 2.0, np.float32)
    np.testing.assert_allclose(forced(masses, 1, 0, 1.25), [2, 2, 2, 2.5, 2.5, 2.5, 2, 2, 2])
    np.testing.assert_allclose(forced(masses, 2, 2, 1.25)[6:], 2 * 1.25**3)
    np.testing.assert_array_equal(forced(masses, HOLD, 5, 1.25), masses)
    for bins in (2, 3, 29, 100):
        covered = np.concatenate([np.arange(bins)[third] for third in thirds(bins)])
        np.testing.assert_array_equal(covered, np.arange(bins))


def test_rewards_are_means_over_the_decisions_of_a_branch():
    metrics = np.array([np.nan, 0.5, 0.6, 0.4, 0.4])
    found = rewards_of(metrics)
    assert found["sign"] == pytest.approx(0.0)  # Up, down, none; the first has no metric before it.
    assert found["change"] == pytest.approx(-0.1 / 3)


def test_the_clock_is_that_of_the_lab():
    gaps = np.concatenate([np.zeros(100), np.full(5000, 0.5)])
    needed = float(accumulated_gap_needed(1e-3, rate=0.4))
    assert predicted_escape(gaps, needed) == accumulated_gap_escape_time(gaps, [1e-3], rate=0.4)[0]
    assert predicted_escape(np.full(10, 0.1), 5.0) == np.inf
    np.testing.assert_allclose(
        gap_at_decisions(np.array([0, 10]), np.array([0.0, 1.0]), 3), [0.0, 0.1, 0.2], atol=1e-12
    )
    np.testing.assert_array_equal(gap_at_decisions(np.array([5]), np.array([0.3]), 2), [0.3, 0.3])


def test_an_agent_learns_what_pays_and_unlearns_what_costs():
    config, sampler = ControllerConfig(), SamplerConfig(bins=6)
    pays, costs = (
        simulated_escapes(config, sampler, np.full(150, gap), third=0, agents=16) for gap in (1.0, -1.0)
    )
    assert pays.probs.shape == (16, 150)
    # At the largest gap the mean policy of 16 agents must lie on the side that pays, whatever the noise.
    assert pays.probs[:, -1].mean() > 1 / 3 > costs.probs[:, -1].mean()
    assert pays.share(150) > costs.share(150)
    again = simulated_escapes(config, sampler, np.full(150, 1.0), third=0, agents=16)
    np.testing.assert_array_equal(again.probs, pays.probs)
    first = pays.probs[0] > ESCAPED
    assert pays.decisions[0] == (first.argmax() + 1 if first.any() else np.inf)


def test_medians_and_shares_count_those_that_never_escape():
    escapes = Escapes(np.array([10.0, 20.0, np.inf, np.inf, np.inf]), np.zeros((5, 1)))
    assert escapes.median == np.inf
    assert escapes.share(15) == 0.2


def test_an_agent_that_was_beyond_a_half_between_two_checkpoints_was_not_seen_there():
    probs = np.full((4, 20), 0.3)
    probs[0, 4] = 0.9  # at decision 5
    probs[1, 9] = 0.9  # at decision 10
    escapes = Escapes(np.array([5.0, 10.0, np.inf, np.inf]), probs)
    assert escapes.share(20) == 0.5
    assert escapes.seen([10, 20]) == 0.25
    assert escapes.seen([5, 10, 20]) == 0.5


def test_the_page_says_what_was_measured_and_chooses_the_raise_by_the_other_seeds(tmp_path):
    entry = entry_by_hand()
    gaps = gaps_of(entry)
    # "raise far" gains most for every seed; the sign of its change is always +1, of holding −1.
    assert gaps.best == (2, 2, 2)
    np.testing.assert_array_equal(gaps.gap, np.full((2, 3), 2.0))
    text = section("By hand", entry)
    assert "raise far for 3 of 3 seeds" in text
    assert "+2.000 [+2.000, +2.000] in signs" in text
    assert "+2.000 [+2.000, +2.000] points of the metric per decision" in text  # +1 against −1.
    assert (
        "| 0.01 | 30 | 60.0 | after 15 | 50.0% | 3 of 3 | 0.12 (0.17) | 0.60 [0.50, 0.70] | 0.90 [0.90, 0.90] |"
        in text
    )
    # Held at the upper end, which is its mean: 30 decisions of 2.
    assert "all 30 decisions it would add up to 60.0; an escape needs 30 or more" in text
    clock = {"0.01/1.0": {"median": 75.0, "share_50": 0.25, "share_600": 1.0}, "0.01/0.0": {"median": None, "share_50": 0.0, "share_600": 0.5}}  # fmt: skip # noqa: E501
    assert needed_gap(clock, 0.01) == 75.0
    assert needed_gap(clock, 0.03) == np.inf
    assert "| 0.01 | 1.0 | 75 | 75 | 25% | 100% |" in clock_section(clock)
    assert "| 0.01 | 0.0 | not within 600 | – | 0% | 50% |" in clock_section(clock)
    draw({"By hand": entry}, tmp_path / "gaps.png")
    assert (tmp_path / "gaps.png").stat().st_size > 10_000


def test_a_row_that_looks_rare_is_told_as_one_of_all_rows():
    """By hand, of seeds that pass ½ with chance ½: all three do in one row of eight, none in another one of eight."""
    one, other = entry_by_hand(), entry_by_hand()
    other["policies"] = {"0.01": {"0": [[1 / 3] * 3] * 3, "20": [[0.1, 0.2, 0.3]] * 3}}
    text = escapes_text({"one": one, "other": other})
    assert "Of all 2 rows together 3 of 6 seeds were seen beyond ½, where 3.00 are expected" in text
    assert "the chance of as many is 0.66." in text  # (20 + 15 + 6 + 1) / 64
    upper = beta.ppf(0.975, 201, 200)  # Clopper–Pearson, of 200 in 400.
    assert f"The rarest row has a chance of 0.12 ({upper**3:.2g} with the upper end of its share)" in text
    assert (
        f"that the rarest of 2 would be as rare, of 0.23 ({1 - (1 - upper**3) ** 2:.2g})" in text
    )  # 1 − (7/8)²


def test_the_agents_are_those_that_the_shares_were_counted_over():
    found = json.loads(GAPS.read_text())
    shares = [one["seen"] for task in ("omniglot", "mnist") for one in found[task]["simulated"].values()]
    np.testing.assert_allclose(np.array(shares) * AGENTS % 1, 0, atol=1e-9)


def entry_by_hand():
    """Three seeds, two points: raising far gains a point per decision, holding loses one, the others stay."""
    per_decision = {"raise near": 0.0, "raise middle": 0.0, "raise far": 0.01, "hold": -0.01}
    branches = {
        f"{point}/{name}": [[0.5 + step * change for step in range(LENGTH + 1)] for _ in range(3)]
        for point in (0, 10)
        for name, change in per_decision.items()
    }
    policies = {"0.01": {"0": [[1 / 3] * 3] * 3, "20": [[0.1, 0.2, 0.9]] * 3}}
    curve = [[0.5] * 30, [0.6] * 30, [0.7] * 30]
    simulated = {"0.01": {"gaps": [2.0] * 30, "needed": 30.0, "share": 0.7, "seen": 0.5, "quantiles": curve, "end_quantiles": [0.5, 0.6, 0.7]}}  # fmt: skip # noqa: E501
    return {"seeds": [1, 2, 3], "branches": branches, "policies": policies, "simulated": simulated}
