"""Shrink and perturb against the formula."""

import re

import jax
import numpy as np
import pytest
from remedy_agents import agent_of, exact
from remedy_views import batch_end

from escapevelocity.errors import UserError
from escapevelocity.ppo.remedies.shrink_perturb import ShrinkPerturb
from escapevelocity.ppo.remedy import Step


def changed_by(remedy, agent, fresh):
    """What a step and the end of a batch each make of an agent; its moments and state must stay."""
    step = Step(
        **{**dict.fromkeys(Step._fields), "agent": agent, "fresh": fresh, "moments": "m", "state": "s"}
    )
    after_step = remedy.after_step(step)
    after_batch, numbers = remedy.after_batch(batch_end(agent=agent, fresh=fresh, moments="m", state="s"))
    assert numbers == {}
    assert tuple(after_step[1:]) == tuple(after_batch[1:]) == ("m", "s")
    return after_step.agent, after_batch.agent


@pytest.mark.parametrize(("when", "which"), [("step", 0), ("batch", 1)])
def test_every_parameter_is_shrunk_and_mixed_with_a_fresh_one_when_it_is_time(when, which, rng):
    agent, fresh = agent_of("layer_norm", rng), agent_of("layer_norm", rng)
    results = changed_by(ShrinkPerturb(shrink=0.25, perturb=0.5, when=when), agent, fresh)
    assert results[1 - which] is agent
    leaves = (jax.tree.leaves(x) for x in (results[which], agent, fresh))
    for ours, old, new in zip(*leaves, strict=True):
        np.testing.assert_allclose(ours, 0.75 * exact(old) + 0.5 * exact(new), rtol=1e-6, atol=1e-6)


def test_shrinking_by_one_with_a_factor_of_one_is_a_new_start(rng):
    agent, fresh = agent_of("shared", rng), agent_of("shared", rng)
    result, _ = changed_by(ShrinkPerturb(shrink=1.0, perturb=1.0), agent, fresh)
    for ours, new in zip(jax.tree.leaves(result), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_array_equal(ours, new)


def test_it_is_idle_only_when_it_neither_shrinks_nor_perturbs():
    assert ShrinkPerturb(shrink=0.0, perturb=0.0).is_idle()
    assert not ShrinkPerturb(shrink=0.0).is_idle()
    assert not ShrinkPerturb(perturb=0.0).is_idle()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shrink": 1.5}, "shrink-perturb.shrink = 1.5: must be between 0 and 1"),
        ({"perturb": -1.0}, "shrink-perturb.perturb = -1.0: must be a finite number of at least 0"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=re.escape(message)):
        ShrinkPerturb(**fields)
