"""The escort as a torch distribution against the library's own in JAX, and against torch's conventions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.distributions import Categorical, Independent, kl_divergence  # noqa: E402

from escapevelocity.interop import EscortCategorical  # noqa: E402
from escapevelocity.policy import Escort  # noqa: E402


@pytest.fixture(params=[1, 3.5])
def p(request):
    return request.param


def parameters(rng):
    theta = rng.normal(size=(6, 4))
    theta[0] = [0.0, 1.0, -2.0, 1e-14]
    theta[1] = 0.0
    theta[2] *= 1e20
    return theta


def test_numbers_and_gradients_are_those_of_the_library_in_jax(rng, p):
    theta, actions = parameters(rng), np.array([0, 1, 2, 3, 0, 2])
    other = rng.normal(size=(6, 4))
    ours = Escort(4, p)
    x = torch.from_numpy(theta).clone().requires_grad_()
    torch_policy = EscortCategorical(x, p)
    with jax.enable_x64(True):
        t, a = jnp.asarray(theta), jnp.asarray(actions)

        def everything(t):
            return (
                ours.probs(t),
                ours.log_probs(t),
                ours.log_prob(t, a),
                ours.base_entropy(t),
                ours.kl(t, jnp.asarray(other)),
            )

        expected = jax.jit(everything)(t)
        gradients = jax.jit(jax.jacrev(lambda t: tuple(x.sum() for x in everything(t))))(t)
        modes = ours.mode(t)
    values = (
        torch_policy.probs,
        torch_policy.logits,
        torch_policy.log_prob(torch.from_numpy(actions)),
        torch_policy.entropy(),
        kl_divergence(torch_policy, EscortCategorical(torch.from_numpy(other), p)),
    )
    smooth = (theta != 0) | (p > 1)  # With p = 1, |θ| has a kink at 0 with any slope in between.
    for value, one, slope in zip(values, expected, gradients, strict=True):
        np.testing.assert_allclose(value.detach(), one, rtol=1e-12, atol=1e-14)
        (gradient,) = torch.autograd.grad(value.sum(), x, retain_graph=True)
        np.testing.assert_allclose(gradient[smooth], np.asarray(slope)[smooth], rtol=1e-9, atol=1e-12)
    assert torch_policy.mode.tolist() == modes.tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    theta = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 0.0], [2.0, -1.0, 1e-3]], dtype=dtype)
    x, exact = theta.clone().requires_grad_(), theta.float().requires_grad_()
    policy, reference = EscortCategorical(x, 2), EscortCategorical(exact, 2)
    actions = torch.tensor([1, 0, 2])
    for found, expected in (
        (policy.log_prob(actions), reference.log_prob(actions)),
        (policy.entropy(), reference.entropy()),
    ):
        torch.testing.assert_close(found, expected)
        assert torch.isfinite(found).all()
    (slope,) = torch.autograd.grad(policy.entropy().sum(), x)
    (expected,) = torch.autograd.grad(reference.entropy().sum(), exact)
    torch.testing.assert_close(slope, expected.to(dtype))


def test_a_definition_by_hand():
    policy = EscortCategorical(torch.tensor([[3.0, -1.0, 0.0]]), 2)
    torch.testing.assert_close(policy.probs, torch.tensor([[0.9, 0.1, 0.0]]))
    assert policy.entropy().item() == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert policy.log_prob(torch.tensor([1])).item() == pytest.approx(math.log(0.1))
    assert policy.mode.tolist() == [0]


def test_large_powers_tend_to_the_softmax_of_the_logarithms():
    # θ = 1 + x/p: |θ|^p → exp(x).
    logits = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    policy = EscortCategorical(1 + logits / 1e6, 1e6)
    torch.testing.assert_close(policy.probs, torch.softmax(logits, -1), rtol=1e-5, atol=0)


def test_samples_follow_the_probabilities_and_the_seed():
    policy = EscortCategorical(torch.tensor([[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]]), 2)
    torch.manual_seed(3)
    drawn = policy.sample((20_000,))
    torch.manual_seed(3)
    assert torch.equal(policy.sample((20_000,)), drawn)
    assert drawn.shape == (20_000, 2)
    assert drawn.dtype == torch.int64
    shares = torch.stack([(drawn == k).double().mean(0) for k in range(3)], dim=-1)
    # Five standard errors of a share of 20,000 draws: 5·√(0.25/20,000) = 0.018.
    torch.testing.assert_close(shares, policy.probs.double(), rtol=0, atol=0.018)
    assert (drawn[:, 0] != 2).all()
    assert policy.sample((2, 0)).shape == (2, 0, 2)
    assert policy.sample().shape == (2,)


def test_it_has_the_shapes_of_torchs_own_categorical():
    theta = torch.rand(2, 5, 3) + 0.5
    mine, torchs = EscortCategorical(theta, 2), Categorical(probs=theta**2 / (theta**2).sum(-1, keepdim=True))
    for one, other in ((mine, torchs), (mine.expand((4, 2, 5)), torchs.expand((4, 2, 5)))):
        assert one.batch_shape == other.batch_shape
        assert one.event_shape == other.event_shape
        assert one.param_shape == other.param_shape
        torch.testing.assert_close(one.enumerate_support(), other.enumerate_support())
        torch.testing.assert_close(one.enumerate_support(expand=False), other.enumerate_support(expand=False))
        values = one.sample((7,))
        assert values.shape == other.sample((7,)).shape
        torch.testing.assert_close(one.log_prob(values), other.log_prob(values))
        torch.testing.assert_close(one.log_prob(torch.tensor(1)), other.log_prob(torch.tensor(1)))
        assert one.mean.isnan().all()
        assert one.variance.shape == other.variance.shape
    actions = mine.sample()
    torch.testing.assert_close(
        Independent(mine, 1).log_prob(actions), Independent(torchs, 1).log_prob(actions)
    )


def test_torch_checks_values_and_parameters():
    policy = EscortCategorical(torch.ones(3), 2, validate_args=True)
    with pytest.raises(ValueError, match="within the support"):
        policy.log_prob(torch.tensor(3))
    with pytest.raises(ValueError, match="parameter theta"):
        EscortCategorical(torch.tensor([1.0, torch.nan]), 2, validate_args=True)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="p = inf: must be a finite number of at least 1"):
        EscortCategorical(torch.ones(2), math.inf)
    with pytest.raises(
        ValueError, match=r"theta.shape = \(2, 0\): must be \(\*batch, K\) with at least one action"
    ):
        EscortCategorical(torch.ones(2, 0), 2)
