"""The dashboard's answers about real small stores: what is listed, told, drawn, and refused."""

import json
import os
import threading
import time
from urllib.parse import quote

import pytest

from asgi_client import request
from dashboard_stores import BATCH, HOSTILE, IMAGE, add_shard, hostile_store, rows, set_status, write_run
from escapevelocity.runs.records import write_shard
from escapevelocity.runs.status import acquire
from escapevelocity.study.dashboard import Dashboard, make_app
from escapevelocity.study.dashboard_records import Records
from escapevelocity.study.dashboard_views import _median
from escapevelocity.study.dashboard_worker import answer


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def judging(root):
    """Judge in this process, as the worker does."""
    records = Records(root)
    return lambda path: answer(path, records)


class Viewer:
    """Asks a dashboard as a browser does."""

    def __init__(self, root, **options):
        ask = options.pop("ask", judging(root))
        # What changes is judged at once, unless a test is about waiting.
        self.dashboard = Dashboard(
            root, ask, every=options.pop("every", 0.0), again=options.pop("again", 0.0)
        )
        self.app = make_app(self.dashboard)

    def __enter__(self):
        self.dashboard.start()
        return self

    def __exit__(self, *error):
        self.dashboard.stop()

    def ask(self, path, **headers):
        return request(
            self.app, "GET", path, {name.replace("_", "-"): text for name, text in headers.items()}
        )

    def get(self, path):
        found = self.ask(path)
        assert found.status_code == 200, found.text
        return found.json()

    def judged(self, path="/api/runs"):
        """Wait until nothing is left to judge; a test that hangs is stopped by pytest's timeout."""
        for _ in range(600):
            self.get("/api/runs")
            if not self.dashboard.verdicts.waiting:
                return self.get(path)
            time.sleep(0.02)
        raise AssertionError("still judging")


@pytest.fixture
def store(tmp_path):
    """Two studies' worth: a sound run, one with dead neurons, one that was interrupted."""
    write_run(tmp_path / "s" / "sound", epochs=10)
    write_run(tmp_path / "s" / "sick", dead=60.0, epochs=20)
    write_run(
        tmp_path / "s" / "cut", batches=10, total=30, state="interrupted", why="stopped by SIGINT", epochs=30
    )
    (tmp_path / "s" / "_study").mkdir()
    return tmp_path


@pytest.fixture
def viewer(store):
    with Viewer(store) as made:
        yield made


def rows_of(data):
    return {row["short"]: row for row in data["runs"]}


def test_runs_are_listed_before_any_is_judged(store):
    begun = threading.Event()

    def ask(path):
        begun.wait(5)
        return {"error": ""}

    with Viewer(store, ask=ask) as viewer:
        data = viewer.get("/api/runs")
        assert {row["state"] for row in data["runs"]} == {"finished", "interrupted"}
        assert data["waiting"] == 3
        assert all(row["verdict"] is None for row in data["runs"])
        begun.set()


def test_the_middle_of_two_cells_runs_is_not_the_better_one():
    assert (_median([1.0, 3.0]), _median([5.0, 1.0, 3.0]), _median([])) == (2.0, 3.0, None)


def test_the_list_says_state_progress_and_verdict(viewer):
    rows = rows_of(viewer.judged())
    assert rows["cut"]["state"] == "interrupted"
    assert (rows["cut"]["why"], rows["cut"]["done"]) == ("stopped by SIGINT", round(1 / 3, 4))
    assert rows["sick"]["verdict"]["word"] == "representation collapse"
    assert (rows["sick"]["verdict"]["tone"], rows["sick"]["verdict"]["seeds"]) == ("bad", 2)
    assert rows["sound"]["verdict"]["tone"] == "good"
    assert (rows["sick"]["alarms"] > 0, rows["sound"]["alarms"]) == (True, 0)
    assert rows["sound"]["last"] == 100 + 290 + 1.5  # The median of both seeds' last return.
    assert rows["sound"]["label"] == "epochs=10"
    assert rows["sound"]["speed"] == 30 * BATCH * 2 / 60


def test_runs_of_two_jobs_have_no_chart_in_common_but_a_column_that_is_asked_for(store):
    other = write_run(store / "s" / "other")
    spec = other / "spec.json"
    spec.write_text(spec.read_text().replace('"job": "ppo"', '"job": "mine"'))
    with Viewer(store) as viewer:
        viewer.judged()
        path = "/api/curves?run=s/sick&run=s/other"  # The sick one has marks.
        assert viewer.get(path)["charts"] == []
        (chart,) = viewer.get(f"{path}&column=trust/kl")["charts"]
        assert [mark["label"] for mark in chart["marks"]] == ["dead neurons"]


def test_a_list_that_has_not_changed_is_sent_once(viewer):
    viewer.judged()
    first = viewer.ask("/api/runs")
    again = viewer.ask("/api/runs", if_none_match=first.headers["etag"])
    assert again.status_code == 304


def test_a_shard_that_is_added_arrives_in_list_curves_and_verdict(store, viewer):
    run = store / "s" / "cut"
    name = quote("s/cut")
    before = viewer.get(f"/api/curves?run={name}")
    add_shard(run, 1, dead=60.0)
    set_status(run, "interrupted", batches=20)
    after = viewer.get(f"/api/curves?run={name}")
    ends = [data["charts"][0]["series"][0]["x"][-1] for data in (before, after)]
    assert ends == [10 * BATCH, 20 * BATCH]
    assert viewer.judged(f"/api/run?run={name}")["judged"]["steps"] == 20 * BATCH


def test_a_run_is_judged_again_only_when_its_records_change(store):
    asked = []

    def ask(path):
        asked.append(path.name)
        return {"error": "x"}

    with Viewer(store, ask=ask) as viewer:
        viewer.judged()
        viewer.judged()
        assert sorted(asked) == ["cut", "sick", "sound"]
        add_shard(store / "s" / "cut", 1)
        viewer.judged()
        assert sorted(asked) == ["cut", "cut", "sick", "sound"]


def test_a_look_at_the_disk_during_a_verdict_does_not_ask_for_it_twice(store):
    asked, looked = [], threading.Event()

    def ask(path):
        asked.append(path.name)
        looked.wait(5)
        return {"error": "x"}

    with Viewer(store, ask=ask) as viewer:
        while not asked:
            viewer.get("/api/runs")
        viewer.get("/api/runs")
        looked.set()
        viewer.judged()
        assert sorted(asked) == ["cut", "sick", "sound"]


def test_a_run_that_took_long_to_judge_is_not_judged_again_at_once(store):
    asked = []

    def ask(path):
        asked.append(path.name)
        time.sleep(0.01)
        return {"error": "x"}

    with Viewer(store, ask=ask, again=1e6) as viewer:
        viewer.judged()
        add_shard(store / "s" / "cut", 1)
        viewer.judged()
        assert sorted(asked) == ["cut", "sick", "sound"]


def test_twenty_viewers_share_one_look(store):
    with Viewer(store, every=60.0) as viewer:
        viewer.judged()
        looks = viewer.dashboard.looks.times
        threads = [threading.Thread(target=viewer.get, args=("/api/runs",)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert viewer.dashboard.looks.times == looks == 1


def test_curves_of_several_runs_have_a_group_each(viewer):
    data = viewer.get("/api/curves?run=s/sound&run=s/sick&column=trust/kl")
    assert data["runs"] == ["s/sound", "s/sick"]
    dead = next(chart for chart in data["charts"] if chart["title"] == "Actor dead neurons")
    bold = [line for line in dead["series"] if not line["thin"]]
    assert [(line["name"], line["group"], line["y"][-1]) for line in bold] == [
        ("sound", 0, 2),
        ("sick", 1, 60),
    ]
    assert data["charts"][-1]["title"] == "trust/kl"
    assert "Formula: " in data["charts"][-1]["help"]


def test_the_onset_of_a_lasting_sign_is_marked(viewer):
    viewer.judged()
    charts = viewer.get("/api/curves?run=s/sick")["charts"]
    marked = {
        chart["title"]: [mark["label"] for mark in chart["marks"]] for chart in charts if chart["marks"]
    }
    assert marked == {"Actor dead neurons": ["dead neurons"]}


def test_a_seed_that_was_frozen_is_marked(store, viewer):
    kept = [
        {**row, "segment": 0, "wall_time": 1.0} for row in rows(30) if row["seed"] == 1 or row["batch"] < 10
    ]
    kept[19]["fault"] = "seed 2, batch 9: loss is nan"
    write_shard(store / "s" / "sound", 0, kept)
    chart = viewer.get("/api/curves?run=s/sound")["charts"][0]
    assert chart["marks"] == [{"x": 10 * BATCH, "label": "seed 2 frozen", "group": 0}]


def test_a_study_is_a_grid_of_its_settings(viewer):
    viewer.judged()
    (found,) = viewer.get("/api/studies")["stores"]
    assert (found["store"], found["study"], found["counts"]) == ("s", True, {"finished": 2, "interrupted": 1})
    grid = viewer.get("/api/studies?store=s")
    assert grid["axes"] == ["epochs"]
    assert [cell["labels"] for cell in grid["cells"]] == [["10"], ["20"], ["30"]]
    assert grid["cells"][1]["verdicts"] == [{"word": "representation collapse", "tone": "bad", "count": 1}]
    assert grid["cells"][2]["counts"] == {"interrupted": 1}


def test_alarms_of_runs_that_train_come_first(store):
    run = write_run(store / "s" / "now", state="running", batches=20, total=30, dead=60.0, epochs=5)
    lock = acquire(run)
    try:
        with Viewer(store) as viewer:
            alarms = viewer.judged("/api/alarms")["alarms"]
    finally:
        lock.release()
    assert [alarm["run"] for alarm in alarms] == ["s/now", "s/now", "s/sick", "s/sick"]
    assert {alarm["sign"] for alarm in alarms} == {"dead neurons"}


def tell_progress(store, batches, alarms=()):
    """Leave what the run `s/now` would tell of itself after so many batches."""
    told = {
        "name": "now",
        "steps": batches * BATCH,
        "steps_total": 30 * BATCH,
        "steps_per_second": 100.0,
        "alarms": list(alarms),
    }
    told |= {"updated": time.time(), "host": "here", "pid": 1, "memory": 1, "members": 2}
    (store / "s" / "_study" / "progress" / "now.json").write_text(json.dumps(told))


def test_what_a_run_of_a_study_tells_between_two_shards_is_an_alarm(store):
    run = write_run(store / "s" / "now", state="running", batches=10, total=30, epochs=5)
    line = f"step {15 * BATCH:,} seed 2: entropy collapse since step {12 * BATCH:,}: entropy 0.01 [lead 9%]"
    (store / "s" / "_study" / "progress").mkdir()
    tell_progress(store, 15, [line])
    lock = acquire(run)
    try:
        with Viewer(store) as viewer:
            alarms = viewer.judged("/api/alarms")["alarms"]
            row = rows_of(viewer.get("/api/runs"))["now"]
    finally:
        lock.release()
    assert (alarms[0]["run"], alarms[0]["sign"], alarms[0]["text"]) == (
        "s/now",
        "entropy collapse",
        "entropy 0.01",
    )
    assert (row["done"], row["speed"], row["alarms"]) == (0.5, 200.0, 1)


def test_the_page_of_a_run_follows_what_it_tells_between_two_shards(store):
    run = write_run(store / "s" / "now", state="running", batches=10, total=30, epochs=5)
    (store / "s" / "_study" / "progress").mkdir()
    lock = acquire(run)
    try:
        with Viewer(store) as viewer:
            viewer.judged("/api/run?run=s/now")
            for batches, share in ((15, 0.5), (24, 0.8)):
                tell_progress(store, batches)
                assert rows_of(viewer.get("/api/runs"))["now"]["done"] == share
                assert viewer.get("/api/run?run=s/now")["row"]["done"] == share
    finally:
        lock.release()


def test_a_run_says_its_settings_and_columns(viewer):
    data = viewer.judged("/api/run?run=s/sick")
    assert ["optimizer.epochs", "20", "10"] in data["settings"]
    assert "trust/kl" in data["columns"]
    assert data["judged"]["told"]["headline"]
    assert data["command"].endswith("s/sick")


@pytest.mark.parametrize(
    "path",
    [
        "/api/run?run=../x",
        "/api/run?run=/etc",
        "/api/run",
        "/api/curves",
        "/api/curves?run=s/sound&run=..",
        "/api/run?run=s",
    ],
)
def test_only_names_of_the_list_are_answered(viewer, path):
    found = viewer.ask(path)
    assert found.status_code == 404
    assert "run = " in found.json()["error"]


def test_mistakes_are_told_in_one_line(viewer):
    many = "&".join(f"column=c{i}" for i in range(13))
    assert (
        "column = 13: must be given at most 12 times"
        in viewer.ask(f"/api/curves?run=s/sick&{many}").json()["error"]
    )
    runs = "&".join(["run=s/sick"] * 9)
    assert "run = 9: must be given 1 to 8 times" in viewer.ask(f"/api/curves?{runs}").json()["error"]
    assert "store = 'no': must be a folder" in viewer.ask("/api/studies?store=no").json()["error"]


def test_unknown_and_text_columns_are_empty_charts(viewer):
    charts = viewer.get("/api/curves?run=s/sick&column=fault&column=no/such")["charts"]
    assert [(chart["title"], chart["series"]) for chart in charts[-2:]] == [("fault", []), ("no/such", [])]


@pytest.mark.parametrize("path", ["/", "/run?run=s/sick", "/compare", "/studies", "/alarms"])
def test_pages_are_there_and_name_the_folder(viewer, store, path):
    text = viewer.ask(path).text
    assert text.startswith("<!doctype html>")
    assert store.name in text


def test_hostile_folders_are_listed_and_answered(tmp_path):
    hostile_store(tmp_path)
    with Viewer(tmp_path) as viewer:
        data = viewer.judged()
        assert len(data["runs"]) == 8
        for row in data["runs"]:
            name = quote(row["name"])
            viewer.get(f"/api/run?run={name}")
            assert viewer.ask(f"/api/curves?run={name}").status_code in (200, 404)
        evil = next(row for row in data["runs"] if row["short"].startswith("<script>"))
        assert (evil["short"], evil["why"]) == (HOSTILE.replace("/", "\u2215"), IMAGE)
        assert rows_of(data)["torn-records"]["error"].startswith("records/00000.parquet cannot be read")
        for path in ("/api/alarms", "/api/studies", "/api/studies?store="):
            viewer.get(path)


def test_nothing_outside_is_read_through_the_links_of_a_damaged_run(tmp_path):
    outside = write_run(tmp_path / "outside" / "secret", epochs=77)
    linked = tmp_path / "served" / "linked"
    linked.mkdir(parents=True)
    for path in outside.iterdir():
        (linked / path.name).symlink_to(path)
    piped = write_run(tmp_path / "served" / "piped")
    (piped / "spec.json").unlink()
    os.mkfifo(piped / "spec.json")  # Whoever opens it waits for ever.
    with Viewer(tmp_path / "served") as viewer:
        states = {name: row["state"] for name, row in rows_of(viewer.get("/api/runs")).items()}
        assert states == {"linked": "damaged", "piped": "damaged"}
        for name in states:
            told = viewer.get(f"/api/run?run={name}")
            assert (told["columns"], told["parent"]) == ([], None)
            assert "77" not in str(told["settings"])


def test_a_folder_that_goes_away_is_one_line(tmp_path):
    root = tmp_path / "runs"
    write_run(root / "a")
    with Viewer(root) as viewer:
        viewer.judged()
        root.rename(tmp_path / "elsewhere")
        found = viewer.ask("/api/runs")
    assert (found.status_code, found.json()) == (404, {"error": f"{root} is gone"})


def test_a_branch_is_drawn_with_a_past_below_the_folder_and_no_other(tmp_path):
    from history_runs import make_branch, make_run

    make_run(tmp_path / "outside" / "p")
    make_run(tmp_path / "root" / "p")
    make_branch(tmp_path / "root" / "p", 1, tmp_path / "root" / "near", scale=2.0)
    make_branch(tmp_path / "outside" / "p", 1, tmp_path / "root" / "far", scale=3.0)
    records = Records(tmp_path / "root")
    near, far = (records.read(tmp_path / "root" / name, ["x"]) for name in ("near", "far"))
    assert (near.table.num_rows, near.faults) == (16, ())
    assert far.table.num_rows == 8
    assert far.faults == ("the past that it shares with its parent is not here: only its own is shown",)
    with Viewer(tmp_path / "root") as viewer:
        parent = viewer.get("/api/run?run=near")["parent"]
        assert (parent["name"], parent["step"]) == ("p", 40)
        assert viewer.get("/api/run?run=far")["parent"]["name"] is None
