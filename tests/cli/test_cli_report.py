"""`ev report`: where the page goes, what it is about, and what is refused."""

import json

import pytest

from dashboard_stores import write_run


@pytest.fixture
def run(tmp_path, ev):
    return write_run(tmp_path / "runs" / "sick", dead=60.0)


def test_the_page_of_a_run_goes_into_its_folder(ev, run):
    answer = ev("report", "runs/sick")
    assert (answer.code, answer.out) == (0, "runs/sick/report.html\n")
    html = (run / "report.html").read_text()
    for text in (
        "<!doctype html>",
        "representation collapse",
        "--learning-rate",
        "ev train Hopper-v4 --preset mujoco",
    ):
        assert text in html


def test_the_page_goes_where_out_says(ev, run, tmp_path):
    write_run(tmp_path / "runs" / "sound")
    answer = ev("report", "runs/sound", "runs/sick", "--out", "new/page.html")
    assert (answer.code, answer.out) == (0, "new/page.html\n")
    assert "sound and sick" in (tmp_path / "new" / "page.html").read_text()
    assert not (run / "report.html").exists()


def test_half_characters_in_a_run_end_as_question_marks(ev, run):
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"state": "failed", "why": "half \ud800 of one"}))
    assert ev("report", "runs/sick").code == 0
    assert "\ud800" not in (run / "report.html").read_text(encoding="utf-8")


def test_a_folder_of_runs_is_a_study(ev, run):
    answer = ev("report", "runs")
    assert (answer.code, answer.out) == (0, "runs/report.html\n")
    assert answer.err == "diagnosing sick\n"


def test_without_a_run_the_next_step_is_named(refused):
    assert (
        refused("report")
        == "ev: RUN = (): must be one or more runs' folders, or a study; `ev list` shows the runs"
    )


def test_what_is_neither_run_nor_study_is_refused(refused, run):
    assert "nowhere" in refused("report", "nowhere")
    assert "runs/missing is not a folder" in refused("report", "runs/sick", "runs/missing")


def test_a_store_beside_runs_and_a_folder_as_file_are_refused(refused, run):
    assert "store = 'x': must be left out: these are runs" in refused("report", "runs/sick", "--store", "x")
    assert "must be a file, such as runs/report.html" in refused("report", "runs/sick", "--out", "runs")


def test_a_file_that_is_no_page_is_not_replaced_and_an_older_page_is(refused, ev, run, tmp_path):
    line = refused("report", "runs/sick", "--out", "runs/sick/spec.json")
    assert line == "ev: out = 'runs/sick/spec.json': is no HTML page and would be lost; choose another --out"
    for text in ("", "<!DOCTYPE HTML>\nold", " <html>old</html>"):
        (tmp_path / "page.html").write_text(text)
        assert ev("report", "runs/sick", "--out", "page.html").code == 0
        assert "representation collapse" in (tmp_path / "page.html").read_text()
    (run / "report.html").write_text("my notes")
    assert "report.html': is no HTML page" in refused("report", "runs/sick")


def test_a_device_is_not_replaced(refused, run):
    assert "is no HTML page" in refused("report", "runs/sick", "--out", "/dev/null")


def test_a_run_without_records_says_what_computes_them(refused, tmp_path):
    path = write_run(tmp_path / "empty")
    for file in (path / "records").iterdir():
        file.unlink()
    for file in (path / "checkpoints").iterdir():
        file.unlink()
    assert "`ev resume empty` computes them" in refused("report", "empty")
