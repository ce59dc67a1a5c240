"""Trackers: what they wrote, read back."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scripted_runs import BATCH, RowsJob, make_info, make_row, make_spec

from escapevelocity.errors import UserError
from escapevelocity.report import TensorBoardTracker, WandbTracker, make_trackers
from escapevelocity.runs import Observer, Status, resume, start


def read_events(folder):
    """All events of a folder: TFRecord framing is length (8 bytes), checksum (4), data, checksum (4)."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    events = []
    for path in sorted(folder.glob("events.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def scalars(folder, tag):
    return [(e.step, v.simple_value) for e in read_events(folder) for v in e.summary.value if v.tag == tag]


def test_tensorboard_gets_every_number_against_environment_steps_a_folder_for_each_seed(tmp_path):
    pytest.importorskip("tensorboardX")
    rows = [make_row(s, b, perf__return_mean=float(10 * s + b)) for b in range(2) for s in (1, 2)]
    start(RowsJob(rows), make_spec(2, (1, 2)), tmp_path / "r", make_trackers(["tensorboard"], tmp_path / "r"))
    folder = tmp_path / "r" / "tensorboard"
    assert scalars(folder / "seed-1", "perf/return_mean") == [(BATCH, 10.0), (2 * BATCH, 11.0)]
    assert scalars(folder / "seed-2", "perf/return_mean") == [(BATCH, 20.0), (2 * BATCH, 21.0)]
    tags = {v.tag for e in read_events(folder / "seed-1") for v in e.summary.value}
    # Everything but the axes and the text; the engine adds segment and wall_time.
    assert tags == {*make_row(), "segment", "wall_time"} - {"seed", "env_steps", "fault"}


def test_tensorboard_leaves_out_what_is_undefined_or_infinite(tmp_path):
    pytest.importorskip("tensorboardX")
    tracker = TensorBoardTracker(tmp_path)
    tracker.on_start(make_info())
    tracker.on_row(make_row(1, 0, trust__kl=float("nan"), trust__ratio_max=float("inf"), perf__episodes=None))
    tracker.on_end(Status("finished"))
    tags = {v.tag for e in read_events(tmp_path / "seed-1") for v in e.summary.value}
    assert not {"trust/kl", "trust/ratio_max", "perf/episodes"} & tags
    assert "trust/clip_fraction" in tags


def test_tensorboard_hides_what_a_resumed_run_computes_again(tmp_path):
    pytest.importorskip("tensorboardX")
    tracker = TensorBoardTracker(tmp_path)
    tracker.on_start(make_info(steps_done=4 * BATCH, segments_done=1))
    tracker.on_row(make_row(1, 4))
    tracker.on_end(Status("finished"))
    session_start = 1  # SessionLog.START: readers purge events from this step on
    purged = [e.step for e in read_events(tmp_path / "seed-1") if e.session_log.status == session_start]
    assert purged == [4 * BATCH + 1]


def test_nothing_is_written_before_the_run_begins(tmp_path):
    pytest.importorskip("tensorboardX")
    make_trackers(["tensorboard"], tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_wandb_logs_offline_one_run_with_a_prefix_for_each_seed(tmp_path):
    pytest.importorskip("wandb")
    # In a process of its own: wandb starts services, and warns about its own dependencies.
    code = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from pathlib import Path
from scripted_runs import RowsJob, make_row, make_spec
from escapevelocity.report import make_trackers
from escapevelocity.runs import start
rows = [make_row(s, b, perf__return_mean=float(10 * s + b)) for b in range(2) for s in (1, 2)]
status = start(RowsJob(rows), make_spec(2, (1, 2)), "r", make_trackers(["wandb"], "r"))
assert status.state == "finished", status
"""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environ |= {
        "WANDB_DIR": str(tmp_path),
        "WANDB_CONFIG_DIR": str(tmp_path),
        "WANDB_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "dropped" not in done.stdout + done.stderr
    files = list((tmp_path / "r" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 1
    history = read_history(files[0])
    assert [row["env_steps"] for row in history] == [BATCH, BATCH, 2 * BATCH, 2 * BATCH]
    assert [row.get("seed-1/perf/return_mean") for row in history] == [10.0, None, 11.0, None]
    assert [row.get("seed-2/perf/return_mean") for row in history] == [None, 20.0, None, 21.0]


@pytest.fixture
def wandb_ids(monkeypatch):
    """The ids of the W&B runs that were opened; wandb itself is not needed."""
    ids = []

    class Run:
        def __init__(self):
            self.summary = {}

        def define_metric(self, *names, **options):
            pass

        log = finish = define_metric

    def init(*, id, dir, **options):
        ids.append(id)
        (Path(dir) / "wandb").mkdir(exist_ok=True)
        return Run()

    module = ModuleType("wandb")
    vars(module).update(init=init, Settings=lambda **options: None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return ids


def test_a_resumed_run_goes_on_with_its_wandb_run_and_a_new_one_in_its_place_does_not(tmp_path, wandb_ids):
    run, job, spec = tmp_path / "r", RowsJob([make_row(1, b) for b in range(2)]), make_spec(2)

    class Stops(Observer):
        def on_row(self, row):
            return False

    assert start(job, spec, run, [*make_trackers(["wandb"], run), Stops()]).state == "interrupted"
    assert resume(job, spec, run, make_trackers(["wandb"], run)).state == "finished"
    shutil.rmtree(run)
    assert start(job, spec, run, make_trackers(["wandb"], run)).state == "finished"
    first, resumed, new = wandb_ids
    assert resumed == first != new


def test_a_run_that_was_killed_while_its_tracker_began_can_be_started_again(tmp_path, wandb_ids):
    run, job, spec = tmp_path / "r", RowsJob([make_row()]), make_spec(1)
    WandbTracker(run).on_start(make_info(path=run))
    assert [path.name for path in run.iterdir()] == ["wandb"]
    assert start(job, spec, run, make_trackers(["wandb"], run)).state == "finished"


def read_history(path):
    """The logged rows of a .wandb file: protobuf records in LevelDB's log format behind 7 bytes of file header."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for record in map(Record.FromString, leveldb_log(path.read_bytes(), start=7)):
        if record.HasField("history"):
            items = record.history.item
            rows.append(
                {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            )
    return rows


def leveldb_log(data, start):
    """Records, each cut into pieces that end at blocks of 32 KiB: checksum (4 bytes), length (2), kind (1), data."""
    block, last_kinds, record, at = 32 * 1024, (1, 4), b"", start
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in last_kinds:
            yield record
            record = b""


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_package_is_named_with_what_to_install(name, package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UserError,
        match=rf"track = '{name}': needs the package {package}; pip install 'escapevelocity\[track\]'",
    ):
        make_trackers([name], tmp_path)


def test_unknown_and_repeated_trackers_are_refused(tmp_path):
    with pytest.raises(UserError, match="track = 'mlflow': must be one of tensorboard, wandb"):
        make_trackers(["mlflow"], tmp_path)
    with pytest.raises(UserError, match="track = wandb wandb: wandb stands there more than once"):
        make_trackers(["wandb", "wandb"], tmp_path)
