"""Starts of the sampling distribution against PADS's own definitions, scipy, and the design's facts."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.config import SamplerConfig
from escapevelocity.metric_learning.distribution import actions_to_parity, measure_distribution
from escapevelocity.metric_learning.starts import FLOOR, STARTS, Start, parse_start, start_masses

SAMPLER = SamplerConfig()
EDGES = np.linspace(0.1, 1.4, 30)
NAMED = [name for name in STARTS if "(" not in name]
PADS = [name for name in NAMED if name.startswith("pads_")]


def pads_by_hand(density):
    """PADS's recipe, one bin after the other."""
    values = [min(max(density(0.1 + 1.3 * bin / 29 + 2 / 30), 1e-15), 1.0) for bin in range(29)]
    return np.array(values) / math.fsum(values)


def pads_gauss(mean, std):
    return lambda x: 1 / math.sqrt(2 * math.pi * std) * math.exp(-((x - mean) ** 2) / (2 * std**2))


# Names and numbers as in `Parametric_Sampler.give_distr` of PADS's code.
PADS_DENSITIES = {
    "pads_distance": lambda x: float(x <= 0.5),
    "pads_uniform_low_and_tight": lambda x: float(abs(x - 0.4) <= 0.1),
    "pads_uniform_lowish_and_tight": lambda x: float(abs(x - 0.6) <= 0.1),
    "pads_heavyside_low": lambda x: float(x <= 0.5),
    "pads_uniform_low": lambda x: float(abs(x - 0.5) <= 0.2),
    "pads_uniform_avg": lambda x: float(abs(x - 1.0) <= 0.2),
    "pads_uniform_high": lambda x: float(abs(x - 1.5) <= 0.2),
    "pads_normal_low": pads_gauss(0.5, 0.05),
    "pads_normal_avg": pads_gauss(1.1, 0.04),
    "pads_normal_high": pads_gauss(1.6, 0.04),
}


@pytest.mark.parametrize("name", PADS_DENSITIES)
def test_pads_starts_are_those_of_its_code(name):
    np.testing.assert_allclose(start_masses(name, SAMPLER), pads_by_hand(PADS_DENSITIES[name]), rtol=1e-12)


def test_there_are_eleven_pads_starts_and_random_has_mass_one_on_every_bin():
    assert set(PADS) == {*PADS_DENSITIES, "pads_random"}
    assert len(PADS) == 11
    np.testing.assert_array_equal(start_masses("pads_random", SAMPLER), np.ones(29))


def test_pads_normal_high_has_nearly_all_mass_on_the_last_bin_and_25_bins_at_the_floor():
    masses = start_masses("pads_normal_high", SAMPLER)
    assert round(masses[-1], 3) == 0.996
    # At the floor: density clipped to 1e-15, so equal to the least.
    assert (masses == masses.min()).sum() == 25
    assert measure_distribution(masses, 0.1, 1.4).floor_bins == 25


@pytest.mark.parametrize(("name", "quotient", "whole"), [("high", 113.4, 114), ("low", 154.8, 155)])
def test_lifting_a_floor_bin_of_pads_takes_as_many_raises_as_the_law_says(name, quotient, whole):
    masses = start_masses(f"pads_normal_{name}", SAMPLER)
    # The design's 113 and 155 are the quotients to the nearest whole number; the first action at or above parity is
    # the next one up.
    assert round(math.log(masses.max() / masses.min()) / math.log(1.25), 1) == quotient
    assert round(quotient) == {"high": 113, "low": 155}[name]
    assert actions_to_parity(masses, 1.25).max() == whole
    lifted = masses.min()
    for _ in range(whole - 1):
        lifted *= 1.25
    assert lifted < masses.max() <= lifted * 1.25


def test_a_high_variance_is_not_a_high_mean():
    broad = measure_distribution(start_masses("broad", SAMPLER), 0.1, 1.4)
    high = measure_distribution(start_masses("pads_normal_high", SAMPLER), 0.1, 1.4)
    # The middle of the support is the mean of `broad`, by symmetry.
    assert broad.distance_mean == pytest.approx(0.75, abs=1e-12)
    assert broad.entropy > 0.95 * math.log(29)
    assert broad.floor_bins == 0
    assert high.distance_mean > 1.35
    assert high.entropy < 0.05 * math.log(29)


@pytest.mark.parametrize(
    ("mean", "std"), [(0.75, 0.4), (0.5, 0.05), (0.1, 0.3), (1.4, 0.001), (0.77, 1e-300)]
)
def test_a_normal_start_is_the_normals_share_of_every_bin(mean, std):
    z = (EDGES - mean) / std
    # Upper tails by the survival function: 1 − Φ cancels where Φ is nearly 1.
    share = np.where(
        z[:-1] > 0,
        scipy.stats.norm.sf(z[:-1]) - scipy.stats.norm.sf(z[1:]),
        scipy.stats.norm.cdf(z[1:]) - scipy.stats.norm.cdf(z[:-1]),
    )
    share = share / share.sum()
    expected = np.maximum(share, FLOOR)
    np.testing.assert_allclose(
        start_masses(f"normal({mean},{std})", SAMPLER), expected / expected.sum(), rtol=1e-9
    )


@pytest.mark.parametrize("std", [1.3e4, 1.29e5, 1.31e5, 1e15, 1e17, 1e300])
def test_a_very_wide_normal_is_flat(std):
    np.testing.assert_allclose(start_masses(f"normal(0.75,{std})", SAMPLER), np.full(29, 1 / 29), rtol=1e-8)


def test_the_presets_are_normals():
    assert parse_start("broad") == parse_start("normal(0.75,0.4)") == Start("normal", 0.75, 0.4)
    assert parse_start("narrow") == Start("normal", 0.5, 0.05)


def test_a_uniform_start_has_the_mean_and_standard_deviation_that_were_asked_for():
    # Half-width √3·std = 5.5 bins around the middle one: eleven whole bins, so that cutting moves nothing.
    std = 5.5 * 1.3 / 29 / math.sqrt(3)
    found = measure_distribution(start_masses(f"uniform(0.75,{std!r})", SAMPLER), 0.1, 1.4)
    assert found.distance_mean == pytest.approx(0.75, abs=1e-12)
    assert found.distance_std == pytest.approx(std, rel=1e-9)


def test_a_uniform_start_by_hand():
    four = SamplerConfig(bins=4, low=0.0, high=2.0)
    # √3·std = 0.75 around 1: a quarter of [0.25, 0.5], then two whole bins of 0.5, then a quarter.
    masses = start_masses(f"uniform(1,{0.75 / math.sqrt(3)!r})", four)
    np.testing.assert_allclose(masses, [1 / 6, 1 / 3, 1 / 3, 1 / 6], rtol=1e-12)
    # Cut to the support: [1.25, 2.75] leaves half of one bin and all of the last.
    masses = start_masses(f"uniform(2,{0.75 / math.sqrt(3)!r})", four)
    np.testing.assert_allclose(masses[2:], [1 / 3, 2 / 3], rtol=1e-9)
    assert masses[:2].max() < 2 * FLOOR
    # Narrower than rounding: all in the bin of the mean.
    np.testing.assert_allclose(start_masses("uniform(1.2,1e-300)", four)[2], 1.0, rtol=1e-9)


def test_the_distance_start_weights_a_bin_as_distance_weighted_sampling_weights_its_centre():
    sampler = SamplerConfig(bins=3, low=0.6, high=0.9)
    masses = start_masses("distance", sampler, embedding_dim=8)
    # 1/q(d) = d^−6·(1 − d²/4)^−2.5 at 0.65, 0.75, 0.85.
    by_hand = [0.65**-6 * 0.894375**-2.5, 0.75**-6 * 0.859375**-2.5, 0.85**-6 * 0.819375**-2.5]
    np.testing.assert_allclose(masses, np.array(by_hand) / sum(by_hand), rtol=1e-12)


def test_the_distance_start_counts_all_below_the_cutoff_as_equally_far():
    masses = start_masses("distance", SAMPLER)
    below = (EDGES[:-1] + EDGES[1:]) / 2 < 0.5
    assert len(set(masses[below])) == 1
    assert (np.diff(masses)[below[:-1]] <= 0).all()
    with pytest.raises(UserError, match=r"embedding-dim = 1: must be at least 2"):
        start_masses("distance", SAMPLER, embedding_dim=1)


# Two bins are read at 0.767 and 1.417, which lie in none of these intervals.
BETWEEN = {(f"pads_{name}", 2) for name in (
    "distance", "heavyside_low", "uniform_low", "uniform_avg", "uniform_low_and_tight", "uniform_lowish_and_tight"
)}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("bins", [2, 29, 200])
def test_every_start_gives_positive_masses_that_sum_to_one_or_are_all_one(name, bins):
    if (name, bins) in BETWEEN:
        with pytest.raises(UserError, match=rf"init = '{name}': must be one that falls on any of the 2 bins"):
            start_masses(name, SamplerConfig(bins=bins))
        return
    masses = start_masses(name, SamplerConfig(bins=bins))
    assert masses.shape == (bins,)
    assert masses.min() > 0
    assert masses.sum() == pytest.approx(bins if name == "pads_random" else 1, rel=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.floats(0.1, 1.4), st.floats(1e-3, 1e3), st.sampled_from(["normal", "uniform"]))
def test_a_start_reads_back_what_it_prints(mean, std, kind):
    start = parse_start(f" {kind.upper()} ( {mean!r} , {std!r} ) ")
    assert (start.kind, start.mean, start.std) == (kind, mean, std)
    again = parse_start(str(Start(kind, 0.75, 0.25)))
    assert again == Start(kind, 0.75, 0.25)
    assert start_masses(start, SAMPLER).sum() == pytest.approx(1, rel=1e-12)


def test_a_mirrored_normal_is_the_mirror_of_the_masses():
    left, right = start_masses("normal(0.4,0.2)", SAMPLER), start_masses("normal(1.1,0.2)", SAMPLER)
    np.testing.assert_allclose(left, right[::-1], rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("brod", r"init = 'brod': must be a start such as broad.*; ev asr starts lists them"),
        ("pads_normal_hgih", r"such as pads_normal_high"),
        ("pads_semihard", r"init = 'pads_semihard': must be a start such as broad"),
        ("normal", r"such as normal\(MEAN,STD\)"),
        ("", r"init = '': must be a start such as broad"),
        ("normal(0.5)", r"init = 'normal\(0.5\)': must hold two numbers, mean and standard deviation"),
        ("uniform(a,0.1)", r"must hold two numbers"),
        ("normal(0.5,0)", r"init: standard deviation = 0.0: must be a finite number above 0"),
        ("normal(0.5,inf)", r"init: standard deviation = inf: must be a finite number above 0"),
        ("normal(1.6,0.04)", r"init: mean = 1.6: must be in the support, 0.1 to 1.4"),
        ("uniform(nan,0.04)", r"init: mean = nan: must be in the support"),
    ],
)
def test_a_start_that_cannot_be_read_is_refused_in_one_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_start(text)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_the_curriculums_end_names_its_setting():
    with pytest.raises(UserError, match="then = 'wide'"):
        start_masses("wide", SAMPLER, field="then")


@pytest.mark.parametrize("name", ["pads_normal_low", "pads_heavyside_low", "pads_uniform_low"])
def test_a_start_of_pads_that_falls_on_no_bin_is_not_made_flat(name):
    with pytest.raises(
        UserError, match=rf"init = '{name}': must be one that falls on any of the 29 bins from 0\.9"
    ):
        start_masses(name, SamplerConfig(low=0.9))
