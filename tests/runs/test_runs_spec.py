"""Specs to JSON and back, against hand-written JSON and hashlib."""

import dataclasses
import enum
import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.errors import UserError
from escapevelocity.runs import canonical_json, load_spec, read_spec, spec_from_json, spec_hash


class Mode(enum.Enum):
    FAST = 1
    EXACT = 2


@dataclasses.dataclass(frozen=True)
class Adam:
    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)


@dataclasses.dataclass(frozen=True)
class Sgd:
    learning_rate: float = 0.1
    nesterov: bool = False


class Remedy(Protocol):
    coef: float


@dataclasses.dataclass(frozen=True)
class Pfo:
    coef: float = 1.0
    layers: Literal["last", "all"] = "last"


@dataclasses.dataclass(frozen=True)
class Spec:
    task: str = "Hopper-v4"
    epochs: int = 10
    clip_epsilon: float = 0.2
    annealed: bool = False
    max_norm: float | None = 0.5
    activation: Literal["tanh", "relu"] = "tanh"
    mode: Mode = Mode.FAST
    widths: tuple[int, ...] = (64, 64)
    optimiser: Adam = Adam()
    actor: Adam | Sgd | None = None
    remedies: tuple[Remedy, ...] = ()
    options: dict[str, float] = dataclasses.field(default_factory=dict)
    out: Path = dataclasses.field(default=Path("runs"), metadata={"observer": True})


@dataclasses.dataclass(frozen=True)
class Needs:
    task: str


def fields(**changes: Any) -> dict[str, Any]:
    return json.loads(canonical_json(Spec(**changes), "ppo"))["spec"]


def test_the_canonical_json_is_the_hand_written_one():
    assert json.loads(canonical_json(Spec(), "ppo")) == {
        "job": "ppo",
        "schema_version": 1,
        "spec": {
            "task": "Hopper-v4",
            "epochs": 10,
            "clip_epsilon": 0.2,
            "annealed": False,
            "max_norm": 0.5,
            "activation": "tanh",
            "mode": "FAST",
            "widths": [64, 64],
            "optimiser": {"learning_rate": 3e-4, "betas": [0.9, 0.999]},
            "actor": None,
            "remedies": [],
            "options": {},
            "out": "runs",
        },
    }


def test_the_hash_is_the_sha256_of_the_sorted_json_without_observer_fields():
    text = (
        '{\n  "job": "count",\n  "schema_version": 1,\n  "spec": {\n'
        '    "betas": [\n      0.9,\n      0.999\n    ],\n    "learning_rate": 0.0003\n  }\n}\n'
    )
    assert spec_hash(Adam(), "count") == hashlib.sha256(text.encode()).hexdigest()[:10]


def test_an_observer_field_changes_the_json_but_not_the_hash():
    here, there = Spec(out=Path("a")), Spec(out=Path("b"))
    assert spec_hash(here, "ppo") == spec_hash(there, "ppo")
    assert canonical_json(here, "ppo") != canonical_json(there, "ppo")


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 20},
        {"optimiser": Adam(betas=(0.9, 0.9))},
        {"actor": Sgd(0.1)},
        {"actor": Adam(0.1)},
        {"widths": (64,)},
        {"remedies": (Pfo(),)},
        {"max_norm": None},
        {"mode": Mode.EXACT},
    ],
)
def test_every_other_field_changes_the_hash(change):
    assert spec_hash(Spec(**change), "ppo") != spec_hash(Spec(), "ppo")


def test_another_job_has_another_hash():
    assert spec_hash(Adam(), "ppo") != spec_hash(Adam(), "metric_learning")


def test_a_whole_number_given_for_a_float_is_the_same_spec():
    assert spec_hash(Spec(clip_epsilon=1), "ppo") == spec_hash(Spec(clip_epsilon=1.0), "ppo")
    assert type(spec_from_json(Spec, {"clip_epsilon": 1}).clip_epsilon) is float


finite = st.floats(allow_nan=False)
adams = st.builds(Adam, finite, st.tuples(finite, finite))
specs = st.builds(
    Spec,
    task=st.text(),
    epochs=st.integers(),
    clip_epsilon=finite,
    annealed=st.booleans(),
    max_norm=st.none() | finite,
    activation=st.sampled_from(["tanh", "relu"]),
    mode=st.sampled_from(Mode),
    widths=st.lists(st.integers()).map(tuple),
    optimiser=adams,
    actor=st.none() | adams | st.builds(Sgd, finite, st.booleans()),
    remedies=st.lists(st.builds(Pfo, finite, st.sampled_from(["last", "all"]))).map(tuple),
    options=st.dictionaries(st.text(), finite),
)


@settings(deadline=None, max_examples=60)
@given(specs)
def test_a_spec_survives_the_way_through_json(spec):
    again = spec_from_json(Spec, json.loads(canonical_json(spec, "ppo"))["spec"], types=[Pfo])
    assert again == spec
    assert spec_hash(again, "ppo") == spec_hash(spec, "ppo")


def test_non_finite_floats_survive():
    assert fields(max_norm=math.inf)["max_norm"] == "inf"
    assert spec_from_json(Spec, fields(max_norm=math.inf)).max_norm == math.inf
    assert spec_from_json(Spec, fields(max_norm=-math.inf)).max_norm == -math.inf
    assert math.isnan(spec_from_json(Spec, fields(clip_epsilon=math.nan)).clip_epsilon)


def test_missing_keys_take_the_default():
    assert spec_from_json(Spec, {"epochs": 3}) == Spec(epochs=3)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"epoch": 3}, r"epoch = 3: unknown field; did you mean epochs\?"),
        ({"zzz": 3}, "zzz = 3: unknown field; known are activation, actor"),
        (
            {"optimiser": {"learning_rat": 1}},
            r"optimiser\.learning_rat = 1: unknown field; did you mean learning_rate",
        ),
        ({"epochs": 2.5}, "epochs = 2.5: must be an integer"),
        ({"epochs": True}, "epochs = True: must be an integer"),
        ({"epochs": "3"}, "epochs = '3': must be an integer"),
        ({"annealed": 1}, "annealed = 1: must be true or false"),
        ({"clip_epsilon": "0.1"}, r"clip_epsilon = '0\.1': must be a number"),
        ({"clip_epsilon": True}, "clip_epsilon = True: must be a number"),
        ({"max_norm": "x"}, "max_norm = 'x': must be a number or null"),
        ({"task": None}, "task = None: must be text"),
        ({"activation": "gelu"}, "activation = 'gelu': must be 'tanh' or 'relu'"),
        ({"mode": "SLOW"}, "mode = 'SLOW': must be 'FAST' or 'EXACT'"),
        ({"mode": []}, r"mode = \[\]: must be 'FAST' or 'EXACT'"),
        ({"widths": [64, "a"]}, r"widths\[1\] = 'a': must be an integer"),
        ({"widths": 64}, r"widths = 64: must be a list of integers such as \[64, 64\]"),
        ({"optimiser": {"betas": [0.9]}}, r"optimiser\.betas = \[0\.9\]: must be a list of 2 numbers"),
        ({"optimiser": 3}, "optimiser = 3: must be Adam"),
        ({"actor": {"learning_rate": 1.0}}, r"actor\._type = None: must be one of Adam, Sgd"),
        ({"actor": {"_type": "os.system"}}, r"actor\._type = 'os\.system': must be one of Adam, Sgd"),
        ({"remedies": [{"_type": "Nope"}]}, r"remedies\[0\]\._type = 'Nope': must be one of Pfo"),
        ({"options": {"a": "b"}}, r"options\.a = 'b': must be a number"),
        ({"out": 3}, "out = 3: must be a path"),
    ],
)
def test_a_mistake_is_named_with_field_value_and_expected_type(mapping, message):
    with pytest.raises(UserError, match=message):
        spec_from_json(Spec, mapping, types=[Pfo])


def test_a_missing_field_without_default_is_named():
    with pytest.raises(UserError, match="task is missing: must be text"):
        spec_from_json(Needs, {})


def test_a_spec_with_a_value_of_the_wrong_type_cannot_be_written():
    with pytest.raises(UserError, match=r"optimiser\.learning_rate = 'x': must be a number"):
        canonical_json(Spec(optimiser=Adam(learning_rate="x")), "ppo")  # pyright: ignore
    with pytest.raises(UserError, match="epochs = True: must be an integer"):
        canonical_json(Spec(epochs=True), "ppo")
    with pytest.raises(UserError, match=r"task = <object.*cannot be written to spec\.json"):
        canonical_json(Spec(task=object()), "ppo")  # pyright: ignore


def test_a_spec_file_is_read_from_the_file_or_its_folder(tmp_path):
    (tmp_path / "spec.json").write_text(canonical_json(Spec(epochs=7), "ppo"))
    assert (
        load_spec(Spec, tmp_path, "ppo") == load_spec(Spec, tmp_path / "spec.json", "ppo") == Spec(epochs=7)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"cannot read .*spec\.json: No such file"),
        ("{", "is not valid JSON"),
        ("[]", "is not a spec: expected a JSON object with the keys job, schema_version, spec"),
        ('{"job": "ppo"}', "is not a spec"),
        (
            '{"job": "ppo", "schema_version": 2, "spec": {}}',
            "schema_version = 2: must be 1 to 1; update escapevelocity",
        ),
        ('{"job": "ppo", "schema_version": "1", "spec": {}}', "schema_version = '1': must be 1 to 1"),
        ('{"job": "other", "schema_version": 1, "spec": {}}', "job = 'other': must be 'ppo'"),
    ],
)
def test_a_bad_spec_file_is_refused_in_one_line(tmp_path, text, message):
    if text is not None:
        (tmp_path / "spec.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_spec(Spec, tmp_path / "spec.json", "ppo")
    assert "\n" not in str(caught.value)


def test_a_spec_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "spec.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not valid JSON"):
        read_spec(tmp_path)
