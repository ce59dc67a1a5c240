"""Real processes: the same seed gives the same run, whatever is done to the process in between."""

import dataclasses
import json
import signal
import time

import numpy as np
import pytest

from end_to_end import SMALL, checkpoint, contents, ev, launch, records
from escapevelocity.ppo.config import EnvironmentConfig, NetworkConfig, OptimizerConfig
from escapevelocity.ppo.training import default_spec, train
from escapevelocity.runs import Observer, open_run

# 16 segments of three or four batches, 30 ms and more each: time enough to be stopped in, and between, segments.
SETTINGS = [*SMALL, "--steps", "6400"]
SEGMENTS, BATCHES = 16, 50
BOUNDARIES = [BATCHES * k // SEGMENTS for k in range(SEGMENTS + 1)]
SEEDS = {"one": ["5"], "population": ["1", "2", "3"]}


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Compiled programs, shared by the processes of these tests."""
    return tmp_path_factory.mktemp("xla-cache")


@pytest.fixture(scope="module")
def undisturbed(cache, tmp_path_factory):
    """A run of one member and one of three, that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    for name, seeds in SEEDS.items():
        code, printed, err = ev(
            cache, "train", "Hopper-v4", *SETTINGS, "--seeds", *seeds, "--out", out, "--name", name
        )
        assert (code, err) == (0, "")
        assert "finished: 6,400 of 6,400 steps per seed" in printed
    return out


def status(run):
    return json.loads((run / "status.json").read_text())


@pytest.mark.slow
def test_a_run_is_what_its_folder_says_it_is(undisturbed):
    """The ground of the tests below: there is something to compare."""
    for name, seeds in SEEDS.items():
        run = undisturbed / name
        state = status(run)
        assert (state["state"], state["segments_done"], state["segments_total"]) == (
            "finished",
            SEGMENTS,
            SEGMENTS,
        )
        assert sorted(int(path.stem) for path in run.glob("checkpoints/*.json")) == list(range(SEGMENTS + 1))
        assert sorted(int(path.stem) for path in run.glob("snapshots/*.json")) == list(range(41))
        table = records(run)
        pairs = list(zip(table["batch"].to_pylist(), table["seed"].to_pylist(), strict=True))
        assert pairs == [(batch, int(seed)) for batch in range(BATCHES) for seed in seeds]
        assert table["env_steps"].to_pylist() == [128 * (batch + 1) for batch, _ in pairs]
        assert table["segment"].to_pylist() == [
            np.searchsorted(BOUNDARIES, batch, side="right") - 1 for batch, _ in pairs
        ]
        weights = "learner.agent.actor.network.weights[0]"
        first, last = (
            next(v for k, v in checkpoint(run, n).items() if k.endswith(weights)) for n in (0, SEGMENTS)
        )
        assert first.shape[0] == len(seeds)
        assert not np.array_equal(first, last)


@pytest.mark.slow
def test_the_same_command_twice_gives_identical_records_and_arrays_and_another_seed_does_not(
    cache, undisturbed, tmp_path
):
    again = ["train", "Hopper-v4", *SETTINGS, "--out", tmp_path]
    assert ev(cache, *again, "--seeds", "1", "2", "3", "--name", "again")[0] == 0
    found, expected = contents(tmp_path / "again"), contents(undisturbed / "population")
    assert found == expected
    assert (tmp_path / "again" / "spec.json").read_bytes() == (
        undisturbed / "population" / "spec.json"
    ).read_bytes()
    assert contents(undisturbed / "one")["records:loss/value"] != expected["records:loss/value"]


def wait_for(path, process):
    """Wait until a file is there; the process must not have ended otherwise."""
    for _ in range(20_000):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    pytest.fail(f"{path} did not come")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "signals"),
    [
        ("one", [signal.SIGKILL, signal.SIGINT, signal.SIGKILL]),
        ("population", [signal.SIGTERM, signal.SIGKILL]),
    ],
)
def test_a_run_stopped_at_random_moments_and_resumed_is_bit_identical_to_one_that_was_not(
    cache, undisturbed, tmp_path, name, signals
):
    run = tmp_path / "run"
    rng = np.random.default_rng(20240501 + len(name))
    command = ["train", "Hopper-v4", *SETTINGS, "--seeds", *SEEDS[name], "--out", tmp_path, "--name", "run"]
    done = 0
    for signum in signals:
        process = launch(cache, *command)
        # Some segments further, and then anywhere in the next one or two.
        target = done + int(rng.integers(1, 4))
        wait_for(run / "checkpoints" / f"{target:05d}.json", process)
        time.sleep(rng.uniform(0.0, 0.06))
        process.send_signal(signum)
        process.communicate(timeout=60)
        done = max(int(path.stem) for path in run.glob("checkpoints/*.json"))
        assert target <= done < SEGMENTS
        if signum == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
            assert status(run)["state"] == "running"  # A process that was killed could not say otherwise.
        else:
            assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[signum]
            state = status(run)
            assert (state["state"], state["why"]) == ("interrupted", f"stopped by {signum.name}")
            assert state["exit_code"] == process.returncode
            assert set(records(run)["batch"].to_pylist()) >= set(range(BOUNDARIES[done]))
        command = ["resume", run]
    code, printed, err = ev(cache, *command)
    assert (code, err) == (0, "")
    assert "finished: 6,400 of 6,400 steps per seed" in printed
    assert contents(run) == contents(undisturbed / name)
    assert len(json.loads((run / "provenance.json").read_text())["sessions"]) == 1 + len(signals)


@pytest.mark.slow
def test_a_signal_while_the_process_starts_leaves_nothing_and_keeps_its_exit_code(cache, tmp_path):
    """The statistics of the observations alone take minutes here; the signal comes while they are measured."""
    command = [
        "train",
        "Hopper-v4",
        *SETTINGS,
        "--normalization-steps",
        "50000000",
        "--out",
        tmp_path,
        "--name",
        "run",
    ]
    for signum, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = launch(cache, *command)
        wait_for(tmp_path / "run" / ".lock", process)
        time.sleep(1.0)
        process.send_signal(signum)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (code, "")
        assert not (tmp_path / "run").exists()


def test_ctrl_c_in_a_script_ends_the_loop_over_runs_and_leaves_the_run_in_order(tmp_path):
    """`train` must not return as if nothing had happened: the next run of the loop would start."""

    class PressCtrlC(Observer):
        def on_row(self, row):
            signal.raise_signal(signal.SIGINT)

    spec = dataclasses.replace(
        default_spec("CartPole-v1"),
        steps=128,
        environment=EnvironmentConfig(num_envs=2, rollout_length=32, append_time=False, normalization="none"),
        optimizer=OptimizerConfig(epochs=1, minibatch_size=32),
        network=NetworkConfig(hidden=(8,), head="softmax"),
    )
    with pytest.raises(KeyboardInterrupt):
        train(spec, tmp_path, "run", [PressCtrlC()])
    assert open_run(tmp_path / "run").status.state == "interrupted"
    assert open_run(tmp_path / "run").records().num_rows == 1
