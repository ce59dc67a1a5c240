"""Triplets obey their definitions, and draws follow their distributions: chi-square tests and Hypothesis."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.errors import UserError
from escapevelocity.metric_learning import samplers
from escapevelocity.metric_learning.config import SamplerConfig
from escapevelocity.metric_learning.distances import pairwise_distances
from escapevelocity.metric_learning.samplers import (
    adaptive_weights,
    bins_of,
    distance_weights,
    draw,
    hard_weights,
    require_masses,
    sample_triplets,
    semihard_weights,
)

NAMES = ["random", "semihard", "hard", "distance", "adaptive", "curriculum"]
DIM, MARGIN = 8, 0.2
LABELS = np.repeat(np.arange(4, dtype=np.int32), 3)
OTHERS = LABELS[:, None] != LABELS[None, :]
P_VALUE = 1e-3
"""Fixed seeds: a test that has passed passes for ever; a wrong distribution gives p-values far below."""


def sphere(seed, spread=1.0):
    """Twelve points, 4 classes of 3; a small spread gathers them around a point of their class."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, DIM))[LABELS] + spread * rng.normal(size=(12, DIM))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def distances_of(seed, spread=1.0):
    return np.asarray(pairwise_distances(jnp.asarray(sphere(seed, spread))))


def triplets(config, key, distances, labels, masses):
    return sample_triplets(config, key, distances, labels, masses, MARGIN, DIM)


one = jax.jit(triplets, static_argnums=0)
many = jax.jit(jax.vmap(triplets, in_axes=(None, 0, None, None, None)), static_argnums=0)


COUNT = 4000


def drawn(name, seed=0, spread=1.0, masses=None, **settings):
    """`COUNT` draws of all 12 anchors: positives and negatives (COUNT, 12)."""
    config = SamplerConfig(sampler=name, **settings)
    masses = jnp.ones(config.bins) if masses is None else jnp.asarray(masses, jnp.float32)
    keys = jax.random.split(jax.random.key(seed), COUNT)
    found = many(config, keys, jnp.asarray(distances_of(seed, spread)), jnp.asarray(LABELS), masses)
    return np.asarray(found.positives), np.asarray(found.negatives)


def assert_follows(observed, expected):
    """Chi-square of counts; cells too rare for it are joined."""
    expected = np.asarray(expected, float)
    assert not observed[expected == 0].any()
    common = expected >= 10  # twice what the approximation needs
    rest = expected[~common].sum()
    if rest >= 10:
        observed = np.append(observed[common], observed[~common].sum())
        expected = np.append(expected[common], rest)
    else:
        observed, expected = observed[common], expected[common]
        expected = expected * observed.sum() / expected.sum()
    assert len(expected) > 1
    assert scipy.stats.chisquare(observed, expected).pvalue > P_VALUE


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(NAMES),
    st.integers(0, 2**31 - 1),
    st.sampled_from([0.02, 0.3, 1.0]),
    st.booleans(),
)
def test_positives_and_negatives_are_what_they_are_called(name, seed, spread, itself):
    itself = itself or name != "adaptive"  # One program for each of the others.
    config = SamplerConfig(sampler=name, self_regularisation=itself)
    distances, key = jnp.asarray(distances_of(seed, spread)), jax.random.key(seed)
    found = one(config, key, distances, jnp.asarray(LABELS), jnp.ones(config.bins))
    assert found.positives.dtype == found.negatives.dtype == jnp.int32
    positives, negatives = map(np.asarray, found)
    assert np.all(LABELS[positives] == LABELS)
    assert np.all(positives != np.arange(12))
    if not (itself and name in ("adaptive", "curriculum")):
        assert np.all(LABELS[negatives] != LABELS)
    if name == "hard":
        np.testing.assert_array_equal(negatives, np.where(OTHERS, distances, 9).argmin(1))


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(NAMES), st.integers(0, 2**31 - 1), st.permutations(range(4)))
def test_which_number_a_class_has_changes_nothing(name, seed, order):
    config, distances, key = (
        SamplerConfig(sampler=name),
        jnp.asarray(distances_of(seed)),
        jax.random.key(seed),
    )
    renamed = np.array(order, np.int32)[LABELS]
    first, second = (one(config, key, distances, jnp.asarray(y), jnp.ones(29)) for y in (LABELS, renamed))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("name", ["semihard", "distance", "adaptive"])
def test_eager_and_compiled_draw_the_same(name):
    config, distances, masses = (
        SamplerConfig(sampler=name),
        jnp.asarray(distances_of(1)),
        jnp.linspace(1, 2, 29),
    )
    given_ = (config, jax.random.key(4), distances, jnp.asarray(LABELS), masses)
    jax.tree.map(np.testing.assert_array_equal, triplets(*given_), one(*given_))


def test_every_positive_is_as_likely_as_the_other():
    positives, _ = drawn("random")
    for anchor in range(12):
        others = np.flatnonzero((LABELS[anchor] == LABELS) & (np.arange(12) != anchor))
        counts = np.bincount(positives[:, anchor], minlength=12)
        assert counts[others].sum() == COUNT
        assert_follows(counts[others], [COUNT / 2, COUNT / 2])


def test_random_negatives_are_uniform():
    _, negatives = drawn("random")
    for anchor in range(12):
        assert_follows(np.bincount(negatives[:, anchor], minlength=12), COUNT * OTHERS[anchor] / 9)


@pytest.mark.parametrize("itself", [True, False])
def test_adaptive_bins_are_drawn_in_proportion_to_mass_times_candidates(itself):
    rng = np.random.default_rng(5)
    masses, edges = rng.uniform(0.2, 3, 29), np.linspace(0.1, 1.4, 30)
    _, negatives = drawn("adaptive", 2, masses=masses, self_regularisation=itself)
    distances = distances_of(2)
    # PADS's rule: the number of inner edges that lie below.
    bins = (distances[:, :, None] > edges[1:-1]).sum(-1)
    for anchor in range(12):
        candidates = np.ones(12, bool) if itself else OTHERS[anchor]
        weights = masses * np.bincount(bins[anchor][candidates], minlength=29)
        observed = np.bincount(bins[anchor][negatives[:, anchor]], minlength=29)
        assert_follows(observed, COUNT * weights / weights.sum())
        # Within a bin, every candidate alike.
        each = np.where(candidates, masses[bins[anchor]], 0)
        assert_follows(np.bincount(negatives[:, anchor], minlength=12), COUNT * each / each.sum())


def test_self_regularisation_draws_positives_and_the_anchor_itself_by_the_first_bins_mass():
    masses = np.full(29, 1e-6)
    masses[0] = 1.0
    # Far from all others, so that the anchor is alone in the first bin.
    _, negatives = drawn("adaptive", masses=masses)
    np.testing.assert_array_equal(negatives, np.broadcast_to(np.arange(12), (COUNT, 12)))


def test_all_bins_at_the_floor_draw_as_all_bins_at_one_and_so_does_any_common_factor():
    base = 2.0 ** np.random.default_rng(0).integers(-3, 3, 29)
    plain = drawn("adaptive", masses=base)
    for factor in (2.0**-83, 2.0**80):  # 1e-25 and 1e24, exact in float32
        found = drawn("adaptive", masses=base * factor)
        jax.tree.map(np.testing.assert_array_equal, found, plain)
    floor, ones = (drawn("adaptive", masses=np.full(29, mass)) for mass in (1e-25, 1.0))
    jax.tree.map(np.testing.assert_array_equal, floor, ones)


def test_floor_and_ceiling_in_one_distribution_leave_the_rows_of_the_floor_well_defined():
    """An anchor whose candidates all lie in bins at the floor draws among them by their masses."""
    distances = np.full((4, 4), 0.3, np.float32)
    distances[0], distances[:, 0] = 1.2, 1.2
    np.fill_diagonal(distances, 0)
    masses = np.full(2, 1e25, np.float32)
    masses[1] = 1e-25
    weights = adaptive_weights(jnp.asarray(distances), ~jnp.eye(4, dtype=bool), jnp.asarray(masses), 0.0, 1.4)
    keys = jax.random.split(jax.random.key(0), 900)
    found = np.asarray(jax.vmap(draw, (0, None))(keys, weights))
    assert_follows(np.bincount(found[:, 0], minlength=4), [0, 300, 300, 300])
    assert not (found[:, 1:] == 0).any()  # 1e-50 as likely


def test_bins_with_a_mass_of_zero_are_never_drawn_and_an_anchor_with_none_else_draws_among_all():
    distances = np.array([[0, 0.3, 0.3, 1.2], [0.3, 0, 1.2, 1.2], [0.3, 1.2, 0, 1.2], [1.2, 1.2, 1.2, 0]])
    candidates = ~jnp.eye(4, dtype=bool)
    weights = adaptive_weights(
        jnp.asarray(distances, jnp.float32), candidates, jnp.array([1.0, 0.0]), 0.0, 1.4
    )
    np.testing.assert_array_equal(np.exp(weights), [[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]])


def test_distances_count_to_pads_s_bins_and_those_outside_to_the_outer_ones():
    rng = np.random.default_rng(1)
    edges, distances = np.linspace(0.1, 1.4, 30), rng.uniform(0, 2, 4000)
    # At an edge itself float32 decides.
    distances = distances[np.abs(distances[:, None] - edges).min(1) > 1e-6]
    expected = (distances[:, None] > edges[1:-1]).sum(1)
    np.testing.assert_array_equal(bins_of(jnp.asarray(distances, jnp.float32), 29, 0.1, 1.4), expected)
    np.testing.assert_array_equal(bins_of(jnp.array([0.0, 0.1, 1.4, 2.0]), 29, 0.1, 1.4), [0, 0, 28, 28])
    # Powers of two, so that the edges are exact: an edge belongs to the bin below.
    np.testing.assert_array_equal(bins_of(jnp.array([0.25, 0.5, 0.75, 1.0]), 4, 0.0, 1.0), [0, 1, 2, 3])


def test_distance_weights_equal_pytorch_metric_learning_s(monkeypatch):
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("pytorch_metric_learning.miners.distance_weighted_miner")
    caught = {}
    nothing = (torch.zeros(0, dtype=torch.long),) * 3

    def catch(labels, ref_labels=None, weights=None):
        caught["weights"] = weights.numpy()
        return nothing

    monkeypatch.setattr(module.lmu, "get_random_triplet_indices", catch)
    x = sphere(3, 0.5).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    module.DistanceWeightedMiner()(torch.from_numpy(x), torch.from_numpy(LABELS))
    with jax.enable_x64(True):
        found = np.exp(distance_weights(pairwise_distances(jnp.asarray(x)), jnp.asarray(OTHERS), DIM))
    ours = found / found.sum(1, keepdims=True)
    assert (caught["weights"] > 0).sum() > 50
    assert (caught["weights"][OTHERS] == 0).any()  # beyond 1.4
    np.testing.assert_allclose(ours, caught["weights"], rtol=1e-9)


def test_distance_weights_by_hand_with_both_cutoffs_and_at_opposite_poles():
    """n = 4: w ∝ d⁻² (1 − d²/4)^(−1/2)."""
    distances = np.array([[0, 0.1, 0.5, 1.0, 1.39, 1.4, 2.0]] * 7, np.float32)
    candidates = np.broadcast_to(np.arange(7) > 0, (7, 7))
    found = np.exp(np.asarray(distance_weights(jnp.asarray(distances), jnp.asarray(candidates), 4)))[0]
    w = [d**-2 / math.sqrt(1 - d**2 / 4) for d in (0.5, 0.5, 1.0, 1.39)]
    np.testing.assert_allclose(found, [0, *w, 0, 0], rtol=1e-5)


def test_distance_weights_in_512_dimensions_neither_overflow_nor_vanish():
    """The ratio of weights at 0.5 and 1.39 is 1e200: no float32 holds it, the logarithm does."""
    distances = jnp.array([[0, 1.38, 1.39, 1.395], [1.38, 0, 0.5, 1.39], [1.9] * 4, [2.0] * 4])
    weights = distance_weights(distances, ~jnp.eye(4, dtype=bool), 512)
    shares = np.asarray(jax.nn.softmax(weights, axis=1))
    log_w = [-510 * math.log(d) - 509 / 2 * math.log(1 - d * d / 4) for d in (1.38, 1.39, 1.395)]
    expected = np.exp(np.array(log_w) - log_w[0])
    # Logarithms of about 330 in float32: 330 · 6e-8 · a few operations.
    np.testing.assert_allclose(shares[0, 1:], expected / expected.sum(), rtol=5e-4)
    np.testing.assert_allclose(shares[1], [0, 0, 1, 0], atol=1e-30)
    # Rows whose candidates are all too far draw uniformly.
    np.testing.assert_allclose(shares[2], [1 / 3, 1 / 3, 0, 1 / 3], rtol=1e-6)


def test_distance_weighted_draws_follow_their_weights():
    _, negatives = drawn("distance", 6, 0.6)
    d = distances_of(6, 0.6).astype(np.float64)
    w = np.maximum(d, 0.5) ** (2 - DIM) * (1 - np.maximum(d, 0.5) ** 2 / 4) ** ((3 - DIM) / 2)
    near = OTHERS & (d < 1.4)
    assert near.any(1).sum() > 8
    w = np.where(near, w, 0) + np.where(near.any(1)[:, None], 0, OTHERS)
    for anchor in range(12):
        assert_follows(np.bincount(negatives[:, anchor], minlength=12), COUNT * w[anchor] / w[anchor].sum())


def test_semihard_negatives_lie_between_positive_and_margin_and_are_uniform_there():
    positives, negatives = drawn("semihard", 8, 1.5)
    d, rows = distances_of(8, 1.5), np.arange(12)
    found_some = 0
    for anchor in range(12):
        for positive in np.unique(positives[:, anchor]):
            to_positive = d[anchor, positive]
            inside = OTHERS[anchor] & (d[anchor] > to_positive) & (d[anchor] < to_positive + MARGIN)
            allowed = inside if inside.any() else OTHERS[anchor]
            found_some += inside.sum() > 1
            counts = np.bincount(negatives[positives[:, anchor] == positive, anchor], minlength=12)
            assert not counts[~allowed].any()
            if allowed.sum() > 1:
                assert_follows(counts, counts.sum() * allowed / allowed.sum())
    assert found_some > 3
    assert np.all(positives != rows)


@pytest.mark.parametrize("squared", [False, True])
def test_semihard_negatives_have_a_loss_between_nothing_and_the_margin(squared):
    """That of the triplet loss, which squares distances, or of one that does not, wherever there is such a negative."""
    config = SamplerConfig(sampler="semihard")
    d = jnp.asarray(distances_of(8, 1.5))
    keys = jax.random.split(jax.random.key(3), 200)
    draw = jax.vmap(
        lambda key: sample_triplets(config, key, d, jnp.asarray(LABELS), jnp.ones(2), MARGIN, DIM, squared)
    )
    positives, negatives = map(np.asarray, draw(keys))
    compared = np.asarray(d) ** 2 if squared else np.asarray(d)
    rows = np.broadcast_to(np.arange(12), positives.shape)
    near, far = compared[rows, positives], compared[rows, negatives]
    loss = near - far + MARGIN
    every = near[..., None] - compared[rows] + MARGIN
    exists = (OTHERS[rows] & (every > 0) & (every < MARGIN)).any(-1)
    assert exists.mean() > 0.1
    assert ((loss > 0) & (loss < MARGIN))[exists].all()


def test_an_anchor_without_a_semihard_candidate_draws_among_all_of_its_candidates():
    distances = jnp.array([[0, 0.5, 0.3, 0.9], [0.5, 0, 0.6, 0.7]])
    candidates = jnp.array([[False, False, True, True], [False, False, True, True]])
    found = semihard_weights(distances, candidates, jnp.array([0.5, 0.5]), 0.15)
    np.testing.assert_array_equal(np.exp(found), [[0, 0, 1, 1], [0, 0, 1, 0]])


def test_hard_negatives_at_the_same_distance_are_alike():
    distances = jnp.array([[0, 0.5, 0.3, 0.3], [0.5, 0, 0.1, 0.2]])
    candidates = jnp.array([[False, True, True, True], [False, False, False, True]])
    np.testing.assert_array_equal(np.exp(hard_weights(distances, candidates)), [[0, 0, 1, 1], [0, 0, 0, 1]])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31 - 1), st.floats(0, 0.95), st.sampled_from([0.0, -300.0, 300.0]))
def test_a_candidate_of_weight_zero_is_never_drawn(seed, share, shift):
    rng = np.random.default_rng(seed)
    log_weights = rng.normal(size=(40, 112)) * 20 + shift
    log_weights[rng.random(log_weights.shape) < share] = -np.inf
    log_weights[np.arange(40), rng.integers(112, size=40)] = shift
    found = np.asarray(jitted_draw(jax.random.key(seed), jnp.asarray(log_weights, jnp.float32)))
    assert np.all(log_weights[np.arange(40), found] > -np.inf)


jitted_draw = jax.jit(draw)


def test_draws_follow_weights_that_differ_by_orders_of_magnitude():
    weights = np.array([1.0, 0.0, 1e-2, 1e-3, 0.3, 0.0])
    with np.errstate(divide="ignore"):
        rows = jnp.broadcast_to(jnp.asarray(np.log(weights), jnp.float32), (50_000, 6))
    found = np.bincount(np.asarray(jitted_draw(jax.random.key(1), rows)), minlength=6)
    assert_follows(found, 50_000 * weights / weights.sum())


@pytest.mark.parametrize("name", ["random", "semihard", "hard", "distance"])
def test_fixed_samplers_do_not_read_the_masses(name):
    first, second = (drawn(name, masses=masses) for masses in (np.ones(29), np.full(29, np.nan)))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_curriculum_draws_as_the_adaptive_sampler():
    masses = np.linspace(0.1, 2, 29)
    first, second = (drawn(name, masses=masses) for name in ("adaptive", "curriculum"))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize(
    ("masses", "message"),
    [
        ([1.0, 2.0], r"masses\.shape = \(2,\): must be \(3,\), one for each bin"),
        ([1.0, np.nan, 1.0], r"masses\[1\] = nan: must be a finite number of at least 0"),
        ([1.0, 1.0, np.inf], r"masses\[2\] = inf: must be a finite number of at least 0"),
        ([-1.0, 1.0, 1.0], r"masses\[0\] = -1: must be a finite number of at least 0"),
        ([0.0, 0.0, 0.0], r"masses = 0\.0: must be above 0 in at least one bin; all are 0"),
    ],
)
def test_masses_that_no_negative_can_be_drawn_by_are_refused(masses, message):
    config = dataclasses.replace(SamplerConfig(), bins=3)
    require_masses(np.array([0.0, 1e-25, 1e25]), config)
    require_masses(jnp.ones(3), config)
    with pytest.raises(UserError, match=message):
        require_masses(np.array(masses), config)


def test_the_cutoffs_are_those_of_wu_et_al():
    assert (samplers.DISTANCE_CUTOFF, samplers.NONZERO_LOSS_CUTOFF) == (0.5, 1.4)
