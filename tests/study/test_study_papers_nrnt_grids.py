"""The runs that the figures ask for, counted by hand and held against the paper's tables."""

import functools
import json

import pytest

from escapevelocity.errors import UserError
from escapevelocity.ppo.remedies import AdamReset, RewardMask
from escapevelocity.study._flat import flat_settings
from escapevelocity.study.grid import cells
from escapevelocity.study.kinds import kind
from escapevelocity.study.papers.nrnt import arms, masked
from escapevelocity.study.papers.nrnt.settings import GAMES, MUJOCO, SEEDS, SETTINGS, setting_of
from escapevelocity.study.papers.registry import figures_of, find_figure


@functools.cache
def _specs(figure: str, task: str, scale="paper") -> list:
    study = find_figure(f"nrnt/{figure}").study(task, scale)
    return [kind("ppo").spec(cell.settings, study.seeds) for cell in cells(study)]


def _settings(spec) -> dict:
    return flat_settings(json.loads(kind("ppo").spec_text(spec)))


def test_the_paper_has_its_forty_one_figures_in_order():
    assert [figure.id for figure in figures_of("nrnt")] == [f"nrnt/figure-{n}" for n in range(1, 42)]


@pytest.mark.parametrize(
    ("figure", "task", "scale", "runs", "seeds"),
    [
        ("figure-1", "ALE/Phoenix-v5", "paper", 3, 5),  # 3 epochs
        ("figure-1", "Hopper-v4-relu", "small", 3, 5),
        ("figure-1", "ALE/Phoenix-v5", "small", 3, 3),
        ("figure-6", "Hopper-v4", "paper", 18, 5),  # 3 epochs × 6 arms: 15 runs per remedy
        ("figure-6", "ALE/Phoenix-v5", "small", 3, 3),  # most epochs alone, 3 arms
        ("figure-14", "Ant-v4-relu", "paper", 3, 5),
        ("figure-31", "Hopper-v4-relu", "paper", 18, 5),
        ("figure-31", "Hopper-v4-relu", "small", 6, 5),  # the most epochs alone
        ("figure-32", "ALE/Phoenix-v5", "paper", 2, 5),  # 4 epochs, with and without PFO
        ("figure-34", "Hopper-v4", "paper", 4, 5),  # four ε
        ("figure-35", "Hopper-v4", "paper", 4, 5),  # shared or not × masked or not
        ("figure-41", "Hopper-v4-relu", "small", 3, 5),
    ],
)
def test_a_grid_has_the_runs_counted_by_hand(figure, task, scale, runs, seeds):
    study = find_figure(f"nrnt/{figure}").study(task, scale)
    assert (len(cells(study)), len(study.seeds)) == (runs, seeds)


def test_paper_scale_on_mujoco_has_the_settings_of_table_3():
    specs = _specs("figure-1", "Hopper-v4")
    assert [spec.optimizer.epochs for spec in specs] == [10, 15, 20]
    for spec in specs:
        assert (spec.task, spec.steps, spec.seeds) == ("Hopper-v4", 5_000_000, (25, 7, 64, 27, 4))
        assert (spec.environment.num_envs, spec.environment.rollout_length) == (2, 1024)
        assert (spec.optimizer.learning_rate, spec.optimizer.minibatch_size) == (3e-4, 64)
        assert (spec.objective.clip_epsilon, spec.network.activation) == (0.2, "tanh")
        assert (spec.network.hidden, spec.network.head, spec.remedies) == ((64, 64), "tanh_normal", ())


def test_paper_scale_on_atari_has_the_settings_of_table_2():
    specs = _specs("figure-7", "ALE/Phoenix-v5")
    assert [spec.optimizer.epochs for spec in specs] == [4, 6, 8]
    for spec in specs:
        assert (spec.task, spec.steps, spec.seeds) == ("ALE/Phoenix-v5", 100_000_000, SEEDS)
        assert (spec.environment.num_envs, spec.environment.rollout_length) == (8, 128)
        assert (spec.environment.frame_skip, spec.environment.sticky_actions) == (3, 0.25)
        assert (spec.optimizer.learning_rate, spec.optimizer.minibatch_size) == (2.5e-4, 256)
        assert (spec.objective.clip_epsilon, spec.objective.entropy_coef) == (0.1, 0.01)


@pytest.mark.parametrize(
    ("task", "last", "every"), [("ALE/Phoenix-v5", 1, 10), ("Hopper-v4", 1, 1), ("Hopper-v4-relu", 10, 10)]
)
def test_pfo_has_the_published_coefficients(task, last, every):
    found = {spec.remedies[0].layers: spec.remedies[0].coef for spec in _specs("figure-6", task) if spec.remedies
             and spec.remedies[0].name == "pfo"}  # fmt: skip
    assert found == {"last": last, "all": every}


def test_long_runs_are_twice_as_long():
    assert {spec.steps for spec in _specs("figure-32", "ALE/Phoenix-v5")} == {200_000_000}
    assert {spec.steps for spec in _specs("figure-33", "Hopper-v4")} == {10_000_000}


def test_the_other_remedies_are_the_papers():
    by_arm = dict(zip([arm.label for arm in arms.ARMS], _specs("figure-6", "Hopper-v4")[:6], strict=True))
    assert by_arm["shared trunk"].network.trunk == "shared"
    assert by_arm["Adam β₂ = 0.9"].optimizer.adam_beta2 == 0.9
    assert by_arm["Adam reset"].remedies == (AdamReset(),)
    masks = [spec.remedies for spec in _specs("figure-35", "Hopper-v4")]
    assert masks == [(), (), (RewardMask(0.9),), (RewardMask(0.9),)]
    assert [spec.network.trunk for spec in _specs("figure-35", "Hopper-v4")] == [
        "separate",
        "shared",
        "separate",
        "shared",
    ]


@pytest.mark.parametrize(("figure", "known"), [("figure-6", arms.ARMS), ("figure-35", masked.ARMS)])
def test_a_run_is_recognised_by_its_own_arm_and_by_no_other(figure, known):
    specs = _specs(figure, "Hopper-v4")[-len(known) :]
    for spec, own in zip(specs, known, strict=True):
        assert [arm for arm in known if arm.holds(_settings(spec))] == [own]


def test_figures_share_their_runs():
    def texts(figure: str, scale) -> set[str]:
        return {kind("ppo").spec_text(spec) for spec in _specs(figure, "Hopper-v4-relu", scale)}

    for scale in ("small", "paper"):
        assert texts("figure-1", scale) == texts("figure-4", scale) == texts("figure-20", scale)
        assert texts("figure-6", scale) == texts("figure-31", scale)
    assert texts("figure-1", "paper") < texts("figure-6", "paper")
    assert len(texts("figure-1", "small") & texts("figure-6", "small")) == 1  # no remedy at 20 epochs


def test_the_runs_of_the_hopper_study_are_those_of_the_paper_scale():
    # Folders of runs that `ev train` made from the same settings, in studies/hopper-collapse.
    kinds = kind("ppo")
    assert kinds.folder(_specs("figure-1", "Hopper-v4-relu")[-1]) == "Hopper-v4-99860c2d19"
    assert kinds.folder(_specs("figure-1", "Hopper-v4")[-1]) == "Hopper-v4-dc23d72608"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_windows_of_5_percent_hold_what_the_figures_read_at_small_scale(setting):
    spec = _specs("figure-1", setting.name, "small")[0]
    batch = spec.environment.num_envs * spec.environment.rollout_length * spec.environment.frame_skip
    window = 0.05 * (spec.steps // batch * batch)
    assert batch <= window  # The first 5 % hold the first batch, and the last 5 % two.


def test_every_figure_has_a_grid_at_both_scales_for_every_task_it_accepts():
    for figure in figures_of("nrnt"):
        for task in figure.tasks:
            small, paper = (figure.study(task, scale) for scale in ("small", "paper"))
            assert small.base["steps"] < paper.base["steps"]
            assert small.base["learning_rate"] == pytest.approx(10 * paper.base["learning_rate"])
            assert len(cells(small)) <= len(cells(paper))


def test_fourteen_settings_have_a_figure_each():
    copies = [figure.tasks for figure in figures_of("nrnt")[6:20]]
    assert copies == [(setting.name,) for setting in (*GAMES, *MUJOCO)]


def test_a_task_that_the_paper_does_not_have_is_named():
    with pytest.raises(UserError, match=r"task = 'Walker2d-v4': must be one of ALE/Phoenix-v5"):
        setting_of("Walker2d-v4")
