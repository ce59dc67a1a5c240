"""How much disk a run takes, from the shapes of its arrays: what docs/design.md says."""

import re
from pathlib import Path

import jax
import pytest

from escapevelocity.ppo.job import PPOJob, state_template
from escapevelocity.ppo.presets import preset_spec

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "design.md").read_text(encoding="utf-8").split())


def megabytes(preset, task, discrete):
    """Checkpoints and their size, snapshots and theirs, in MB (10⁶ bytes) of one seed."""
    spec = preset_spec(preset, task, discrete)
    state = state_template(spec)
    sizes = [
        sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)) / 1e6
        for tree in (state, state.learner.agent)
    ]
    return PPOJob().segments(spec) + 1, sizes[0], 41, sizes[1]


def test_the_page_says_what_a_game_takes_on_disk():
    checkpoints, full, snapshots, parameters = megabytes("atari", "ALE/Phoenix-v5", True)
    # By hand: three convolutions, 3,136 × 512 and a head of 8 actions, or of the one value of the critic, with biases.
    layers = [(8 * 8 * 4, 32), (4 * 4 * 32, 64), (3 * 3 * 64, 64), (7 * 7 * 64, 512)]
    shared = sum((inputs + 1) * units for inputs, units in layers)
    assert parameters == pytest.approx(4 * (2 * shared + 513 * 8 + 513) / 1e6)
    total = checkpoints * full + snapshots * parameters
    said = f"{checkpoints} checkpoints of {full:.1f} MB and {snapshots} snapshots of {parameters:.1f} MB"
    assert f"{said}, {total / 1e3:.2f} GB in all" in PAGE


@pytest.mark.parametrize(
    ("preset", "task", "discrete"),
    [("minatar", "gymnax:Breakout-MinAtar", True), ("mujoco", "Hopper-v4", False)],
)
def test_the_page_says_what_other_presets_take(preset, task, discrete):
    if task.startswith("gymnax:"):
        pytest.importorskip("gymnax")
    checkpoints, full, snapshots, parameters = megabytes(preset, task, discrete)
    assert re.search(rf"`{preset}` {checkpoints * full + snapshots * parameters:.0f} MB", PAGE)
