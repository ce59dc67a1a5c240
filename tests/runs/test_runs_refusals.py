"""What the engine refuses, in one line that says what to do, and without leaving anything behind."""

import json
from typing import Any

import pytest
from counting_job import CountingJob, CountingSpec, Recorder

from escapevelocity.errors import UserError
from escapevelocity.runs import read_status, resume, spec_hash, start

JOB = CountingJob()
SPEC = CountingSpec()


def test_a_folder_that_holds_a_run_is_refused_with_what_to_do(tmp_path):
    run = tmp_path / "run"
    start(JOB, SPEC, run, [Recorder(8)])
    other = CountingSpec(rows=5)
    hashes = f"{spec_hash(SPEC, 'count')}, not {spec_hash(other, 'count')}"
    for go in (start, resume):
        with pytest.raises(UserError, match=rf"holds another spec \({hashes}\); give another --name"):
            go(JOB, other, run)
    with pytest.raises(UserError, match=r"holds this run, unfinished; `ev resume .*run` goes on with it"):
        start(JOB, SPEC, run)
    resume(JOB, SPEC, run)
    with pytest.raises(UserError, match="is finished; to run it again give another --name"):
        start(JOB, SPEC, run)
    # Resume has no --name, and a job of one's own no command that branches.
    with pytest.raises(UserError, match=r"run is finished$"):
        resume(JOB, SPEC, run)


def test_another_job_with_the_same_fields_is_another_spec(tmp_path):
    class Other(CountingJob):
        name = "other"

    start(JOB, SPEC, tmp_path / "run")
    with pytest.raises(UserError, match="holds another spec"):
        start(Other(), SPEC, tmp_path / "run")


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path):
    precious = [tmp_path / "thesis.tex", tmp_path / ".draft.tmp", tmp_path / "part" / ".two.7.tmp"]
    precious[-1].parent.mkdir()
    for path in precious:
        path.write_text("precious")
    with pytest.raises(UserError, match="is not empty and not a run; give another --name or --out"):
        start(JOB, SPEC, tmp_path)
    assert [path.read_text() for path in precious] == ["precious"] * 3
    assert not (tmp_path / "status.json").exists()


def test_an_empty_folder_is_taken(tmp_path):
    assert start(JOB, SPEC, tmp_path).state == "finished"


def test_nothing_to_resume_is_a_user_error_and_makes_no_folder(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*nowhere: No such file.*give a run's folder"):
        resume(JOB, SPEC, tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_found_by_the_job_leaves_nothing_behind(tmp_path):
    class Picky(CountingJob):
        def initial_state(self, spec):
            raise UserError("task = 'Hoper-v4': must be a known id; did you mean Hopper-v4?")

    with pytest.raises(UserError, match="did you mean Hopper-v4"):
        start(Picky(), SPEC, tmp_path / "run")
    with pytest.raises(UserError, match="segments = 0: must be at least 1"):
        start(JOB, CountingSpec(segments=0), tmp_path / "run")
    with pytest.raises(UserError, match="rows = 'x': must be an integer"):
        start(JOB, CountingSpec(rows="x"), tmp_path / "run")  # pyright: ignore
    assert list(tmp_path.iterdir()) == []


def test_an_edited_spec_does_not_take_over_old_checkpoints(tmp_path):
    run = tmp_path / "run"
    start(JOB, SPEC, run, [Recorder(8)])
    document = json.loads((run / "spec.json").read_text())
    document["spec"]["rows"] = 5
    (run / "spec.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"its checkpoints belong to spec .*; it was edited"):
        resume(JOB, CountingSpec(rows=5), run)


def test_a_second_start_in_one_process_is_refused_while_the_first_runs(tmp_path):
    class Nested(Recorder):
        def on_row(self, row: Any) -> bool:
            with pytest.raises(UserError, match="is being run by another process"):
                resume(JOB, SPEC, tmp_path / "run")
            assert read_status(tmp_path / "run").state == "running"
            self.rows.append(row)
            return False

    nested = Nested()
    start(JOB, SPEC, tmp_path / "run", [nested])
    assert len(nested.rows) == 1
    assert nested.messages == []


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make the folder .*file/run: .*; choose another --out"):
        start(JOB, SPEC, tmp_path / "file" / "run")
    with pytest.raises(UserError, match=r"cannot make the folder .*file: .*; choose another --out"):
        start(JOB, SPEC, tmp_path / "file")
