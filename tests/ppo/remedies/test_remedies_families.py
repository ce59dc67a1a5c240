"""Every remedy on every family of tasks: vectors and screens, continuous and discrete, on the host and inside jit."""

import jax
import numpy as np
import pytest
from remedy_programs import FAMILIES, NAMES, TracedUpdate, assert_same_shapes, family_spec, remedy_of

from escapevelocity.errors import UserError
from escapevelocity.ppo.job import PPOJob, task_of
from escapevelocity.ppo.remedies import apply_remedies
from escapevelocity.runs import open_run, read_records, start

REFUSED = {("escort", "mujoco"): "escort.*actions"}
"""What a remedy says of a family that it is not for."""


@pytest.fixture(autouse=True)
def packages(family):
    pytest.importorskip({"atari": "ale_py", "minatar": "gymnax"}.get(family, "gymnasium"))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_its_program_fits_the_task_or_the_remedy_refuses_it(name, family):
    spec = apply_remedies(family_spec(family), [remedy_of(name)])
    if message := REFUSED.get((name, family)):
        with pytest.raises(UserError, match=message):
            task_of(spec)
        return
    traced = TracedUpdate(spec)
    assert_same_shapes(traced.learner, traced.after)


TRAINED = {"mujoco": NAMES, "minatar": ["continual-backprop", "pfo", "redo", "weight-clipping"]}
"""Vectors on the host with all remedies; images inside jit with those that look at layers, where channels are units."""


def bundles(family):
    """The remedies of a family in as few runs as their contradictions allow."""
    waiting = [name for name in TRAINED[family] if (name, family) not in REFUSED]
    while waiting:
        together, left = [], []
        for name in waiting:
            try:
                spec = apply_remedies(family_spec(family), [remedy_of(n) for n in (*together, name)])
                task_of(spec)
                together.append(name)
            except UserError:
                left.append(name)
        assert together, left
        yield together
        waiting = left


@pytest.mark.slow
@pytest.mark.parametrize("family", TRAINED)
def test_all_that_do_not_contradict_each_other_train_side_by_side(family, tmp_path):
    for number, names in enumerate(bundles(family)):
        spec = apply_remedies(family_spec(family), [remedy_of(name) for name in names])
        job, path = PPOJob(), tmp_path / str(number)
        assert start(job, spec, path).state == "finished"
        end = open_run(path).load_checkpoint(job.segments(spec), job.initial_state(spec))
        assert all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(end.learner))
        rows = read_records(path).to_pylist()
        assert [row["fault"] for row in rows] == ["", ""]
