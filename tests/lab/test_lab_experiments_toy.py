"""The toy experiment's counts against a NumPy version of the example, and the published ratios."""

import dataclasses
import io
import math

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab.experiments.toy import Toy
from escapevelocity.report.lab.canvas import select
from escapevelocity.report.lab.toy import draw

SMALL = Toy(sweep_alphas=(0.0, 1.0, 2.5), features=(0.05, 0.5), num_draws=300, seed=7)


@pytest.fixture(scope="module")
def findings():
    return SMALL.run()


def final_ratios(alpha, feature, theta, steps=20):
    """(draws, 2): ratios of x and y after alternating steps with learning rate 1.5 and ε = 0.1."""
    features = np.stack([feature, alpha * feature], axis=-1)

    def probs(theta):
        return 1 / (1 + np.exp(features * (theta[:, 1:] - theta[:, :1])))

    old, theta = probs(theta), theta.copy()
    for step in range(steps):
        state = step % 2
        pi = probs(theta)[:, state]
        ratio = pi / old[:, state]
        # d ratio/dθ = ratio·φ·(1 − π)·(1, −1), and nothing beyond 1 + ε
        move = np.where(ratio < 1.1, 1.5 * ratio * features[:, state] * (1 - pi), 0)
        theta += move[:, None] * np.array([1.0, -1.0])
    return probs(theta) / old


def test_final_ratios_are_the_published_ones(findings):
    """ppo_collapse.md, "The toy clipping example", to three decimals."""
    rows = {row[0]: row[1:5] for row in findings.summary.rows}
    expected = {3.0: (1.103, 1.253), -1.0: (0.989, 1.012), -2.0: (0.941, 1.141)}
    for alpha, (x, y) in expected.items():
        assert rows[alpha] == pytest.approx([x, y, x, y], abs=5e-4)
    assert "The published ratios are met within" in findings.answers[-1]


def test_the_steps_of_each_run_end_at_its_final_ratios(findings):
    for alpha in SMALL.alphas:
        rows = select(findings.tables[""], alpha=alpha)
        assert rows["step"].tolist() == list(range(21))
        assert (rows["ratio_x"][0], rows["ratio_y"][0]) == (1, 1)
        ((x, y),) = final_ratios(alpha, np.array([SMALL.feature]), np.array([SMALL.theta]))
        assert rows["ratio_x"][-1] == pytest.approx(x, rel=1e-12)
        assert rows["ratio_y"][-1] == pytest.approx(y, rel=1e-12)
        # π of x before the first step, by hand
        start = 1 / (1 + math.exp(SMALL.feature * (SMALL.theta[1] - SMALL.theta[0])))
        assert rows["prob_x"][0] == pytest.approx(start, rel=1e-14)


@pytest.mark.parametrize("alpha", [-2.0, -1.0, 0.0, 1.0, 2.5, 3.0])
def test_shares_are_counts_of_a_numpy_version_on_the_same_draws(findings, alpha):
    row = {name: column[0] for name, column in select(findings.tables["alphas"], alpha=alpha).items()}
    generator = np.random.default_rng(7)
    theta = generator.uniform(-1, 1, (300, 2))
    final = final_ratios(alpha, generator.normal(size=300), theta)
    # Rounding alone decides for a start that ends within 1e-9 of a limit; there is none among these.
    assert np.abs(final[..., None] - [1.1, 0.9]).min() > 1e-9
    above = (final > 1.1).sum(axis=1)
    shares = {"both": np.mean(above == 2), "one": np.mean(above == 1), "none": np.mean(above == 0)}
    shares["sunk"] = np.mean((final < 0.9).any(axis=1))
    for name, share in shares.items():
        assert row[name] == pytest.approx(share, abs=1e-12)
        # Wilson: the ends are the p with (p̂ − p)² = z²·p(1 − p)/n, unless p̂ itself is 0 or 1
        for end in (row[f"{name}_low"], row[f"{name}_high"]):
            assert (share - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / 300, rel=1e-3, abs=1e-12)
        assert row[f"{name}_low"] - 1e-12 <= share <= row[f"{name}_high"] + 1e-12


def test_equal_features_cannot_part_and_absent_features_cannot_move(findings):
    equal, absent = (select(findings.tables["alphas"], alpha=alpha) for alpha in (1.0, 0.0))
    assert equal["one"].tolist() == [0.0]
    assert absent["both"].tolist() == absent["sunk"].tolist() == [0.0]


def test_about_four_of_five_random_starts_overshoot_in_both_states():
    """ppo_collapse.md: the interval of 4,000 draws at α = 3 contains or touches 0.8 to one digit."""
    shares = Toy(sweep_alphas=(3.0,), alphas=(3.0,), features=(0.1,)).run().tables["alphas"]
    assert shares["both_low"][0] < 0.85
    assert shares["both_high"][0] > 0.75
    assert shares["both_high"][0] - shares["both_low"][0] < 0.03  # 2·1.96·√(0.8·0.2/4000) = 0.025


@pytest.mark.parametrize("alpha", [3.0, -2.0])
def test_the_sweep_over_features_has_the_percentiles_of_a_numpy_version(findings, alpha):
    rows = select(findings.tables["features"], alpha=alpha)
    theta = np.random.default_rng(7).uniform(-1, 1, (300, 2))
    for i, size in enumerate((0.05, 0.5)):
        assert rows["feature"][i] == size
        final = np.sort(final_ratios(alpha, np.full(300, size), theta), axis=1)
        for name, values in (("lowest", final[:, 0]), ("highest", final[:, 1])):
            expected = np.percentile(values, [5, 50, 95])
            found = [rows[f"{name}_{part}"][i] for part in ("5", "median", "95")]
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_other_settings_are_not_held_against_the_published_run():
    other = dataclasses.replace(SMALL, alphas=(3.0,), learning_rate=1.0, features=(0.1,), sweep_alphas=(3.0,))
    findings = other.run()
    assert np.isnan(findings.summary.rows[0][3:5]).all()
    assert len(findings.answers) == 1


def test_the_seed_decides_the_draws_and_nothing_else(findings):
    again, other = SMALL.run(), dataclasses.replace(SMALL, seed=8).run()
    for name, table in findings.tables.items():
        for column, values in table.items():
            np.testing.assert_array_equal(again.tables[name][column], values)
    assert other.tables["alphas"]["both"].tolist() != findings.tables["alphas"]["both"].tolist()
    np.testing.assert_array_equal(other.tables[""]["ratio_x"], findings.tables[""]["ratio_x"])


def test_answers_name_the_states_that_overshoot_or_sink(findings):
    overshoot, still, pulled = findings.answers[:3]
    assert "1.103 (x) and 1.253 (y), x and y above 1.1;" in overshoot
    assert "0.989 (x) and 1.012 (y), neither above 1.1, x below its start;" in still
    assert "0.941 (x) and 1.141 (y), y above 1.1, x below its start;" in pulled


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alphas": (3.0, math.nan)}, r"alphas\[1\] = nan: must be finite"),
        ({"sweep_alphas": ()}, r"sweep_alphas = \(\): must be one or more"),
        ({"features": (0.1, -0.1)}, r"features\[1\] = -0.1: must be finite and > 0"),
        ({"features": (0.1, 1e308)}, r"features = \(0\.1, 1e\+308\): must be at most 100 in size"),
        ({"feature": -1e308}, r"feature = -1e\+308: must be at most 100 in size"),
        ({"alphas": (1e308,)}, r"alphas = \(1e\+308,\): must be at most 100 in size"),
        ({"feature": math.inf}, "feature = inf: must be finite"),
        ({"theta": (0.1, math.nan)}, r"theta\[1\] = nan: must be finite"),
        ({"clip_epsilon": 1.0}, r"clip_epsilon = 1.0: must be in \(0, 1\)"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: must be a finite number > 0"),
        ({"num_steps": 0}, "num_steps = 0: must be an integer ≥ 1"),
        ({"num_draws": 19}, "num_draws = 19: must be an integer ≥ 20"),
        ({"seed": -1}, "seed = -1: must be an integer ≥ 0"),
    ],
)
def test_a_setting_out_of_range_is_refused_in_one_line(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SMALL, **change).run()


def test_the_largest_features_can_be_drawn():
    extreme = dataclasses.replace(SMALL, features=(1e-300, 3.0), feature=3.0, alphas=(100.0,))
    for figure in draw(extreme, extreme.run()).values():
        figure.savefig(drawn := io.BytesIO())
        assert drawn.getvalue().startswith(b"\x89PNG")
        assert all(np.isfinite([axes.get_xlim(), axes.get_ylim()]).all() for axes in figure.axes)
