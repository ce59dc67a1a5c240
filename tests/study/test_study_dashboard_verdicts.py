"""What the dashboard judges of a run, and the process that does."""

import os

import pytest

from dashboard_stores import rows, write_run
from escapevelocity.report.diagnosis import diagnose_run
from escapevelocity.runs import open_run
from escapevelocity.runs.records import write_shard
from escapevelocity.study.dashboard_judge import judge_run
from escapevelocity.study.dashboard_records import Records
from escapevelocity.study.dashboard_scan import Scanner
from escapevelocity.study.dashboard_verdicts import Verdicts, WorkerProcess


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def store(tmp_path):
    """A sound run, and one with dead neurons."""
    write_run(tmp_path / "s" / "sound", epochs=10)
    write_run(tmp_path / "s" / "sick", dead=60.0, epochs=20)
    return tmp_path


def test_verdicts_are_those_of_ev_diagnose(store):
    found = judge_run(store / "s" / "sick", Records(store))
    diagnosis = diagnose_run(open_run(store / "s" / "sick"))
    assert found["verdict"] == diagnosis.verdict
    assert found["seeds"] == list(diagnosis.seeds)
    assert found["confidence"] == diagnosis.confidence_word
    assert [alarm["sign"] for alarm in found["alarms"]] == ["dead neurons", "dead neurons"]


def test_signs_that_warn_nobody_are_told_all_the_same_in_the_order_of_their_onset(tmp_path):
    """A rank that declines from its start in one seed after the other, which is no alarm."""
    run = write_run(tmp_path / "a", batches=60)
    found = [{**row, "segment": 0, "wall_time": 1.0} for row in rows(60)]
    for row in found:
        late = 10 if row["seed"] == 1 else 0
        rank = max(2.0, 30.0 - max(0, row["batch"] - late))
        row["health/actor/feature_rank_pca"] = row["health/actor/effective_rank"] = rank
    write_shard(run, 0, found)
    judged = judge_run(run, Records(tmp_path))
    assert judged["alarms"] == []
    assert {sign["sign"] for sign in judged["signs"]} == {"rank decline"}
    assert [sign["seed"] for sign in judged["signs"]] == [2, 1]
    assert judged["signs"][0]["since"] < judged["signs"][1]["since"]
    assert all(sign["ended"] is None and sign["meaning"] for sign in judged["signs"])


def test_the_process_that_judges_answers_and_is_started_again_when_it_dies(store):
    worker = WorkerProcess(store)
    try:
        assert worker.ask(store / "s" / "sick")["verdict"] == "representation collapse"
        worker._process.kill()
        worker._process.wait()
        assert worker.ask(store / "s" / "sound")["tone"] == "good"
    finally:
        worker.close()
    assert "killed the process" in worker.ask(store / "s" / "sound")["error"]


def test_a_run_that_is_never_read_to_its_end_keeps_no_other_from_being_judged(store):
    (store / "s" / "sick" / "spec.json").unlink()
    os.mkfifo(store / "s" / "sick" / "spec.json")  # Nobody writes: who opens it waits for ever.
    worker = WorkerProcess(store, patience=0.1)
    try:
        told = worker.ask(store / "s" / "sick")
        assert told == {"error": "reading it took more than 0.1 s; `ev diagnose` may tell more"}
        worker.patience = 600.0
        assert worker.ask(store / "s" / "sound")["tone"] == "good"
    finally:
        worker.close()


def test_who_looks_at_a_run_has_it_judged_next(store):
    verdicts = Verdicts(lambda path: {"error": ""})
    verdicts.want(Scanner(store).scan().entries.values())
    verdicts.first("s/sound")
    assert next(iter(verdicts._waiting)) == "s/sound"
