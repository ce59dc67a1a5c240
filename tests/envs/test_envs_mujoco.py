"""MuJoCo on EnvPool: every row stepped again with Gymnasium's own simulator, and Hopper's rule of a fall."""

import gymnasium
import numpy as np
import pytest

from envs.probes import needs_envpool
from envs.walks import uniform, walk
from escapevelocity.envs import describe_task

pytestmark = needs_envpool


def hopper_has_fallen(observations):
    """Gymnasium's documentation of Hopper-v4: healthy while height > 0.7, |angle| < 0.2 and every |state| < 100."""
    height, angle = observations[..., 0], observations[..., 1]
    healthy = (height > 0.7) & (np.abs(angle) < 0.2) & (np.abs(observations[..., 1:]) < 100).all(-1)
    return ~healthy


def test_hopper_ends_when_it_has_fallen_and_at_the_limit():
    limit = 25
    task = describe_task("Hopper-v4", "envpool", episode_limit=limit)
    rows = walk(task, list(range(8)), 400, uniform(task, seed=1))
    fallen, at_limit = hopper_has_fallen(rows.next_observations), rows.elapsed == limit
    assert (fallen & ~at_limit).sum() > 50
    assert (~fallen & at_limit).sum() > 20
    # EnvPool does not say whether a hopper at its limit has fallen as well: it is a truncation.
    np.testing.assert_array_equal(rows.terminated, fallen & ~at_limit)
    np.testing.assert_array_equal(rows.truncated, at_limit)
    # An episode starts at rest, upright, with noise of at most 0.005 in every entry.
    ended = (rows.terminated | rows.truncated)[:-1]
    starts = rows.observations[1:][ended]
    assert np.abs(starts - [1.25, *[0] * 10]).max() <= 0.005
    np.testing.assert_array_equal(rows.observations[1:][~ended], rows.next_observations[:-1][~ended])


@pytest.mark.parametrize(
    # Tolerances: the same equations in float64; the cheetah's contact solver amplifies rounding, rarely to 1e-7.
    ("name", "num_positions", "hidden", "tolerance"),
    [("Hopper-v4", 6, 1, 1e-9), ("HalfCheetah-v4", 9, 1, 1e-5), ("InvertedPendulum-v4", 2, 0, 1e-9)],
)
def test_a_row_of_envpool_is_what_gymnasium_does_from_the_same_state(name, num_positions, hidden, tolerance):
    """`hidden`: leading positions left out of the observation (x), which the dynamics do not depend on."""
    limit = 15
    task = describe_task(name, "envpool", episode_limit=limit)
    rows = walk(task, [1, 2, 3], 100, uniform(task, seed=2))
    environment = gymnasium.make(name).unwrapped
    environment.reset(seed=0)
    compared = 0
    for t, i in np.ndindex(rows.rewards.shape):
        positions, velocities = np.split(rows.observations[t, i], [num_positions - hidden])
        if name == "Hopper-v4" and np.abs(velocities).max() >= 10:
            continue  # The observation clips velocities there, so the state is not known.
        environment.set_state(np.concatenate([np.zeros(hidden), positions]), velocities)
        after, reward, terminated, _, _ = environment.step(rows.actions[t, i])
        np.testing.assert_allclose(rows.next_observations[t, i], after, rtol=0, atol=tolerance)
        # Rewards are float32, below 8: 8·2⁻²⁴ < 1e-6; the cheetah's is its x velocity, (x' − x) / 0.05.
        assert rows.rewards[t, i] == pytest.approx(reward, abs=1e-6 + 20 * tolerance)
        at_limit = rows.elapsed[t, i] == limit
        assert bool(rows.terminated[t, i]) == (terminated and not at_limit)
        assert bool(rows.truncated[t, i]) == at_limit
        compared += 1
    environment.close()
    assert compared > 250
