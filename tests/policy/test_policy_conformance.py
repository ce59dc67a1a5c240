"""What every family and objective must keep: jit = eager, vmap = loop, batch shapes, dtype, no state."""

import doctest
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import escapevelocity.policy as policy_room
from escapevelocity.policy import Categorical, DiagonalNormal, Escort, FSoftargmax, Softmax, TanhNormal

LOW, HIGH = [-1.0, 0.0, -2.0], [1.0, 0.5, 3.0]
FAMILIES = [
    TanhNormal(LOW, HIGH),
    TanhNormal(LOW, HIGH, std="exp"),
    DiagonalNormal(LOW, HIGH, std="exp"),
    Softmax(3),
    Softmax(3, temperature=0.5),
    Escort(3, p=2.5),
    FSoftargmax(3, alpha=0.9, reference=[0.2, 0.5, 0.3]),
]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=repr)


def everything(family, outputs, other, noise):
    """All that a trainer asks of a family, from one row of outputs or many."""
    params, params_new = family.params(outputs), family.params(other)
    action = family.sample(params, noise)
    return {
        "params": params,
        "action": action,
        "mode": family.mode(params),
        "environment": family.to_environment(action),
        "log_prob": family.log_prob(params_new, action),
        "entropy": family.entropy(params, noise),
        "base_entropy": family.base_entropy(params),
        "kl": family.kl(params, params_new),
    }


def inputs(family, shape, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    outputs, other = (jax.random.normal(k, (*shape, family.num_outputs), dtype) for k in keys[:2])
    return outputs, other, family.draw_noise(keys[2], shape, dtype)


def assert_close(one, two):
    # a few float32 roundings of sums of size ten; XLA may fuse and reorder
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one, two)


@every_family
def test_jit_agrees_with_eager_and_does_not_compile_twice(family):
    arguments = inputs(family, (2, 4))
    jitted = jax.jit(lambda *x: everything(family, *x))
    assert_close(jitted(*arguments), everything(family, *arguments))
    jitted(*inputs(family, (2, 4)))
    assert jitted._cache_size() == 1


@every_family
def test_vmap_and_leading_batch_axes_agree_with_a_loop(family):
    arguments = inputs(family, (2, 4))
    batched = everything(family, *arguments)
    mapped = jax.jit(jax.vmap(jax.vmap(lambda *x: everything(family, *x))))(*arguments)
    one = jax.jit(lambda *x: everything(family, *x))
    rows = [one(*(x[i, j] for x in arguments)) for i in range(2) for j in range(4)]
    looped = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(2, 4, *leaves[0].shape), *rows)
    assert_close(batched, looped)
    assert_close(mapped, looped)


@every_family
def test_an_empty_batch_gives_empty_answers(family):
    answers = jax.jit(lambda *x: everything(family, *x))(*inputs(family, (0,)))
    assert all(len(answer) == 0 for answer in answers.values())


@every_family
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtype_and_shapes_are_kept(family, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        answers = jax.jit(lambda *x: everything(family, *x))(*inputs(family, (2, 4), dtype))
        action_dtype = jnp.int32 if isinstance(family, Categorical) else dtype
        for name, answer in answers.items():
            assert answer.dtype == (action_dtype if name in ("action", "mode", "environment") else dtype), (
                name
            )
        assert answers["params"].shape == (2, 4, family.num_params)
        for name in ("log_prob", "entropy", "base_entropy", "kl"):
            assert answers[name].shape == (2, 4)


def test_noise_is_float32_by_default_and_float64_inside_enable_x64():
    for family in FAMILIES:
        assert family.draw_noise(jax.random.key(0), (2,)).dtype == jnp.float32
        with jax.enable_x64(True):
            assert family.draw_noise(jax.random.key(0), (2,)).dtype == jnp.float64


@every_family
def test_noise_depends_on_the_key_alone_and_covers_every_sample(family):
    one, same, other = (family.draw_noise(jax.random.key(k), (3, 2)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (3, 2, 3)
    assert len(np.unique(np.concatenate([one, other]))) == 2 * one.size


@every_family
def test_families_hold_no_arrays_and_can_be_static_arguments(family):
    assert jax.tree.leaves(family) == []
    jitted = jax.jit(lambda policy, logits: policy.mode(policy.params(logits)), static_argnums=0)
    outputs = inputs(family, (2, 4))[0]
    np.testing.assert_array_equal(jitted(family, outputs), family.mode(family.params(outputs)))


def test_families_with_other_hyper_parameters_are_not_equal():
    for i, family in enumerate(FAMILIES):
        assert [family == other for other in FAMILIES] == [i == j for j in range(len(FAMILIES))]


@every_family
def test_kl_is_the_expected_log_ratio_of_old_to_new(family):
    """Monte Carlo ties sample, log_prob and kl together, tanh and affine map included."""
    n = 20_000
    outputs, other, _ = inputs(family, ())

    @jax.jit
    def log_ratios_and_kl():
        old, new = family.params(outputs), family.params(other)
        many_old, many_new = (jnp.broadcast_to(x, (n, family.num_params)) for x in (old, new))
        action = family.sample(many_old, family.draw_noise(jax.random.key(7), (n,)))
        return family.log_prob(many_old, action) - family.log_prob(many_new, action), family.kl(old, new)

    log_ratio, kl = (np.asarray(x, np.float64) for x in log_ratios_and_kl())
    # four standard errors
    assert abs(log_ratio.mean() - kl) < 4 * log_ratio.std() / np.sqrt(n)


def test_every_public_name_is_documented():
    for name in policy_room.__all__:
        thing = getattr(policy_room, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name


@pytest.mark.parametrize(
    "module", ["categorical", "continuous", "escort", "fsoftargmax", "gradients", "losses", "objectives"]
)
def test_examples_in_the_docstrings_run(module):
    result = doctest.testmod(importlib.import_module(f"escapevelocity.policy.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
