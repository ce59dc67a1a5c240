"""Kinds of runs: PPO's settings become the spec that `ev train` would make, and others register themselves."""

import dataclasses
import json
import math
from types import SimpleNamespace

import pytest

from escapevelocity.errors import UserError
from escapevelocity.imports import import_modules
from escapevelocity.ppo.presets import preset_spec
from escapevelocity.ppo.remedies import PFO, LayerNorm, apply_remedies
from escapevelocity.runs import Observer, Status, read_status
from escapevelocity.runs.status import write_status
from escapevelocity.study import kinds
from escapevelocity.study.kinds import Kind, kind, register_kind

CART = {"task": "CartPole-v1"}


@pytest.fixture(scope="module")
def ppo():
    return kind("ppo")


@pytest.fixture
def registry(monkeypatch):
    """A registry of the test's own."""
    monkeypatch.setattr(kinds, "KINDS", {})
    return kinds.KINDS


def made_by_hand(**optimizer):
    spec = preset_spec("classic", "CartPole-v1", discrete=True, seeds=(3, 1))
    return dataclasses.replace(spec, optimizer=dataclasses.replace(spec.optimizer, **optimizer))


def test_settings_are_laid_over_the_preset_of_the_task(ppo):
    made = ppo.spec({**CART, "learning_rate": 0.01, "steps": 1024}, (3, 1))
    assert made == dataclasses.replace(made_by_hand(learning_rate=0.01), steps=1024)
    # 4 environments × 128 steps a batch.
    assert ppo.steps(ppo.spec({**CART, "steps": 1500}, (1,))) == 1024


def test_a_preset_can_be_chosen(ppo):
    made = ppo.spec({**CART, "preset": "mujoco"}, (1,))
    assert made == preset_spec("mujoco", "CartPole-v1", discrete=True)


@pytest.mark.parametrize(
    ("settings", "remedies"),
    [
        ({"remedy": "none"}, []),
        ({"remedy": []}, []),
        ({"remedy": "pfo"}, [PFO()]),
        ({"remedy": ["pfo", "layer-norm"]}, [PFO(), LayerNorm()]),
        ({"remedy": {"pfo": {"coef": 10, "layers": "all"}}}, [PFO(coef=10.0, layers="all")]),
        ({"remedy": "pfo", "pfo.coef": 10.0}, [PFO(coef=10.0)]),
        ({"remedy": {"pfo": {"coef": 1, "layers": "all"}}, "pfo.coef": 5}, [PFO(coef=5.0, layers="all")]),
    ],
)
def test_remedies_are_applied_as_ev_train_applies_them(ppo, settings, remedies):
    assert ppo.spec({**CART, **settings}, (3, 1)) == apply_remedies(made_by_hand(), remedies)


# Folders that `ev train Hopper-v4 --seeds 25 7 64 27 4 --epochs 20 --activation relu` (and tanh) has made.
@pytest.mark.parametrize(
    ("activation", "folder"), [("relu", "Hopper-v4-99860c2d19"), ("tanh", "Hopper-v4-dc23d72608")]
)
def test_a_run_has_the_name_that_ev_train_gives_it(ppo, activation, folder):
    settings = {"task": "Hopper-v4", "epochs": 20, "activation": activation, "remedy": "none"}
    spec = ppo.spec(settings, (25, 7, 64, 27, 4))
    assert ppo.folder(spec) == folder
    assert ppo.steps(spec) == 4_999_168  # As in the status.json of those runs.
    assert json.loads(ppo.spec_text(spec))["spec"]["optimizer"]["epochs"] == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "task = None: must be given"),
        ({"task": 3}, "task = 3: must be text"),
        ({"task": "CartPol-v1"}, r"task = 'CartPol-v1': not a known environment id; did you mean CartPole"),
        ({**CART, "preset": "clasic"}, "preset = 'clasic': must be 'mujoco' or"),
        (
            {**CART, "learning-rate": 0.1},
            r"learning-rate = 0\.1: unknown setting; did you mean learning_rate",
        ),
        ({**CART, "epochs": "ten"}, "epochs = 'ten': must be an integer"),
        ({**CART, "epochs": 0}, "epochs = 0: must be at least 1"),
        ({**CART, "seeds": [1]}, "seeds = .*: unknown setting"),
        ({**CART, "remedies": []}, r"remedies = \[\]: unknown setting"),
        ({**CART, "head": "normal"}, "head = 'normal': CartPole-v1 has discrete actions"),
        ({**CART, "append_time": True, "convolutions": "nature"}, "convolutions = 'nature': must be none"),
        ({**CART, "remedy": "pf"}, r"remedy = 'pf': unknown; did you mean pfo\?"),
        ({**CART, "remedy": 3}, "remedy = 3: must be a name, a list of names, a table"),
        ({**CART, "remedy": ["pfo", "pfo"]}, "remedy = 'pfo': must be given once"),
        ({**CART, "remedy": ["none", "pfo"]}, "remedy = .*: must be 'none' alone"),
        ({**CART, "remedy": {"pfo": 10}}, "remedy pfo = 10: must be a table of fields"),
        ({**CART, "remedy": {"pfo": {"coef": "x"}}}, "pfo.coef = 'x': must be a number"),
        ({**CART, "remedy": {"pfo": {"coef": -1}}}, r"pfo\.coef = -1\.0: must be a finite number"),
        ({**CART, "remedy": "pfo", "pfo.cof": 1}, "pfo.cof = 1: unknown field; did you mean coef"),
        ({**CART, "optimizer.epochs": 3}, r"optimizer\.epochs = 3: unknown setting; did you mean epochs\?"),
        (
            {**CART, "pf.coef": 3},
            r"pf\.coef = 3: unknown setting; before the dot stands a remedy: .*did you mean pfo\?",
        ),
        ({**CART, "pfo.coef": 1}, "pfo.coef = 1: no remedy is asked for; add remedy = 'pfo', or set it by a"),
        ({**CART, "remedy": "redo", "pfo.coef": 1}, "pfo.coef = 1: the remedies are redo; add"),
        ({**CART, "remedy": "escort", "escort.temperature": 1}, "escort.temperature = 1: unknown field"),
        ({"task": "Hopper-v4", "remedy": "escort"}, "remedy = 'escort'"),
    ],
)
def test_a_mistake_in_settings_is_one_line(ppo, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        ppo.spec(settings, (1,))
    assert "\n" not in str(caught.value)


def test_a_task_is_looked_up_once_for_all_cells(ppo, monkeypatch):
    from escapevelocity.study import ppo_kind

    asked = []
    for name in ("default_spec", "describe_task", "task_of"):
        plain = getattr(ppo_kind, name)
        monkeypatch.setattr(
            ppo_kind, name, lambda *args, plain=plain, name=name: asked.append(name) or plain(*args)
        )
    for epochs in range(1, 30):
        remedy = {} if epochs % 2 else {"remedy": "pfo", "pfo.coef": float(epochs)}
        ppo.spec({"task": "Acrobot-v1", "epochs": epochs, "steps": 512 * epochs, **remedy}, (epochs, 99))
    assert sorted(asked) == ["default_spec", "describe_task", "task_of"]


class Watcher(Observer):
    """Watches."""


class Trainer:
    """Stands in for training, which other tests do: notes what it is asked for, and leaves the files of a run."""

    def __init__(self, text):
        self.text, self.asked = text, []

    def train(self, spec, out, name, observers):
        self.asked.append((spec, out / name, observers))
        (out / name).mkdir(parents=True)
        (out / name / "spec.json").write_text(self.text)
        return SimpleNamespace(status=Status("interrupted", "enough"))

    def resume_training(self, path, observers):
        self.asked.append((path, observers))
        write_status(path, Status("finished", steps_done=512))
        return SimpleNamespace(status=read_status(path))


def test_a_ppo_run_is_started_then_resumed_and_left_alone_when_it_is_finished(ppo, tmp_path, monkeypatch):
    from escapevelocity.study import ppo_kind

    spec = ppo.spec({**CART, "remedy": "pfo", "max_grad_norm": math.inf}, (3, 1))
    path, text, watching = tmp_path / ppo.folder(spec), ppo.spec_text(spec), [Watcher()]
    trainer = Trainer(text)
    monkeypatch.setattr(ppo_kind, "train", trainer.train)
    monkeypatch.setattr(ppo_kind, "resume_training", trainer.resume_training)
    assert ppo.run(text, path, watching).state == "interrupted"
    finished = ppo.run(text, path, watching)  # It was killed before its first status had landed.
    assert (finished.state, finished.steps_done) == ("finished", 512)
    assert ppo.run(text, path, watching) == finished
    assert trainer.asked == [(spec, path, watching), (path, watching)]


def test_a_finished_run_whose_spec_was_edited_is_not_taken_for_what_was_ordered(ppo, tmp_path):
    spec = ppo.spec(CART, (3, 1))
    path = tmp_path / ppo.folder(spec)
    path.mkdir()
    document = json.loads(ppo.spec_text(spec))
    document["spec"]["optimizer"]["epochs"] += 1
    (path / "spec.json").write_text(json.dumps(document))
    write_status(path, Status("finished", steps_done=512))
    with pytest.raises(UserError, match="is not the spec that this run has its name from; it was edited"):
        ppo.run(ppo.spec_text(spec), path, [])


class Nothing:
    """The smallest kind."""

    name = "nothing"

    def spec(self, settings, seeds):
        return seeds

    def folder(self, spec):
        return "nothing"

    def spec_text(self, spec):
        return "{}"

    def steps(self, spec):
        return 0

    def run(self, spec_text, path, observers):
        raise NotImplementedError


def test_a_kind_registers_under_its_name_and_the_last_one_counts(registry):
    first, last = register_kind(Nothing()), register_kind(Nothing())
    assert isinstance(first, Kind)
    assert kind("nothing") is last
    with pytest.raises(UserError, match=r"kind = 3: must be an object with the methods"):
        register_kind(3)
    with pytest.raises(UserError, match="must be an object"):
        register_kind(Nothing)


def test_an_unknown_kind_is_refused_with_the_nearest(registry):
    register_kind(Nothing())
    with pytest.raises(UserError, match=r"job = 'nothin': unknown kind of run; did you mean nothing\?"):
        kind("nothin")
    with pytest.raises(UserError, match=r"job = 'dqn': unknown kind of run; known are asr, nothing, ppo"):
        kind("dqn")


class Entry:
    """An entry point of an installed package."""

    name, value, dist = "nothing", "package:kind", None

    def __init__(self, found):
        self.found = found

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_installed_packages_bring_kinds_and_a_broken_one_is_named(registry, monkeypatch):
    found = Nothing()
    monkeypatch.setattr(
        kinds, "entry_points", lambda group, name: [Entry(found)] if name == "nothing" else []
    )
    assert kind("nothing") is found
    registry.clear()
    monkeypatch.setattr(kinds, "entry_points", lambda group, name: [Entry(ImportError("no module x"))])
    with (
        pytest.warns(
            RuntimeWarning, match=r"kind 'nothing' of an unknown package \(package:kind\).*no module x"
        ),
        pytest.raises(UserError, match="job = 'nothing': unknown kind"),
    ):
        kind("nothing")


def test_modules_are_imported_by_name_alone(tmp_path, monkeypatch):
    (tmp_path / "module_of_mine.py").write_text("FOUND = 5\n")
    (tmp_path / "broken_of_mine.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    assert import_modules(["module_of_mine"])[0].FOUND == 5
    with pytest.raises(UserError, match=r"import = 'module_of_mine\.py': must be a module's name"):
        import_modules(["module_of_mine.py"])
    with pytest.raises(UserError, match="import = 'not_of_mine': not found in the current folder"):
        import_modules(["not_of_mine"])
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        import_modules(["broken_of_mine"])
