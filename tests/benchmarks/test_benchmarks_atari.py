"""The Atari benchmark: its arithmetic by hand, the peer's games, and a smoke run."""

import json

import numpy as np
import pytest
from benchmarks._speed_summary import summarise_training

from benchmarks import atari


def trained(rate: float, peak: float = 500.0):
    """A summary of one round with `rate` agent steps/s, batches of 1,024."""
    seconds = 1024 / rate
    raw = {
        "batch_s": [3 * seconds, seconds, seconds],
        "first_batch_done_s": 4 * seconds,
        "rss_mib": [peak] * 3,
        "peak_mib": peak,
        "collect_s": [seconds / 4] * 3,
        "update_s": [seconds / 2] * 3,
    }
    return summarise_training([raw], 1, 1024)


def test_goals_hold_ours_against_the_faster_number_of_threads():
    trainings = {
        "Stable-Baselines3": trained(200.0),
        "Stable-Baselines3, one thread": trained(250.0),
        "Stable-Baselines3, shared trunk": trained(900.0),
        "escapevelocity": trained(250.0, peak=1100.0),
    }
    least, aim, memory = atari.goals(trainings)
    assert (least.measured, least.reached) == ("1.00 ×", True)
    assert (aim.measured, aim.reached) == ("1.00 ×", False)
    assert (memory.measured, memory.reached) == ("1,100 MiB", False)


def test_without_the_peer_only_memory_is_judged_and_without_ours_nothing():
    assert [goal.reached for goal in atari.goals({"escapevelocity": trained(300.0)})] == [True]
    assert atari.goals({"Stable-Baselines3": trained(300.0)}) == []


def test_the_projection_counts_frames():
    # 10⁸ frames are 33.3 million steps of three frames: 20,000 steps/s take 1,667 s.
    assert "28 minutes" in atari.projection(trained(20_000.0))


def test_the_report_has_a_row_for_each_contender_and_shares_that_add_up():
    trainings = {"Stable-Baselines3": trained(200.0), "escapevelocity": trained(300.0)}
    cpu = {name: atari.cpu_per_batch([{"cpu_s": [50.0, 4.0, 6.0]}]) for name in trainings}
    text = atari.report(trainings, cpu, 1, 2)
    row = next(line for line in text.splitlines() if line.startswith("| escapevelocity |"))
    assert [cell.strip() for cell in row.split("|")[3:9]] == [
        *("1.50 ×", "5.00 (5.00–5.00)"),
        *("25", "50", "0", "25"),
    ]


def test_a_partial_run_does_not_replace_the_results_of_a_full_one():
    with pytest.raises(SystemExit, match="give --out DIR"):
        atari.main(["--only", "escapevelocity"])


def test_the_peers_games_show_the_same_screens_and_rewards_as_ours():
    pytest.importorskip("stable_baselines3")
    from benchmarks._sb3_atari import AtariGames

    from escapevelocity.envs import FrameStack, describe_task, make_environments

    # Without sticky actions both play the same game; its first steps differ in the padding of the stack alone.
    peer = AtariGames("ALE/Phoenix-v5", 2, frame_skip=3, sticky_actions=0.0, seed=5)
    ours = make_environments(
        describe_task("ALE/Phoenix-v5", backend="ale", frame_skip=3, sticky_actions=0.0), [5, 6]
    )
    stacks = np.zeros((2, *FrameStack.output_shape), np.uint8)
    frames = FrameStack()
    frames.write(ours.reset(), np.zeros(2, np.int64), stacks)
    theirs = peer.reset()
    np.testing.assert_array_equal(theirs[:, 3], stacks[..., 3])
    actions = np.random.default_rng(0).integers(0, 8, (120, 2))
    rewarded = 0.0
    for number, action in enumerate(actions, 1):
        ours.send(action)
        step = ours.receive()
        peer.step_async(action)
        theirs, rewards, ended, _ = peer.step_wait()
        frames.write(step.next_observations, np.full(2, number), stacks)
        np.testing.assert_array_equal(np.sign(step.rewards), rewards)
        np.testing.assert_array_equal(step.terminated, ended)
        if number >= 3:
            np.testing.assert_array_equal(theirs.transpose(0, 2, 3, 1), stacks)
        rewarded += rewards.sum()
    assert rewarded > 0
    peer.close()
    ours.close()


@pytest.mark.slow
@pytest.mark.usefixtures("quickly_compiling_children")
def test_a_quick_run_writes_numbers_for_every_contender(tmp_path):
    """But for those that differ from another by nothing but a number of threads, or by health left out."""
    pytest.importorskip("stable_baselines3")
    names = ["Stable-Baselines3", "Stable-Baselines3, shared trunk", "escapevelocity"]
    atari.main(["--quick", "--out", str(tmp_path), "--only", *names])
    written = json.loads((tmp_path / "atari.json").read_text())
    assert list(written["trainings"]) == names
    assert all(training["rate"]["median"] > 0 for training in written["trainings"].values())
