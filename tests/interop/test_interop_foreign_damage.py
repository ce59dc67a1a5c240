"""Logs of killed, restarted and broken runs, and folders of several."""

import math
import struct

import numpy as np
import pytest
from foreign_logs import rllib_result, sb3_rows, write_csv, write_events, write_json_lines

from escapevelocity.errors import UserError
from escapevelocity.health.verdict import CAUSES
from escapevelocity.interop.foreign import advice, read_foreign

tensorboardX = pytest.importorskip("tensorboardX")
from tensorboardX.proto import event_pb2, summary_pb2, tensor_pb2  # noqa: E402

SCALARS = [("losses/entropy", 0.5 + i, 100 * (i + 1)) for i in range(4)]


def read(path):
    found = read_foreign(path)
    assert found is not None
    return found


def test_an_event_file_cut_anywhere_gives_the_entries_that_are_whole(tmp_path):
    file = write_events(tmp_path / "run", SCALARS)
    whole = file.read_bytes()
    ends, at = [], 0  # Where each entry ends, by TensorFlow's TFRecord format.
    while at < len(whole):
        at += 8 + 4 + struct.unpack_from("<Q", whole, at)[0] + 4
        ends.append(at)
    cut = tmp_path / "cut.tfevents.1"
    for length in range(len(whole) + 1):
        cut.write_bytes(whole[:length])
        entries = sum(end <= length for end in ends) - 1  # The first names the format's version.
        if entries < 1:
            with pytest.raises(UserError, match="is empty"):
                read_foreign(cut)
            continue
        found = read(cut)
        np.testing.assert_array_equal(found.records["policy/entropy"], [0.5 + i for i in range(entries)])
        killed = any("ends in the middle of an entry" in note for note in found.notes)
        assert killed == (length not in ends)


def test_a_damaged_byte_ends_what_is_read_and_is_told(tmp_path):
    file = write_events(tmp_path / "run", SCALARS)
    content = bytearray(file.read_bytes())
    content[-10] ^= 1  # Inside the last entry.
    file.write_bytes(bytes(content))
    found = read(file)
    np.testing.assert_array_equal(found.records["env_steps"], [100, 200, 300])
    assert any("is damaged at byte" in note for note in found.notes)


def test_large_entries_are_passed_over(tmp_path):
    writer = tensorboardX.SummaryWriter(str(tmp_path))
    writer.add_scalar("losses/entropy", 0.5, 1)
    writer.add_image("video", np.random.default_rng(0).random((3, 200, 200)), 1)
    writer.add_scalar("losses/entropy", 0.25, 2)
    writer.close()
    assert max(file.stat().st_size for file in tmp_path.iterdir()) > 65_536
    np.testing.assert_array_equal(read(tmp_path).records["policy/entropy"], [0.5, 0.25])


def test_scalars_that_are_stored_as_tensors_are_read(tmp_path):
    """As tf.summary.scalar of TensorFlow 2 does it, in either of the two encodings of a tensor."""
    tensors = [
        tensor_pb2.TensorProto(dtype=1, float_val=[0.5]),
        tensor_pb2.TensorProto(dtype=1, tensor_content=struct.pack("<f", 0.25)),
        tensor_pb2.TensorProto(dtype=2, double_val=[0.125]),
        tensor_pb2.TensorProto(dtype=1, tensor_content=struct.pack("<2f", 1.0, 2.0)),  # No scalar.
    ]
    writer = tensorboardX.SummaryWriter(str(tmp_path))
    for step, tensor in enumerate(tensors):
        value = summary_pb2.Summary.Value(tag="losses/entropy", tensor=tensor)
        event = event_pb2.Event(step=step, summary=summary_pb2.Summary(value=[value]))
        writer.file_writer.add_event(event, step)
    writer.close()
    np.testing.assert_array_equal(read(tmp_path).records["policy/entropy"], [0.5, 0.25, 0.125])


def test_a_restart_supersedes_what_had_been_logged_from_its_step_on(tmp_path):
    first = [("losses/entropy", 1.0, 100), ("losses/entropy", 2.0, 200), ("losses/entropy", 3.0, 300)]
    again = [("losses/entropy", 20.0, 200), ("losses/entropy", 40.0, 400)]
    found = read(write_events(tmp_path / "one_file", first + again))
    np.testing.assert_array_equal(found.records["env_steps"], [100, 200, 400])
    np.testing.assert_array_equal(found.records["policy/entropy"], [1, 20, 40])
    assert "the step goes back once: what a restart logged again is counted once" in found.notes
    episodes = [("charts/episodic_return", 1.0, 100), ("charts/episodic_return", 2.0, 200)]
    found = read(write_events(tmp_path / "episodes", [*episodes, *episodes]))  # Again from step 100 on.
    np.testing.assert_array_equal(found.records["perf/episodes"], [1, 1])
    run = tmp_path / "two_files"
    write_events(run, first).rename(run / "events.out.tfevents.1")
    (run / "events.out.tfevents.2").write_bytes(write_events(tmp_path / "again", again).read_bytes())
    np.testing.assert_array_equal(read(run).records["policy/entropy"], [1, 20, 40])


def test_a_second_run_in_the_same_file_leaves_only_itself(tmp_path):
    columns = {"time/total_timesteps": [1, 2, 3, 1, 2], "rollout/ep_rew_mean": [9, 9, 9, 5, 6]}
    records = read(write_csv(tmp_path / "progress.csv", columns)).records
    np.testing.assert_array_equal(records["env_steps"], [1, 2])
    np.testing.assert_array_equal(records["perf/return_mean"], [5, 6])


def test_of_several_values_at_one_step_the_last_counts(tmp_path):
    columns = {"time/total_timesteps": [1, 1, 2], "rollout/ep_rew_mean": [1, 2, 3]}
    np.testing.assert_array_equal(
        read(write_csv(tmp_path / "a.csv", columns)).records["perf/return_mean"], [2, 3]
    )


def test_a_last_line_that_was_cut_is_left_out(tmp_path):
    path = write_csv(tmp_path / "progress.csv", sb3_rows(3, rollout_ep_rew_mean=[1.5, 2.5, 3.25]))
    path.write_bytes(path.read_bytes()[:-2])  # "3.25\n" has become "3.2".
    found = read(path)
    np.testing.assert_array_equal(found.records["perf/return_mean"], [1.5, 2.5])
    assert any("its last one may be cut" in note for note in found.notes)


def test_lines_that_are_no_rows_are_told(tmp_path):
    path = tmp_path / "progress.csv"
    header = "time/total_timesteps,rollout/ep_rew_mean\n"
    path.write_text(f"{header},9.0\n1,2.0\n{header}2,3.0,4.0\n,5.0\nnan,7.0\n3,6.0\n")
    found = read(path)
    np.testing.assert_array_equal(found.records["env_steps"], [1, 3])
    np.testing.assert_array_equal(found.records["perf/return_mean"], [7, 6])
    assert "progress.csv has 1 rows longer than its header; they are left out" in found.notes
    assert "3 rows have no time/total_timesteps: they count as of the row before" in found.notes
    result = write_json_lines(tmp_path / "result.json", [rllib_result(4000, {}, 1.0)])
    result.write_text(result.read_text() + "[1, 2]\n{broken\n" + '{"timesteps_total": 8000')
    found = read(result)
    np.testing.assert_array_equal(found.records["env_steps"], [4000])
    assert "result.json holds a line that is no JSON object; the others are read" in found.notes


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("progress.csv", "", r"progress.csv is empty: nothing had been logged"),
        ("progress.csv", "time/total_timesteps,rollout/ep_rew_mean\n", r"is empty"),
        ("result.json", "", r"result.json is empty"),
        ("events.out.tfevents.1", "", r"tfevents.1 is empty"),
        ("a.monitor.csv", "", r"monitor.csv is empty"),
        (
            "a.monitor.csv",
            '#{"t_start": 0.0}\nx,y\n1,2\n',
            r"the columns r, l, t of a monitor file are missing",
        ),
        (
            "other.csv",
            "a,b\n1,2\n",
            r"no column counts environment steps; it must be one of env_steps, time/total",
        ),
        ("other.csv", "global_step,a\n1,2\n", r"none of its tags is known .*it holds a, global_step$"),
        ("notes.txt", "hello", r"is neither a run nor a log; looked for spec.json, result.json"),
    ],
)
def test_what_cannot_be_diagnosed_is_said_in_one_line(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_foreign(path)
    assert "\n" not in str(caught.value)


def test_a_path_that_is_not_there_is_told_from_a_run_of_ours(tmp_path):
    with pytest.raises(UserError, match="neither a run nor a log"):
        read_foreign(tmp_path / "nothing")
    (tmp_path / "status.json").write_text("{}")
    assert read_foreign(tmp_path) is None


def test_a_folder_of_runs_gives_one_seed_each(tmp_path):
    for number, value in ((1, 10.0), (2, 20.0)):
        columns = sb3_rows(2, rollout_ep_rew_mean=[value, value])
        columns |= {"train/value_loss": ["", 1.0]} if number == 2 else {}
        write_csv(tmp_path / f"PPO_{number}" / "progress.csv", columns)
    ours = tmp_path / "ours"
    write_csv(ours / "progress.csv", sb3_rows(2, rollout_ep_rew_mean=[99.0, 99.0]))
    (ours / "spec.json").write_text("{}")  # A run of ours is not read as a log, nor what lies inside it.
    write_csv(ours / "tensorboard" / "progress.csv", sb3_rows(2, rollout_ep_rew_mean=[99.0, 99.0]))
    found = read(tmp_path)
    np.testing.assert_array_equal(found.records["seed"], [0, 0, 1, 1])
    np.testing.assert_array_equal(found.records["perf/return_mean"], [10, 10, 20, 20])
    np.testing.assert_array_equal(found.records["loss/value"], [math.nan, math.nan, math.nan, 1.0])
    assert found.notes[:2] == ["--seed 0 is PPO_1", "--seed 1 is PPO_2"]


def test_runs_of_different_settings_are_not_thrown_together(tmp_path):
    for name, epsilon in (("a", 0.1), ("b", 0.3)):
        columns = sb3_rows(2, rollout_ep_rew_mean=[1.0, 1.0], train_clip_range=[0, epsilon])
        write_csv(tmp_path / name / "progress.csv", columns)
    with pytest.raises(
        UserError, match=r"a and b have different settings \(clip_epsilon 0.1 and 0.3\); give"
    ):
        read_foreign(tmp_path)


def test_a_run_that_was_stopped_before_its_first_update_says_less_than_the_others(tmp_path):
    write_csv(
        tmp_path / "PPO_1" / "progress.csv", {"time/total_timesteps": [64], "rollout/ep_rew_mean": [1.0]}
    )
    columns = sb3_rows(2, rollout_ep_rew_mean=[1.0, 1.0], train_clip_range=[0.1, 0.1])
    write_csv(tmp_path / "PPO_2" / "progress.csv", columns)
    assert read(tmp_path).context.clip_epsilon == 0.1
    assert read(tmp_path).context.return_episodes == 100
    np.testing.assert_array_equal(read(tmp_path).records["seed"], [0, 1, 1])
    # With HealthCallback's own returns, which come with the first update, the others' are of batches.
    write_csv(tmp_path / "PPO_2" / "progress.csv", {**columns, "perf/return_mean": [math.nan, 2.0]})
    assert read(tmp_path).context.return_episodes is None


def test_monitors_of_parallel_environments_are_ordered_by_time(tmp_path):
    header = '#{"t_start": 100.0, "env_id": "CartPole-v1"}\nr,l,t\n'
    (tmp_path / "0.monitor.csv").write_text(f"{header}10.0,5,1.0\n30.0,7,3.0\n")
    (tmp_path / "1.monitor.csv").write_text(f"{header}20.0,6,2.0\n")
    found = read(tmp_path)
    # Lengths 5, 6, 7 in the order of their end.
    np.testing.assert_array_equal(found.records["env_steps"], [5, 11, 18])
    np.testing.assert_array_equal(found.records["perf/return_mean"], [10, 20, 30])
    np.testing.assert_array_equal(found.records["perf/length_mean"], [5, 6, 7])
    assert (found.context.continuous, found.context.action_size) == (False, 2)


def test_many_episodes_alone_are_put_together_in_tens(tmp_path):
    lines = "".join(f"{i}.0,1,{i}.0\n" for i in range(1000))
    path = tmp_path / "monitor.csv"
    path.write_text(f'#{{"t_start": 0.0}}\nr,l,t\n{lines}')
    records = read(path).records
    np.testing.assert_array_equal(records["env_steps"], np.arange(10, 1001, 10))
    np.testing.assert_array_equal(records["perf/return_mean"], np.arange(1000).reshape(100, 10).mean(axis=1))
    np.testing.assert_array_equal(records["perf/episodes"], np.full(100, 10))


def test_a_monitor_beside_a_log_gives_the_returns_of_its_own_episodes(tmp_path):
    columns = {"time/total_timesteps": [10, 20], "rollout/ep_rew_mean": [99, 99], "train/value_loss": ["", 1]}
    write_csv(tmp_path / "progress.csv", columns)
    (tmp_path / "monitor.csv").write_text('#{"t_start": 0.0}\nr,l,t\n1.0,5,1.0\n2.0,5,2.0\n4.0,10,3.0\n')
    records = read(tmp_path).records
    np.testing.assert_array_equal(records["perf/return_mean"], [1.5, 4.0])
    np.testing.assert_array_equal(records["perf/return_max"], [2.0, 4.0])


def test_a_missing_reader_of_events_is_named_with_its_extra(tmp_path, monkeypatch):
    file = write_events(tmp_path, SCALARS)
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX.proto", None)
    with pytest.raises(UserError, match=r"pip install 'escapevelocity\[track\]'"):
        read_foreign(file)


def test_advice_names_the_setting_of_each_trainer():
    assert advice(["kl-early-stop"]) == [
        "kl-early-stop: target_kl (Stable-Baselines3), --target-kl (CleanRL)"
    ]


def test_no_cause_is_left_without_advice_and_none_names_what_another_trainer_lacks():
    lacking = {"clip-apart", "skip-nonfinite"}
    for cause in CAUSES.values():
        lines = advice(cause.remedies)
        assert lines
        assert [line.split(": ")[0] for line in lines] == [x for x in cause.remedies if x not in lacking]
        assert all("(" in line for line in lines)


def monitored(folder, steps, length, first=0):
    """A log of ten rows of 1,000 steps from `first` on, and a monitor whose episodes of one length take `steps`."""
    rows = [first + 1000 * (row + 1) for row in range(10)]
    write_csv(
        folder / "progress.csv", {"time/total_timesteps": rows, "rollout/ep_rew_mean": [7.0] * len(rows)}
    )
    episodes = [f"{number}.0,{length},{number}.5" for number in range(steps // length)]
    (folder / "monitor.csv").write_text("\n".join(['#{"t_start": 0.0}', "r,l,t", *episodes, ""]))
    return read_foreign(folder)


@pytest.mark.parametrize(
    ("steps", "first", "kept"),
    [
        (10_000, 0, True),
        (10_900, 0, True),  # Stopped within a rollout, whose row was never written.
        (40_000, 0, False),  # Frames are skipped above the monitor, which counts them all.
        (10_000, 50_000, False),  # The training went on, with a monitor that began anew.
        (60_000, 50_000, True),  # It went on with its old monitor.
    ],
)
def test_episodes_of_a_monitor_that_counts_other_steps_are_left_out(tmp_path, steps, first, kept):
    found = monitored(tmp_path, steps, 100, first)
    told = [note for note in found.notes if note.startswith("the monitor files are left out: ")]
    assert ("perf/episodes" in found.records, not told) == (kept, kept)
    if not kept:
        assert told[0].endswith(
            f"take {steps:,} steps, the log goes from step {first + 1000:,} to {first + 10_000:,}"
        )
        np.testing.assert_array_equal(found.records["perf/return_mean"], np.full(10, 7.0))
        assert found.context.return_episodes == 100


def test_a_table_that_was_saved_with_a_byte_order_mark_is_read(tmp_path):
    write_csv(
        tmp_path / "progress.csv", {"time/total_timesteps": [10, 20], "rollout/ep_rew_mean": [1.0, 2.0]}
    )
    text = (tmp_path / "progress.csv").read_text()
    (tmp_path / "progress.csv").write_text(text, encoding="utf-8-sig")
    found = read_foreign(tmp_path)
    np.testing.assert_array_equal(found.records["env_steps"], [10, 20])
