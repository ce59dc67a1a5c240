"""Keep the best: which parameters are kept, that nothing is lost by a crash, and what loading checks."""

import os

import jax
import numpy as np
import pytest
from small_ppo import assert_same_bits
from walk_runs import WALK, Recorder, population, use_programs

from escapevelocity.errors import UserError
from escapevelocity.ppo.agent import load
from escapevelocity.ppo.best import WINDOW, BestKeeper, load_best_agents
from escapevelocity.ppo.job import PPOJob, state_template
from escapevelocity.ppo.training import resume_training
from escapevelocity.runs import Observer, resume, start
from escapevelocity.runs.best import BEST_FILE

SEEDS = (1, 2, 3)


@pytest.fixture(autouse=True)
def few_compilations(monkeypatch):
    use_programs(monkeypatch)


@pytest.fixture
def like():
    return state_template(WALK).learner.agent


def smoothed_best(rows, seed):
    """The best mean of five batches in a row, and the number of the last of them: by hand."""
    returns = [row["perf/return_mean"] for row in rows if row["seed"] == seed]
    means = {b: np.mean(returns[b - WINDOW + 1 : b + 1]) for b in range(WINDOW - 1, len(returns))}
    batch = max(means, key=means.__getitem__)
    return batch, means[batch]


def test_each_member_keeps_the_parameters_that_collected_its_best_batch(tmp_path, like):
    rows, states, snapshots = population()
    keeper = BestKeeper(tmp_path, SEEDS)
    job, state = PPOJob(keeper), PPOJob().initial_state(WALK)
    for k in range(3):
        state = job.segment(WALK, state, k, Recorder())
        assert_same_bits(state, states[k])  # Keeping changes nothing that is computed.
    kept = load_best_agents(tmp_path, like, 3)
    for index, seed in enumerate(SEEDS):
        batch, value = smoothed_best(rows, seed)
        assert kept["return"][index] == value
        assert kept["step"][index] == 64 * (batch + 1)
        # A snapshot is taken before each batch of this run, so it holds what collected it.
        before = jax.tree.map(lambda leaf, i=index: leaf[i], snapshots[batch][2])
        assert_same_bits(jax.tree.map(lambda leaf, i=index: leaf[i], kept["agent"]), before)


class Unended:
    """`BestKeeper.save` of a process that is killed before the segment ends: only the first call writes."""

    def __init__(self, save):
        self._save, self.calls = save, 0

    def __get__(self, keeper, owner):
        return lambda: self(keeper)

    def __call__(self, keeper):
        self.calls += 1
        if self.calls == 1:
            self._save(keeper)


def rows_with(returns, seed=1):
    return [
        {"seed": seed, "env_steps": 10 * (i + 1), "perf/return_mean": value}
        for i, value in enumerate(returns)
    ]


def kept_after(path, returns):
    """Offer a batch at a time, with parameters that say which batch they collected; give what was kept."""
    keeper = BestKeeper(path, (1,))
    for batch, row in enumerate(rows_with(returns)):
        keeper.before_update([{"w": np.full((1, 2), float(batch))}])
        keeper.offer([row])
    keeper.save()
    return load_best_agents(path, {"w": np.zeros((1, 2))}, 1)


def test_one_lucky_batch_is_not_the_best(tmp_path):
    lucky = [0.0] * 10 + [40.0] + [0.0] * 10 + [10.0] * 5 + [0.0] * 10
    # The window holds 40/5 = 8 from batch 10 on, and 10 at batch 25 alone.
    assert kept_after(tmp_path, lucky)["agent"]["w"].tolist() == [[25.0, 25.0]]


def test_batches_without_an_episode_are_passed_over_and_a_tie_keeps_the_earlier(tmp_path):
    kept = kept_after(tmp_path, [1.0, np.nan, 1.0, None, 1.0, 1.0, 1.0, 1.0])
    assert (kept["step"][0], kept["return"][0]) == (70, 1.0)


def test_too_few_batches_leave_no_best_but_say_that_one_is_wanted(tmp_path):
    kept = kept_after(tmp_path, [1.0] * (WINDOW - 1))
    assert (kept["step"][0], kept["return"][0]) == (0, -np.inf)


def test_a_run_killed_in_its_first_segment_still_keeps_the_best_when_it_is_resumed(tmp_path, like):
    whole = tmp_path / "whole"
    start(PPOJob(BestKeeper(whole, SEEDS)), WALK, whole)

    class Killed(BaseException):
        pass

    class Kill(Observer):
        def on_row(self, row):
            raise Killed

    path = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BestKeeper, "save", save_unless_ended := Unended(BestKeeper.save))
        with pytest.raises(Killed):
            start(PPOJob(BestKeeper(path, SEEDS)), WALK, path, [Kill()])
    assert save_unless_ended.calls > 1
    with pytest.raises(
        UserError, match=r"seed = 1: must be a seed with returns of 5 batches, to have a best"
    ):
        load(path, 1, best=True)
    assert resume_training(path).status.state == "finished"
    assert (path / "snapshots" / BEST_FILE).read_bytes() == (whole / "snapshots" / BEST_FILE).read_bytes()


def test_a_run_resumed_after_a_crash_keeps_the_same_best(tmp_path, like):
    path = tmp_path / "run"
    start(PPOJob(BestKeeper(path, SEEDS)), WALK, path)
    best = path / "snapshots" / BEST_FILE
    whole = best.read_bytes()
    os.remove(path / "checkpoints" / "00003.json")  # as if killed in the third segment …
    best.unlink()  # … before it was written
    keeper = BestKeeper(path, SEEDS)
    keeper.restore(like)
    assert resume(PPOJob(keeper), WALK, path).state == "finished"
    assert best.read_bytes() == whole
    # The agent that `load` gives acts with these parameters.
    batch, _ = smoothed_best(population()[0], 2)
    agent = load(path, 2, best=True)
    assert agent.env_steps == 64 * (batch + 1)
    kept = load_best_agents(path, like, 3)["agent"].actor
    assert_same_bits(agent.actor, jax.tree.map(lambda leaf: leaf[1], kept))
    with pytest.raises(UserError, match="checkpoint = 1: must be left out when the best is wanted"):
        load(path, 2, checkpoint=1, best=True)


def test_a_damaged_file_is_told_and_does_not_stop_a_resume(tmp_path, like):
    path = tmp_path / "run"
    start(PPOJob(BestKeeper(path, SEEDS)), WALK, path)
    best = path / "snapshots" / BEST_FILE
    data = bytearray(best.read_bytes())
    data[-1] ^= 1
    best.write_bytes(data)
    with pytest.raises(UserError, match="damaged: it does not match its own checksum"):
        load_best_agents(path, like, 3)
    best.write_bytes(b"short")
    with pytest.raises(UserError, match="cannot be read"):
        load_best_agents(path, like, 3)
    os.remove(path / "checkpoints" / "00003.json")
    with pytest.warns(RuntimeWarning, match="the best checkpoint starts anew"):
        assert resume_training(path).status.state == "finished"
