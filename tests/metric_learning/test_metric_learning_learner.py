"""The training step against one written in torch, its guard, its report, and that it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.metric_learning.config import LearnerConfig, SamplerConfig
from escapevelocity.metric_learning.embedding import SmallCNN
from escapevelocity.metric_learning.learner import Learner, make_embed, make_learner, make_train_step

SHAPE, CLASSES = (8, 8, 1), 5
CONFIG = LearnerConfig(batch_size=12, per_class=3, embedding_dim=8, weight_decay=0.0)
ADAPTIVE = SamplerConfig(low=0.0, high=0.3)
"""An untrained network's distances lie within this support."""
adaptive_step = make_train_step(CONFIG, ADAPTIVE, CLASSES)
hard_step = make_train_step(CONFIG, dataclasses.replace(ADAPTIVE, sampler="hard"), CLASSES)
embed = make_embed(CONFIG)
MASSES = jnp.ones(ADAPTIVE.bins)


def learner_of(config=CONFIG, key=0):
    return make_learner(config, SHAPE, CLASSES, jax.random.key(key))


def batch_of(rng, per_class=3):
    """Images of four of the five classes, each around an image of its class."""
    labels = np.repeat(np.array([3, 0, 4, 1], np.int32), per_class)
    centres = np.random.default_rng(0).random((CLASSES, *SHAPE))
    noise = rng.random((len(labels), *SHAPE))
    return (0.5 * centres[labels] + 0.5 * noise).astype(np.float32), labels


def copied(learner):
    """A copy on the host: a step uses up the learner that it is given."""
    return jax.tree.map(np.array, learner)


def assert_same_bits(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("loss", ["margin", "triplet"])
def test_steps_equal_those_of_torch_with_adam_its_weight_decay_milestones_and_a_rate_for_beta(rng, loss):
    """Two images per class leave one positive, and the hard sampler one negative: torch can find them by itself."""
    torch = pytest.importorskip("torch")
    config = LearnerConfig(
        loss=loss,
        batch_size=8,
        per_class=2,
        embedding_dim=8,
        weight_decay=1e-2,
        learning_rate=3e-3,
        beta_learning_rate=0.1,
        milestones=(2, 3),
        milestone_factor=0.5,
    )
    step = make_train_step(config, SamplerConfig(sampler="hard"), CLASSES)
    with jax.enable_x64(True):
        learner = learner_of(config)
        learner = jax.tree.map(
            lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, learner
        )
        theirs = TorchLearner(torch, learner, config)
        for number in range(5):
            images, labels = batch_of(rng, 2)
            images = images.astype(np.float64)
            value, norm = theirs.step(images, labels)
            learner, report = step(
                learner, images, labels, MASSES.astype(jnp.float64), jax.random.key(number)
            )
            assert float(report.loss) == pytest.approx(value, rel=1e-12)
            assert float(report.grad_norm) == pytest.approx(norm, rel=1e-9)
        assert int(learner.steps) == 5
        for ours, other in zip(jax.tree.leaves(learner.network), theirs.leaves(), strict=True):
            # A gradient of almost 0 has an uncertain direction, and Adam takes whole steps of 3e-3 along it.
            np.testing.assert_allclose(ours, other, atol=1e-9)
        np.testing.assert_allclose(learner.beta, theirs.beta.detach().numpy(), atol=1e-9)
    moved = {3, 0, 4, 1} if loss == "margin" else set()
    assert {i for i in range(CLASSES) if abs(float(learner.beta[i]) - config.beta) > 1e-3} == moved


class TorchLearner:
    """The definition of a training step with hard negatives, in torch, float64."""

    def __init__(self, torch, learner, config):
        self.torch, self.config = torch, config

        def parameter(array, *axes):
            return torch.nn.Parameter(torch.from_numpy(np.array(array).transpose(axes).copy()))

        network = learner.network
        self.kernels = [parameter(kernel, 3, 2, 0, 1) for kernel in network.kernels]
        self.biases = [parameter(bias, 0) for bias in network.biases]
        self.weight, self.bias = parameter(network.weight, 0, 1), parameter(network.bias, 0)
        self.beta = parameter(learner.beta, 0)
        self.weights = [*self.kernels, *self.biases, self.weight, self.bias]
        groups = [
            {"params": self.weights, "lr": config.learning_rate, "weight_decay": config.weight_decay},
            {"params": [self.beta], "lr": config.beta_learning_rate, "weight_decay": 0},
        ]
        self.optimiser = torch.optim.Adam(groups)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(
            self.optimiser, list(config.milestones), config.milestone_factor
        )

    def step(self, images, labels):
        torch, margin = self.torch, self.config.margin
        x, y = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels).long()
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            x = torch.relu(torch.nn.functional.conv2d(x, kernel, bias, padding=1))
        outputs = x.mean(dim=(2, 3)) @ self.weight + self.bias
        e = outputs / ((outputs**2).sum(dim=1, keepdim=True) + 1e-12).sqrt()
        terms = []
        for anchor in range(len(y)):
            distances = torch.linalg.vector_norm(e[anchor] - e.detach(), dim=1).detach()
            (positive,) = [i for i in range(len(y)) if y[i] == y[anchor] and i != anchor]
            negative = min((i for i in range(len(y)) if y[i] != y[anchor]), key=lambda i: distances[i])
            d_ap, d_an = (((e[anchor] - e[i]) ** 2).sum().add(1e-8).sqrt() for i in (positive, negative))
            if self.config.loss == "margin":
                boundary = self.beta[y[anchor]]
                terms += [d_ap - boundary + margin, boundary - d_an + margin]
            else:
                terms += [d_ap**2 - d_an**2 + margin]
        above = [term for term in terms if term > 0]
        loss = sum(above) / len(above)
        self.optimiser.zero_grad()
        loss.backward()
        norm = sum(float((weight.grad**2).sum()) for weight in self.weights) ** 0.5
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach()), norm

    def leaves(self):
        kernels = [kernel.permute(2, 3, 1, 0) for kernel in self.kernels]
        return [x.detach().numpy() for x in (*kernels, *self.biases, self.weight, self.bias)]


def test_the_same_key_gives_the_same_bits_and_another_key_other_triplets(rng):
    images, labels = batch_of(rng)
    results = [adaptive_step(learner_of(), images, labels, MASSES, jax.random.key(key)) for key in (1, 1, 2)]
    assert_same_bits(results[0], results[1])
    assert not np.array_equal(results[0][0].network.weight, results[2][0].network.weight)


def distances_of(learner, images):
    e = np.asarray(embed(learner.network, images), np.float64)
    return np.linalg.norm(e[:, None] - e[None], axis=-1)


def test_the_report_counts_bins_and_measures_distances_as_numpy_does(rng):
    """Hard negatives are the nearest, so that all about them can be found again."""
    images, labels = batch_of(rng)
    distances = distances_of(learner_of(), images)
    same = (labels[:, None] == labels) & ~np.eye(12, dtype=bool)
    nearest = np.where(labels[:, None] != labels, distances, np.inf).min(1)
    _, report = hard_step(learner_of(), images, labels, MASSES, jax.random.key(0))
    # The untrained network's distances are short, and come from differences of unit vectors in float32.
    assert float(report.negative_distance) == pytest.approx(nearest.mean(), abs=1e-5)
    edges = np.linspace(0, 0.3, 30)
    assert np.abs(nearest[:, None] - edges).min() > 1e-5  # No bin is decided by rounding.
    assert nearest.max() < 0.3
    np.testing.assert_array_equal(report.bin_counts, np.histogram(nearest, edges)[0])
    assert report.bin_counts.dtype == jnp.int32
    least, most = (f(np.where(same, distances, np.nan), axis=1).mean() for f in (np.nanmin, np.nanmax))
    assert least - 1e-5 < float(report.positive_distance) < most + 1e-5
    # With all distances so short, β − D_an + 0.2 is above 0 for every anchor and D_ap − β + 0.2 for none.
    assert float(report.active_fraction) == 0.5
    assert float(report.loss) == pytest.approx(1.4 - nearest.mean(), abs=1e-5)
    assert report.loss.dtype == jnp.float32


def test_an_anchor_drawn_as_its_own_negative_counts_to_the_first_bin_at_distance_zero(rng):
    images, labels = batch_of(rng)
    learner = learner_of()
    distances = distances_of(learner, images)
    assert (distances + np.eye(12)).min() > 0.3 / 29 + 1e-5  # Each is alone in its first bin.
    before = copied(learner)
    masses = MASSES.at[1:].set(1e-25)
    learner, report = adaptive_step(learner, images, labels, masses, jax.random.key(0))
    assert int(report.bin_counts[0]) == 12
    assert float(report.negative_distance) == 0
    # The loss is β + 0.2 − 1e-4 for each: the network has no gradient and stays, β falls by Adam's first step.
    assert float(report.loss) == pytest.approx(1.4 - 1e-4, abs=1e-6)
    assert (float(report.grad_norm), bool(report.finite)) == (0, True)
    assert_same_bits(learner.network, before.network)
    np.testing.assert_allclose(learner.beta, 1.2 - 5e-4 * np.isin(np.arange(5), labels), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_is_reported_and_changes_nothing(rng, bad):
    images, labels = batch_of(rng)
    learner, _ = adaptive_step(learner_of(), images, labels, MASSES, jax.random.key(0))
    before = copied(learner)
    broken = images.copy()
    broken[5, 2, 3] = bad
    learner, report = adaptive_step(learner, broken, labels, MASSES, jax.random.key(1))
    assert not bool(report.finite)
    assert_same_bits(learner, before)
    learner, report = adaptive_step(learner, images, labels, MASSES, jax.random.key(1))
    assert bool(report.finite)
    assert int(learner.steps) == 2


def test_masses_move_the_adaptive_sampler_and_leave_the_others_alone(rng):
    images, labels = batch_of(rng)
    other = jnp.linspace(1, 100, ADAPTIVE.bins)
    for step, same in ((hard_step, True), (adaptive_step, False)):
        first, second = (
            step(learner_of(), images, labels, masses, jax.random.key(3))[0] for masses in (MASSES, other)
        )
        assert np.array_equal(first.network.weight, second.network.weight) == same


def test_a_step_uses_up_its_learner_and_compiles_once(rng):
    learner = learner_of()
    weight = learner.network.weight
    for number in range(3):
        learner, _ = hard_step(learner, *batch_of(rng), MASSES, jax.random.key(number))
    assert weight.is_deleted()
    assert hard_step._cache_size() == 1


def test_a_learner_from_a_checkpoint_goes_on_as_the_one_in_memory(rng):
    images, labels = batch_of(rng)
    learner, _ = adaptive_step(learner_of(), images, labels, MASSES, jax.random.key(0))
    kept = jax.tree.map(jnp.asarray, copied(learner))
    results = [adaptive_step(one, images, labels, MASSES, jax.random.key(1)) for one in (learner, kept)]
    assert_same_bits(*results)


def test_an_untrained_learner_has_the_structure_that_steps_keep(rng):
    learner = learner_of()
    assert isinstance(learner, Learner)
    assert isinstance(learner.network, SmallCNN)
    np.testing.assert_array_equal(learner.beta, np.full(CLASSES, 1.2, np.float32))
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), learner)
    after, _ = adaptive_step(learner, *batch_of(rng), MASSES, jax.random.key(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == shapes


def recall_at_1(network, images, labels):
    e = np.asarray(embed(network, images))
    similarity = e @ e.T
    np.fill_diagonal(similarity, -1)
    return np.mean(labels[similarity.argmax(1)] == labels)


def test_training_on_some_digits_brings_others_of_the_same_class_together():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).reshape(-1, 8, 8, 1).astype(np.float32), y.astype(np.int32)
    rng, held_out = np.random.default_rng(0), (y < 5) & (np.arange(len(y)) > 1000)
    config = LearnerConfig(batch_size=40, per_class=8, learning_rate=3e-3, embedding_dim=16)
    step = make_train_step(config, SamplerConfig(sampler="distance"), 5)
    learner = make_learner(config, SHAPE, 5, jax.random.key(0))
    losses = []
    for number in range(80):
        chosen = np.concatenate(
            [rng.choice(np.flatnonzero(y[:1000] == c), 8, replace=False) for c in range(5)]
        )
        learner, report = step(learner, x[chosen], y[chosen], MASSES, jax.random.key(number))
        losses.append(float(report.loss))
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert recall_at_1(learner.network, x[held_out], y[held_out]) > 0.9
