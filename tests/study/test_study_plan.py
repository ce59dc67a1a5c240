"""Plans: which seeds run together and stay so, how each run stands, and what the rest will cost."""

import dataclasses
import json

import pytest

from escapevelocity.errors import UserError
from escapevelocity.runs import canonical_json, spec_hash
from escapevelocity.runs.status import acquire
from escapevelocity.study import kinds
from escapevelocity.study.grid import Study, cells, read_study
from escapevelocity.study.groups import choose_groups
from escapevelocity.study.plan import Order, default_store, plan
from escapevelocity.study.plan_view import plan_json, plan_totals, total_lines, write_seeds
from escapevelocity.study.settings import with_settings
from escapevelocity.study.store import open_store


@dataclasses.dataclass(frozen=True)
class ToySpec:
    task: str = "toy"
    seeds: tuple[int, ...] = (1,)
    steps: int = 1000
    rate: float = 0.5
    epochs: int = 10


class ToyKind:
    """Makes specs and folders; nothing is trained here."""

    name = "toy"

    def spec(self, settings, seeds):
        return dataclasses.replace(with_settings(ToySpec(), settings, ("seeds",)), seeds=seeds)

    def folder(self, spec):
        return f"{spec.task}-{spec_hash(spec, self.name)}"

    def spec_text(self, spec):
        return canonical_json(spec, self.name)

    def steps(self, spec):
        return spec.steps

    def run(self, spec_text, path, observers):
        raise NotImplementedError


TOY = ToyKind()


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setitem(kinds.KINDS, "toy", TOY)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


def toy(base=None, axes=None, **changed):
    return Study("toys", base or {}, axes or {}, **{"job": "toy", "seeds": (1, 2, 3)} | changed)


def record(store, spec, **status):
    """Leave a run as the engine leaves it: spec.json and status.json."""
    path = store.run_path(TOY.folder(spec))
    path.mkdir(parents=True, exist_ok=True)
    (path / "spec.json").write_text(TOY.spec_text(spec))
    if status:
        document = {"state": "finished", "steps_total": spec.steps, "steps_done": spec.steps} | status
        (path / "status.json").write_text(json.dumps(document))
    return path


def seeds_of(planned):
    return [one.order.seeds for one in planned]


def test_orders_say_all_that_a_worker_needs_and_survive_json(store):
    (one,) = plan(toy({"rate": 0.25}, {"epochs": (20,)}, imports=("json",)), store)
    spec = ToySpec(seeds=(1, 2, 3), rate=0.25, epochs=20)
    assert one.order == Order(
        TOY.folder(spec), "toy", TOY.spec_text(spec), {"epochs": 20}, (1, 2, 3), 1000, ("json",)
    )
    assert Order.from_json(json.loads(json.dumps(one.order.to_json()))) == one.order
    with pytest.raises(UserError, match=r"step = 5: unknown field; did you mean"):
        Order.from_json(one.order.to_json() | {"step": 5})
    with pytest.raises(UserError, match="steps = 'many': must be an integer"):
        Order.from_json(one.order.to_json() | {"steps": "many"})


def test_a_population_divides_the_seeds(store):
    study = toy(axes={"epochs": (10, 20)}, seeds=(5, 4, 3, 2, 1), population=2)
    assert seeds_of(plan(study, store)) == [(5, 4), (3, 2), (1,)] * 2
    assert seeds_of(plan(toy(seeds=(5, 4)), open_store(store.path / "other", create=True))) == [(5, 4)]


def test_seeds_and_axes_that_are_added_leave_what_was_planned_as_it_is(store):
    before = plan(toy(axes={"epochs": (10,)}), store)
    after = plan(toy(axes={"epochs": (10, 20)}, seeds=(5, 3, 4, 1, 2)), store)
    assert seeds_of(after) == [(1, 2, 3), (5, 4), (5, 3, 4, 1, 2)]
    assert after[0].order == before[0].order
    assert plan(toy(axes={"epochs": (20, 10)}, seeds=(1, 2, 3, 4, 5)), store)[1:] == after[:2]


def test_plans_are_kept_in_one_file_and_only_written_when_they_change(store):
    plan(toy(axes={"epochs": (10, 20)}), store)
    path = store.study_path / "plan.json"
    assert sorted(entry.name for entry in store.path.iterdir()) == ["_study"]
    document = json.loads(path.read_text())
    assert list(document["cells"].values()) == [[[1, 2, 3]], [[1, 2, 3]]]
    written = path.stat().st_mtime_ns
    plan(toy(axes={"epochs": (20,)}), store)
    assert path.stat().st_mtime_ns == written
    assert json.loads(path.read_text()) == document


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"schema_version": 1, "cells": {"a": [["x"]]}}', '{"schema_version": 1, "cells": 3}'],
)
def test_a_damaged_file_of_groups_is_named(store, text):
    plan(toy(), store)
    (store.study_path / "plan.json").write_text(text)
    with pytest.raises(UserError, match=r"plan\.json is damaged: .*remove it"):
        plan(toy(), store)
    (store.study_path / "plan.json").write_text('{"schema_version": 9, "cells": {}}')
    with pytest.raises(UserError, match=r"schema_version = 9: must be 1; update"):
        plan(toy(), store)


def test_without_the_file_of_groups_what_was_trained_counts(store):
    grown = toy(axes={"epochs": (10, 20)}, seeds=(1, 2, 3, 4, 5))
    for seeds in ((1, 2, 3), (4, 5)):
        record(store, ToySpec(seeds=seeds), wall_time=9.0)
    record(store, ToySpec(seeds=(7, 8)))
    record(store, ToySpec(seeds=(1, 4), rate=0.9))  # Of no cell of this study.
    (record(store, ToySpec(seeds=(2, 5))) / "spec.json").write_text("{")
    plan(toy(seeds=(1, 2, 3)), store)
    plan(grown, store)
    (store.study_path / "plan.json").unlink()  # As the message on a damaged one says.
    assert [(one.order.seeds, one.state) for one in plan(grown, store)] == [
        ((1, 2, 3), "finished"),
        ((4, 5), "finished"),
        ((1, 2, 3, 4, 5), "missing"),
    ]


# recorded groups, seeds wanted, population, groups whose run has begun; the groups that must come of it.
@pytest.mark.parametrize(
    ("recorded", "wanted", "population", "begun", "expected"),
    [
        ([], (1, 2, 3), None, [], [(1, 2, 3)]),
        ([(1, 2, 3)], (3, 2, 1), None, [], [(1, 2, 3)]),  # The same seeds in another order are the same run.
        ([(1, 2, 3)], (1, 2, 3), 2, [], [(1, 2), (3,)]),  # Nothing has begun: a smaller population counts.
        ([(1, 2, 3)], (1, 2, 3), 2, [(1, 2, 3)], [(1, 2, 3)]),  # It has begun: it stays.
        ([(1, 2, 3)], (1, 2), None, [], [(1, 2)]),  # Seed 3 is not wanted any more.
        ([(1, 2, 3)], (1, 2), None, [(1, 2, 3)], [(1, 2, 3)]),  # But its run is there.
        ([(1, 2, 3)], (8, 9), None, [(1, 2, 3)], [(8, 9)]),
        ([(1, 2, 3), (1, 2)], (1, 2, 3), None, [(1, 2)], [(1, 2), (3,)]),
        ([(1, 2), (1, 2, 3)], (1, 2, 3), None, [(1, 2), (1, 2, 3)], [(1, 2, 3)]),  # The larger saves more.
        ([(1,), (2,)], (1, 2), None, [], [(1,), (2,)]),  # Groups are not joined.
    ],
)
def test_groups_that_have_begun_stay_and_others_follow_the_study(
    recorded, wanted, population, begun, expected
):
    assert choose_groups(recorded, wanted, population, lambda group: group in begun) == expected


def test_a_run_that_was_trained_by_hand_is_adopted(store):
    record(store, ToySpec(seeds=(1, 2, 3), epochs=20), wall_time=50.0)
    first, second = plan(toy(axes={"epochs": (10, 20)}), store)
    assert (first.state, first.steps_done) == ("missing", 0)
    assert (second.state, second.steps_done, second.wall_time, second.seconds_left) == (
        "finished",
        1000,
        50.0,
        0,
    )


def test_each_state_is_told_with_its_reason(store):
    record(store, ToySpec(epochs=1), wall_time=9.0)
    record(store, ToySpec(epochs=2), state="failed", why="loss is nan", steps_done=500, wall_time=9.0)
    record(store, ToySpec(epochs=3), state="interrupted", why="Ctrl-C", steps_done=250, wall_time=9.0)
    record(store, ToySpec(epochs=4), state="running", steps_done=250)  # Nobody holds its lock.
    held = record(store, ToySpec(epochs=5), state="running", steps_done=250)
    (record(store, ToySpec(epochs=6), steps_done=5) / "spec.json").write_text("{")
    (record(store, ToySpec(epochs=7)) / "spec.json").rename(
        store.run_path(TOY.folder(ToySpec(epochs=7))) / "x"
    )
    record(store, ToySpec(epochs=8))  # Killed before its status.json; the engine can resume it.
    (record(store, ToySpec(epochs=9)) / "spec.json").rename(
        store.run_path(TOY.folder(ToySpec(epochs=9))) / ".spec.json.1.tmp"
    )
    lock = acquire(held)
    try:
        planned = plan(toy(axes={"epochs": tuple(range(1, 11))}, seeds=(1,)), store)
    finally:
        lock.release()
    assert [one.state for one in planned] == [
        *("finished", "failed", "interrupted", "interrupted", "running"),
        *("damaged", "damaged", "interrupted", "missing", "missing"),
    ]
    assert [one.steps_done for one in planned[:5]] == [1000, 500, 250, 250, 250]
    whys = [one.why for one in planned]
    assert whys[1:4] == ["loss is nan", "Ctrl-C", "killed"]
    assert "is not valid JSON" in whys[5]
    assert "is not empty and not a run" in whys[6]
    assert "status.json" in whys[7]
    assert planned[5].seconds_left is None


def test_a_run_whose_spec_was_edited_is_damaged_whatever_its_state(store):
    for epochs, state in ((10, "finished"), (20, "interrupted"), (30, "finished"), (40, "finished")):
        record(store, ToySpec(epochs=epochs), state=state, why="x", steps_done=1000)

    def edit(epochs, change):
        path = store.run_path(TOY.folder(ToySpec(epochs=epochs))) / "spec.json"
        document = json.loads(path.read_text())
        document["spec"] = change(document["spec"])
        path.write_text(json.dumps(document))

    for epochs in (10, 20):
        edit(epochs, lambda spec: spec | {"rate": 0.9})
    edit(
        30, lambda spec: {name: spec[name] for name in ("seeds", "epochs")}
    )  # What is left out has its default.
    edit(40, lambda spec: spec | {"pace": 1})
    planned = plan(toy(axes={"epochs": (10, 20, 30, 40)}, seeds=(1,)), store)
    assert [one.state for one in planned] == ["damaged", "damaged", "finished", "damaged"]
    assert all("spec.json is not the spec" in planned[at].why for at in (0, 1, 3))
    assert planned[0].seconds_left is None


def test_seeds_that_a_kept_history_holds_in_other_groups_are_not_planned_again(store, tmp_path):
    few, grown = toy(seeds=(1, 2, 3)), toy(seeds=(1, 2, 3, 4, 5))
    old = [one.order for study in (few, grown) for one in plan(study, tmp_path / "old")]
    names = {order.name: order.seeds for order in old}
    assert list(names.values()) == [(1, 2, 3), (4, 5)]  # As the study grew.
    assert [one.state for one in plan(grown, tmp_path / "new", kept=names)] == ["kept", "kept"]
    planned = plan(grown, store, kept=dict(list(names.items())[:1]))
    assert [(one.order.seeds, one.state) for one in planned] == [((1, 2, 3), "kept"), ((4, 5), "missing")]


def test_an_unfinished_run_goes_on_at_its_own_pace(store):
    record(store, ToySpec(seeds=(1,)), state="interrupted", why="x", steps_done=400, wall_time=80.0)
    (one,) = plan(toy(seeds=(1,)), store)
    assert one.seconds_left == pytest.approx(600 * 80 / 400)


def test_a_missing_run_costs_what_those_cost_that_differ_least(store):
    # Seconds per step of three members: 0.1 with epochs 10, 0.3 with epochs 20, of one member: 0.05.
    record(store, ToySpec(seeds=(1, 2, 3), epochs=10), wall_time=100.0)
    record(store, ToySpec(seeds=(1, 2, 3), epochs=20, rate=0.1), wall_time=300.0)
    record(store, ToySpec(seeds=(9,), epochs=20), wall_time=50.0)
    planned = plan(toy(axes={"epochs": (10, 15, 20), "rate": (0.1, 0.9), "steps": (2000,)}), store)
    left = {tuple(one.order.labels.values())[:2]: one.seconds_left for one in planned}
    assert left[10, 0.1] == pytest.approx(0.2 * 2000)  # One setting away from both 0.1 and 0.3: their median.
    assert left[10, 0.9] == pytest.approx(0.1 * 2000)
    assert left[20, 0.1] == pytest.approx(0.3 * 2000)  # Another length is no other run.
    assert left[15, 0.1] == pytest.approx(0.3 * 2000)
    # Two settings from epochs 10, two from epochs 20 with its rate, three from the run of one member.
    assert left[15, 0.9] == pytest.approx(0.2 * 2000)


def test_other_seeds_cost_the_same_and_another_task_says_nothing(store):
    record(store, ToySpec(seeds=(1, 2, 3)), wall_time=100.0)
    planned = plan(toy(axes={"task": ("toy", "other")}, seeds=(4, 5, 6)), store)
    assert [one.seconds_left for one in planned] == [pytest.approx(100.0), None]
    assert total_lines(planned)[-1].endswith("1 of 2 runs not counted, nothing like them was recorded yet")


def test_nothing_is_known_where_nothing_was_recorded(store):
    record(store, ToySpec(seeds=(7,)), state="interrupted", why="x", steps_done=0, wall_time=3.0)
    planned = plan(toy(), store)
    assert planned[0].seconds_left is None
    assert total_lines(planned)[-1].startswith("time left: unknown, nothing like these runs was recorded yet")


def test_two_cells_with_one_spec_are_both_named(store):
    sizes = ({"label": "slow", "rate": 0.1}, {"label": "lazy", "rate": 0.1})
    with pytest.raises(UserError, match=r"the cells \(size slow\) and \(size lazy\) are the same run"):
        plan(toy(axes={"size": sizes}), store)


def test_a_mistake_in_a_setting_names_the_cell_and_leaves_nothing_behind(tmp_path):
    study = toy(axes={"epochs": (10, "ten"), "rate": (0.1,)})
    with pytest.raises(
        UserError, match=r"epochs = 'ten': must be an integer \(cell: epochs ten, rate 0\.1\)"
    ):
        plan(study, tmp_path / "store")
    with pytest.raises(UserError, match=r"epoch = 3: unknown setting; did you mean epochs\?$"):
        plan(toy({"epoch": 3}), tmp_path / "store")
    with pytest.raises(UserError, match="job = 'tox': unknown kind"):
        plan(toy(job="tox"), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_plan_adds_up(store):
    record(store, ToySpec(seeds=(1, 2), epochs=10), wall_time=100.0)
    record(store, ToySpec(seeds=(1, 2), epochs=20), state="failed", why="x", steps_done=300, wall_time=60.0)
    planned = plan(toy(axes={"epochs": (10, 20)}, seeds=(1, 2)), store)
    assert plan_totals(planned) == {
        "runs": 2,
        "seeds": 4,
        "states": {"finished": 1, "failed": 1},
        "steps": 4000,
        "steps_done": 2 * 1000 + 2 * 300,
        "seconds_left": pytest.approx(700 * 60 / 300),
        "unknown": 0,
    }
    lines = total_lines(planned)
    assert lines[:2] == ["2 runs of 4 seeds: 1 finished, 1 failed", "2,600 of 4,000 steps done (65%)"]
    assert lines[2].startswith("about 0.039 core-hours left")  # 140 s.
    assert total_lines(planned[:1])[-1] == "nothing is left to train"
    assert total_lines([dataclasses.replace(planned[0], state="kept")])[-1] == "nothing is left to train"
    document = plan_json(planned, "toys", "runs/toys")
    assert json.loads(json.dumps(document)) == document
    assert [run["labels"] for run in document["runs"]] == [{"epochs": 10}, {"epochs": 20}]


def test_seeds_are_written_as_on_a_command_line():
    assert write_seeds((25, 7, 64, 27, 4)) == "25 7 64 27 4"
    assert write_seeds(tuple(range(1, 65))) == "1:64"
    assert write_seeds((3, 4, 9, 10, 11, 2)) == "3 4 9:11 2"


def test_the_default_store_is_named_by_the_study():
    assert default_store(toy()) == "runs/toys"


def test_the_hopper_study_holds_the_runs_of_the_paper():
    from pathlib import Path

    path = Path(__file__).parents[2] / "studies" / "hopper_collapse" / "study.toml"
    study = read_study(path)
    assert (study.seeds, study.population, study.base["task"]) == ((25, 7, 64, 27, 4), None, "Hopper-v4")
    ppo = kinds.kind("ppo")
    specs = {tuple(c.labels.values()): ppo.spec(c.settings, study.seeds) for c in cells(study)}
    assert len(specs) == 3 * 2 * 2
    coefs = {labels: spec.remedies[0].coef for labels, spec in specs.items() if spec.remedies}
    # The published coefficients: 1 with tanh, 10 with ReLU.
    assert coefs == {(e, a, "pfo"): c for e in (10, 15, 20) for a, c in (("tanh", 1.0), ("relu", 10.0))}
    assert ppo.folder(specs[20, "relu", "none"]) == "Hopper-v4-99860c2d19"
