"""Evaluation and films of agents: every episode counts once, as if it were lived alone."""

import dataclasses
import os

import gymnasium
import jax
import numpy as np
import pytest

import escapevelocity
from escapevelocity.envs import ObservationStatistics, Purpose, environment_seeds
from escapevelocity.errors import UserError
from escapevelocity.ppo.agent import TrainedAgent
from escapevelocity.ppo.evaluation import evaluate, record_video
from escapevelocity.ppo.initialization import initial_agent
from escapevelocity.ppo.job import task_of


class Walk(gymnasium.Env):
    """Actions 5, 6 and 7 are worth 1, 2 and 4; reset draws how long the episode is, 1 to 20 steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Discrete(3, start=5)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = int(self.np_random.integers(1, 21))
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self._left -= 1
        return self._observe(), 2.0 ** (action - 5), self._left == 0, False, {}

    def render(self):
        raise RuntimeError("no display")

    def _observe(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


@pytest.fixture
def walk():
    gymnasium.register("AgentWalk-v0", Walk, max_episode_steps=25)
    yield untrained("AgentWalk-v0", append_time=True)
    del gymnasium.registry["AgentWalk-v0"]


def untrained(name, append_time=False):
    """An agent as it begins, without a run."""
    spec = escapevelocity.default_spec(name, "classic")
    spec = dataclasses.replace(
        spec, environment=dataclasses.replace(spec.environment, backend="gymnasium", append_time=append_time)
    )
    task = task_of(spec)
    network = dataclasses.replace(spec.network, initialization="torch")
    actor = initial_agent(
        jax.random.key(0), network, task.observation_size + append_time, task.actions.size
    ).actor
    return TrainedAgent(spec, task, 1, 0, actor, ObservationStatistics.identity(1, task.observation_size))


def test_discrete_actions_that_do_not_start_at_0_are_shifted(walk):
    states = np.random.default_rng(3).uniform(-1, 1, (300, 2))
    elapsed = np.arange(300) % 25
    drawn = walk.act(states, elapsed, mode=False, key=jax.random.key(0))
    assert set(drawn.tolist()) == {5, 6, 7}
    hidden = np.column_stack([states, 2 * elapsed / 25 - 1])
    for weight, bias in zip(walk.actor.network.weights[:2], walk.actor.network.biases[:2], strict=True):
        hidden = np.tanh(hidden @ np.asarray(weight).T + np.asarray(bias))
    logits = hidden @ np.asarray(walk.actor.network.weights[2]).T + np.asarray(walk.actor.network.biases[2])
    np.testing.assert_array_equal(walk.act(states, elapsed), 5 + logits.argmax(axis=1))


def lived_alone(agent, seed):
    """One episode in an environment of its own, with the most likely actions: return and length."""
    environment = gymnasium.make(agent.task.name, max_episode_steps=agent.task.episode_limit)
    observation, _ = environment.reset(seed=seed)
    total = length = 0
    while True:
        observation, reward, terminated, truncated, _ = environment.step(agent.act(observation, length))
        total, length = total + reward, length + 1
        if terminated or truncated:
            return total, length


@pytest.mark.parametrize("seed", [0, 5])
def test_an_evaluation_counts_each_episode_once_as_if_it_were_lived_alone(walk, seed):
    result = evaluate(walk, 12, seed=seed)
    seeds = environment_seeds([seed], 12, purpose=Purpose.EVALUATION)
    expected = [lived_alone(walk, environment_seed) for environment_seed in seeds]
    np.testing.assert_array_equal(result.returns, [total for total, _ in expected])
    np.testing.assert_array_equal(result.lengths, [length for _, length in expected])
    assert len(set(result.lengths.tolist())) > 3  # Short ones were over long before the longest.


def test_a_video_is_a_gif_of_every_step(tmp_path):
    pytest.importorskip("pygame")
    from PIL import Image, ImageSequence

    agent = untrained("CartPole-v1")
    count = record_video(agent, tmp_path / "new" / "film.gif", seed=3)
    _, length = lived_alone(agent, 3)
    assert 1 < count == length
    with Image.open(tmp_path / "new" / "film.gif") as film:
        assert film.format == "GIF"
        assert film.size == (600, 400)
        # 25 frames per second; equal neighbours are stored once, for longer.
        assert film.n_frames > 1
        assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(film)) == 40 * count
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["film.gif"]
    assert record_video(agent, tmp_path / "short.gif", seed=3, max_frames=2) == 2
    # No cart falls within 4 steps; the run's own limit ends the episode.
    limited = dataclasses.replace(agent, task=dataclasses.replace(agent.task, episode_limit=4))
    assert record_video(limited, tmp_path / "limited.gif", seed=3) == 4


def test_a_film_asks_for_no_sound(tmp_path, monkeypatch):
    """On a machine without sound pygame's mixer prints lines of errors otherwise."""
    heard = []

    class Listening(Walk):
        def __init__(self, render_mode=None):
            super().__init__(render_mode)
            heard.append(os.environ.get("SDL_AUDIODRIVER"))

        def render(self):
            return np.zeros((4, 4, 3), np.uint8)

    gymnasium.register("AgentListening-v0", Listening, max_episode_steps=25)
    agent = untrained("AgentListening-v0")
    try:
        for given, expected in ((None, "dummy"), ("alsa", "alsa")):
            monkeypatch.setenv("SDL_AUDIODRIVER", "of the user")  # So that what is set here is taken back.
            monkeypatch.delenv("SDL_AUDIODRIVER") if given is None else monkeypatch.setenv(
                "SDL_AUDIODRIVER", given
            )
            record_video(agent, tmp_path / "film.gif", max_frames=2)
            assert heard.pop() == expected
    finally:
        del gymnasium.registry["AgentListening-v0"]


def test_a_task_with_discrete_observations_can_be_filmed(tmp_path):
    pytest.importorskip("pygame")
    assert record_video(untrained("FrozenLake-v1"), tmp_path / "lake.gif", max_frames=3) >= 1
    assert (tmp_path / "lake.gif").read_bytes().startswith(b"GIF89a")


def test_a_film_that_cannot_be_drawn_is_told_in_one_line_and_leaves_nothing(walk, tmp_path):
    with pytest.raises(
        UserError, match=r"^video: cannot draw AgentWalk-v0 here \(no display\); .*MUJOCO_GL=egl$"
    ):
        record_video(walk, tmp_path / "film.gif")
    unknown = dataclasses.replace(walk, task=dataclasses.replace(walk.task, name="Gone-v0"))
    with pytest.raises(UserError, match=r"^video: Gymnasium cannot make Gone-v0"):
        record_video(unknown, tmp_path / "film.gif")
    assert list(tmp_path.iterdir()) == []
