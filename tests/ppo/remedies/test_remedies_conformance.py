"""What must hold for every remedy of the registry, whoever wrote it."""

import ast
import dataclasses
import inspect
import json
import math
import re
import typing
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import probe_environments  # noqa: F401  Importing it registers EvWalk-v0.
import pytest
from remedy_programs import NAMES, TracedUpdate, assert_same_shapes, quickly_compiled, remedy_of
from small_ppo import assert_same_bits, small_spec
from walk_runs import Calls, assert_same_rows

from escapevelocity.cli import main
from escapevelocity.cli.remedies import summaries
from escapevelocity.ppo import group as group_module
from escapevelocity.ppo import job as job_module
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.job import PPOJob, task_of
from escapevelocity.ppo.programs import build_programs, make_treatment
from escapevelocity.ppo.remedies import REMEDIES, Remedy, apply_remedies, remedy_types
from escapevelocity.runs import (
    Observer,
    canonical_json,
    open_run,
    read_records,
    resume,
    spec_from_json,
    start,
)

STEPS = 64 * 6  # Three segments, of at least 10 × 6 steps × 2 environments.


def treated_spec(*remedies, **changes):
    settings = {
        "network": {"activation": "relu"},
        "monitoring": {"health_every": 0},
        "seeds": (1, 2),
    } | changes
    return apply_remedies(small_spec("softmax", task="EvWalk-v0", steps=STEPS, **settings), remedies)


def field_docs(cls):
    """The text below every field of a class."""
    body = ast.parse(inspect.getsource(cls)).body[0].body
    pairs = [(item, text) for item, text in pairwise(body) if isinstance(item, ast.AnnAssign)]
    texts = {item.target.id: getattr(getattr(text, "value", None), "value", None) for item, text in pairs}
    return {field.name: texts.get(field.name) for field in dataclasses.fields(cls)}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented_with_its_source_and_so_is_every_field(name):
    text = inspect.getdoc(REMEDIES[name])
    assert text != inspect.getdoc(Remedy)
    assert re.search(r"(19|20)\d\d", text), "name the paper and its year"
    for field, described in field_docs(REMEDIES[name]).items():
        assert isinstance(described, str), field
        assert len(described.split()) >= 3, field


@pytest.mark.parametrize("name", NAMES)
def test_help_lists_it_and_shows_its_fields(name, capsys):
    assert summaries()[name] == inspect.getdoc(REMEDIES[name]).split("\n")[0].strip()
    assert main(["remedies", name]) == 0
    shown = capsys.readouterr().out
    for field in dataclasses.fields(REMEDIES[name]):
        assert f"--{name}.{field.name.replace('_', '-')}" in shown


@pytest.mark.parametrize("name", NAMES)
def test_its_fields_have_simple_types_and_defaults_and_no_place_has_its_name(name):
    cls = REMEDIES[name]
    assert cls() == cls()
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        assert not hasattr(Remedy, field.name)
        members = typing.get_args(hints[field.name]) or (hints[field.name],)
        plain = {int, float, bool, str, type(None)}
        assert all(kind in plain or isinstance(kind, str) for kind in members), field.name


@pytest.mark.parametrize("name", NAMES)
def test_settings_with_it_come_back_from_their_json(name):
    spec = apply_remedies(PPOSpec(), [remedy_of(name)])
    text = canonical_json(spec, "ppo")
    assert spec_from_json(PPOSpec, json.loads(text)["spec"], remedy_types()) == spec


def idle_variants():
    """Every way to switch a remedy off by one number, 0 or infinite."""
    for name in NAMES:
        for field in dataclasses.fields(REMEDIES[name]):
            for value in (0, 0.0, math.inf):
                try:
                    remedy = REMEDIES[name](**{field.name: value})
                except Exception:  # Out of the field's range: no way to switch it off.
                    continue
                if type(value) is type(getattr(remedy_of(name), field.name)) and remedy.is_idle():
                    yield pytest.param(remedy, id=f"{name}-{field.name}-{value}")


@pytest.mark.parametrize("remedy", list(idle_variants()))
def test_switched_off_it_leaves_the_very_program_of_no_remedy(remedy):
    spec = treated_spec(remedy)
    assert make_treatment(spec, task_of(spec)).remedies == ()
    assert TracedUpdate(spec).text() == TracedUpdate(treated_spec()).text()


def test_every_weight_of_a_penalty_can_switch_it_off():
    switchable = {variant.values[0].name for variant in idle_variants()}
    for name in NAMES:
        if name != "kl-penalty" and "coef" in {field.name for field in dataclasses.fields(REMEDIES[name])}:
            assert name in switchable


@pytest.mark.parametrize("name", NAMES)
def test_it_traces_under_jit_and_keeps_shapes_and_dtypes_of_the_learner(name):
    traced = TracedUpdate(treated_spec(remedy_of(name)))
    assert_same_shapes(traced.learner, traced.after)
    for column, value in traced.statistics.remedies.items():
        assert column.startswith(f"remedy/{name}/")
        assert (value.shape, value.dtype) == ((2,), jnp.float32)


class Stop(Observer):
    """Ends the run after some rows."""

    reason = "enough"

    def __init__(self, rows):
        self.left = rows

    def on_row(self, row):
        self.left -= 1
        return self.left > 0


def stacked(trees):
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)


BUNDLES = [NAMES[number::5] for number in range(5)]
"""Compiling is what takes time here: a few remedies share a run, in which each keeps its own state and columns."""


@pytest.mark.slow
@pytest.mark.parametrize("names", BUNDLES, ids=" + ".join)
def test_they_train_resume_with_the_same_bits_and_a_population_is_its_members(names, tmp_path, monkeypatch):
    spec, job = treated_spec(*map(remedy_of, names)), PPOJob()
    calls = Calls(quickly_compiled(build_programs(spec, task_of(spec))))
    for module in (group_module, job_module):
        monkeypatch.setattr(module, "build_programs", lambda spec, task: calls.wrapped())
    assert start(job, spec, tmp_path / "whole").state == "finished"
    whole = read_records(tmp_path / "whole").to_pylist()

    # Every number is finite, and every remedy's column stands in every row.
    end = open_run(tmp_path / "whole").load_checkpoint(3, job.initial_state(spec))
    assert all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(end.learner))
    assert [row["fault"] for row in whole] == [""] * 12
    columns = {column for row in whole for column in row if column.startswith("remedy/")}
    assert all(np.isfinite(row[column]) for row in whole for column in columns)

    # architecture.md, idea 2: two members at once are what each is alone (groups of one here), after one update from
    # the same recorded batch. The fourth batch: states are no longer what they were at the start.
    alone = [call for call in calls.seen if int(call[0][3]) == 3]
    learners, batches, seeds, *scalars, active = zip(*[arguments for arguments, _ in alone], strict=True)
    together, _ = calls.programs.update(
        stacked(learners), stacked(batches), stacked(seeds), *[each[0] for each in scalars], stacked(active)
    )
    expected = stacked([learner for _, (learner, _) in alone])
    for mine, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)

    # Stopped in the second segment of three and resumed.
    status = start(job, spec, tmp_path / "stopped", [Stop(2 * 2 + 1)])
    assert (status.state, status.segments_done) == ("interrupted", 1)
    assert resume(job, spec, tmp_path / "stopped").state == "finished"
    records = read_records(tmp_path / "stopped").to_pylist()
    for row in records + whole:
        row.pop("wall_time", None)
    assert_same_rows(records, whole)
    assert_same_bits(open_run(tmp_path / "stopped").load_checkpoint(3, job.initial_state(spec)), end)
