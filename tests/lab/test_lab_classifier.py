import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from escapevelocity.errors import UserError
from escapevelocity.lab import classifier
from escapevelocity.lab.classifier import Recipe, Training, train_classifiers, tune
from escapevelocity.lab.classifier_objective import Objective
from escapevelocity.lab.images import ImageData

SCE = Objective("likelihood")


def noisy_data(rng, images=60, pixels=3, classes=3):
    """Classes that no classifier of these pixels can tell apart for sure, so that the best loss is finite."""
    x = rng.random((images, pixels))
    y = np.where(rng.random(images) < 0.6, x.argmax(axis=1), rng.integers(0, classes, images))
    return ImageData(x, y, x[: images // 2], y[: images // 2], classes, "noise")


@pytest.fixture(scope="module")
def data():
    return noisy_data(np.random.default_rng(7))


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def plain_reward(theta, targets, p):
    weights = jnp.exp(theta) if p is None else jnp.abs(theta) ** p
    return jnp.sum(weights * targets, axis=-1) / jnp.sum(weights, axis=-1)


@pytest.mark.parametrize("p", [None, 1, 1.5, 4])
@pytest.mark.parametrize("kind", ["reward", "scaled reward", "likelihood"])
def test_losses_have_the_gradient_of_the_plain_formulas(kind, p, rng):
    if kind == "scaled reward" and p is None:
        p = 2
    theta, targets = rng.normal(size=(5, 4)), np.eye(4)[[0, 1, 2, 3, 0]]
    objective = Objective("likelihood" if kind == "likelihood" else "reward", p, kind == "scaled reward")

    def plain_loss(theta):
        reward = plain_reward(theta, targets, p)
        return -jnp.sum(jnp.log(reward) if kind == "likelihood" else reward)

    with jax.enable_x64(True):
        measured = jax.grad(lambda t: jnp.sum(objective.loss(t, jnp.asarray(targets))))(jnp.asarray(theta))
        expected = np.asarray(jax.grad(plain_loss)(jnp.asarray(theta)))
    if kind == "scaled reward":
        expected = expected * np.sum(np.abs(theta) ** p, axis=1, keepdims=True) ** (2 / p) / p**2
    # Both are a few dozen float64 operations on numbers of order 1.
    np.testing.assert_allclose(measured, expected, rtol=1e-10, atol=1e-13)


def update_by_hand(optimiser, rate, gradients):
    """The change of θ after these gradients, as the papers' sums (Kingma & Ba 2015, section 3, for Adam)."""
    ages = np.arange(len(gradients))[::-1, None, None]
    gradients = np.stack(gradients)
    if optimiser == "SGD":
        return -rate * gradients[-1]
    if optimiser == "momentum":
        return -rate * np.sum(0.9**ages * gradients, axis=0)
    first = 0.1 * np.sum(0.9**ages * gradients, axis=0) / (1 - 0.9 ** len(gradients))
    second = 0.001 * np.sum(0.999**ages * gradients**2, axis=0) / (1 - 0.999 ** len(gradients))
    return -rate * first / (np.sqrt(second) + 1e-8)


FULL_BATCH = Recipe(6, batch_size=60, hidden=0)


@pytest.mark.parametrize("optimiser", ["SGD", "momentum", "Adam"])
def test_full_batch_training_follows_the_optimisers_formulas_at_every_rate(optimiser, data):
    rates = (0.3, 0.1)
    training = train_classifiers(data, SCE, optimiser, FULL_BATCH, rates, [0])
    x, y = np.column_stack([data.train_x, np.ones(60)]), np.eye(3)[data.train_y]
    for lane, rate in enumerate(rates):
        weights, gradients, losses, rewards = np.zeros((4, 3)), [], [], []
        for _ in range(7):
            probs = softmax(x @ weights)
            losses.append(-np.mean(np.log(probs[y == 1])))
            rewards.append(np.mean(probs[y == 1]))
            gradients.append(x.T @ (probs - y) / 60)
            weights = weights + update_by_hand(optimiser, rate, gradients)
        np.testing.assert_allclose(training.loss[lane, 0], losses, rtol=1e-9)
        np.testing.assert_allclose(training.reward[lane, 0], rewards, rtol=1e-9)


def test_linear_cross_entropy_reaches_the_optimum_of_logistic_regression(data):
    truth = LogisticRegression(C=1e10, tol=1e-10, max_iter=10_000).fit(data.train_x, data.train_y)
    optimum = -np.mean(truth.predict_log_proba(data.train_x)[np.arange(60), data.train_y])
    recipe = Recipe(3000, batch_size=60, hidden=0)
    training = train_classifiers(data, SCE, "momentum", recipe, [1.0], [0])
    # No lower than the optimum, and within what scikit-learn's tolerance leaves open.
    assert training.loss[0, 0, -1] == pytest.approx(optimum, abs=1e-7)
    agreement = np.mean(truth.predict(data.test_x) == data.test_y)
    assert training.test_accuracy[0, 0, -1] == pytest.approx(agreement, abs=1e-12)


def test_a_hidden_layer_learns_what_no_linear_classifier_can():
    x = np.tile([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], (8, 1))
    y = (x.sum(axis=1) == 1).astype(np.int64)
    data = ImageData(x, y, x, y, 2, "exclusive or")
    trained = train_classifiers(data, SCE, "momentum", Recipe(150, 16, hidden=16), [0.3], [0])
    # A line puts at least one of the four corners on the wrong side: accuracy 0.75 at most.
    assert trained.test_accuracy[0, 0, -1] == 1


def test_an_epoch_uses_every_image_once(data):
    # To first order in the rate, minibatches of a sixth change the loss six times as much as one full batch does,
    # if and only if they are a partition; seeds whose draws repeated an image would differ by per cents.
    whole = train_classifiers(data, SCE, "SGD", FULL_BATCH, [1e-5, 1e-4], [0]).loss[0, 0]
    parts = train_classifiers(data, SCE, "SGD", Recipe(1, 10, hidden=0), [1e-5], [0, 1, 2]).loss[0]
    np.testing.assert_allclose(parts[:, 1] - parts[:, 0], 6 * (whole[1] - whole[0]), rtol=1e-3)


SMALL = Recipe(3, batch_size=16, hidden=4)


def test_one_of_a_population_trains_as_it_does_alone_and_again(data):
    population = train_classifiers(data, SCE, "SGD", SMALL, (0.1, 0.3, 0.5), (3, 4))
    again = train_classifiers(data, SCE, "SGD", SMALL, (0.1, 0.3, 0.5), (3, 4))
    alone = train_classifiers(data, SCE, "SGD", SMALL, [0.3], [4])
    for each, repeated, single in zip(population, again, alone, strict=True):
        assert each.shape == (3, 2, 4)
        np.testing.assert_array_equal(each, repeated)
        np.testing.assert_allclose(each[1, 1], single[0, 0], rtol=1e-10)
    assert len(np.unique(population.reward[:, :, -1])) == 6


START = np.array([0.9, 0.07, 0.03])


@pytest.mark.parametrize("p", [None, 1, 3])
def test_outputs_can_be_chosen_for_any_policy_with_the_length_of_the_uniform_one(p):
    objective = Objective("reward", p)
    with jax.enable_x64(True):
        outputs = objective.outputs_at(jnp.asarray(START))
        params = np.asarray(objective.family(3).params(outputs))
        np.testing.assert_allclose(objective.family(3).probs(jnp.asarray(params)), START, rtol=1e-12)
    length = np.sum(params) if p is None else np.sum(np.abs(params) ** p)
    assert length == pytest.approx(0 if p is None else 3, abs=1e-12)


def test_the_first_policy_is_the_start_on_every_image(data):
    recipe = Recipe(1, batch_size=60, hidden=4, start=tuple(START))
    training = train_classifiers(data, Objective("reward", 3), "SGD", recipe, [0.1], [0])
    assert training.reward[0, 0, 0] == pytest.approx(np.mean(START[data.train_y]), rel=1e-12)
    assert training.loss[0, 0, 0] == pytest.approx(-np.mean(np.log(START[data.train_y])), rel=1e-12)
    assert training.test_accuracy[0, 0, 0] == pytest.approx(np.mean(data.test_y == 0), rel=1e-12)


def test_tuning_takes_the_best_rate_and_reports_other_seeds(data):
    tuned = tune(data, SCE, "SGD", SMALL, [1e-3, 0.3, 1e308], [0, 1], [2, 3])
    assert (tuned.learning_rate, tuned.at_edge) == (0.3, False)
    # The last rate overflows, which is the worst score there is and hides no other.
    assert tuned.scores[2] == -np.inf
    assert tuned.scores[1] > tuned.scores[0] > -np.inf
    alone = train_classifiers(data, SCE, "SGD", SMALL, [0.3], [2, 3])
    np.testing.assert_array_equal(tuned.training.loss, alone.loss)


def test_a_rate_at_which_one_seed_diverged_is_never_taken(data, monkeypatch):
    """By reward too, where the other seeds' mean can be the highest: 0.8 of 0.9 and 0 for one of nine."""

    def trained(data, objective, optimiser, recipe, learning_rates, seeds):
        reward = np.full((len(learning_rates), len(seeds), 2), 0.5)
        loss = np.ones_like(reward)
        reward[1:2], reward[1:2, 0], loss[1:2, 0] = 0.9, 0.0, np.inf
        return Training(reward, loss, reward)

    monkeypatch.setattr(classifier, "train_classifiers", trained)
    tuned = tune(data, Objective("reward"), "SGD", SMALL, [0.1, 0.2, 0.3], range(9), [9])
    assert tuned.learning_rate == 0.1
    np.testing.assert_array_equal(tuned.scores, [0.5, -np.inf, 0.5])


def test_a_best_rate_at_the_end_of_the_grid_is_flagged(data):
    # The same program as above. Cross-entropy falls faster at 0.3 than at the smaller rates.
    assert tune(data, SCE, "SGD", SMALL, [1e-3, 1e-2, 0.3], [0, 1], [2, 3]).at_edge


def test_a_run_that_overflows_counts_as_the_worst(data):
    training = train_classifiers(data, SCE, "SGD", SMALL, [1e-3, 0.3, 1e308], [0, 1])
    np.testing.assert_array_equal(training.diverged, [[False, False], [False, False], [True, True]])
    assert (training.reward[2, :, -1] == 0).all()
    assert (training.loss[2, :, -1] == np.inf).all()
    assert (training.test_accuracy[2, :, -1] == 0).all()
    assert np.isfinite(training.loss[:2]).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"optimiser": "RMSprop"}, "optimiser = 'RMSprop': must be one of SGD, momentum, Adam"),
        ({"learning_rates": [0.1, 0.0]}, r"learning_rates = \[0.1, 0.0\]: must be positive"),
        ({"seeds": []}, r"seeds = \[\]: must be at least one"),
        ({"recipe": Recipe(1, batch_size=61)}, "batch_size = 61: must be at most the 60 images"),
        ({"recipe": Recipe(1, 16, start=(0.5, 0.5))}, r"start has shape \(2,\): must be \(3,\)"),
        ({"recipe": Recipe(1, 16, start=(0.5, 0.5, 0.5))}, "start sums to 1.5: must sum to 1"),
        ({"recipe": Recipe(1, 16, start=(1.0, 0.0, 0.0))}, "start = .*: must be above 0 for every class"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(changed, message, data):
    settings = {"optimiser": "SGD", "recipe": SMALL, "learning_rates": [0.1], "seeds": [0]} | changed
    with pytest.raises(UserError, match=message):
        train_classifiers(data, SCE, **settings)


def test_recipes_objectives_and_grids_out_of_range_are_refused_by_name(data):
    with pytest.raises(UserError, match="epochs = 0: must be an integer ≥ 1"):
        Recipe(0)
    with pytest.raises(UserError, match="batch_size = 0: must be an integer ≥ 1"):
        Recipe(1, 0)
    with pytest.raises(UserError, match="hidden = -1: must be a number of units"):
        Recipe(1, 16, -1)
    with pytest.raises(UserError, match=r"p = 0\.5: must be a finite number ≥ 1"):
        Objective("reward", 0.5)
    with pytest.raises(UserError, match="scaled = True: must be False but for an escort's reward"):
        Objective("likelihood", 2, scaled=True)
    with pytest.raises(UserError, match=r"report_seeds = \[1, 2\]: must be apart .* shared: \[1\]"):
        tune(data, SCE, "SGD", SMALL, [0.1], [0, 1], [1, 2])
    with pytest.raises(UserError, match=r"learning_rates = \[0.2, 0.1\]: must be increasing"):
        tune(data, SCE, "SGD", SMALL, [0.2, 0.1], [0], [1])
