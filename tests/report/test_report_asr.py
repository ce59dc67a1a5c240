"""Pictures of adaptive sampling: the distribution over time, maps of embeddings, heat maps of wells, labels."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.config import ASRSpec, SamplerConfig
from escapevelocity.report._figure import paper_style
from escapevelocity.report._panels import ASR_PANELS, PANELS, panels_of
from escapevelocity.report._shown import shown_of, start_label, task_name
from escapevelocity.report.asr import COLUMN, heat_of, plot_distribution
from escapevelocity.report.asr_wells import MeasureGrid, draw_wells, grid_of
from escapevelocity.report.embedding_map import draw_map, in_the_plane
from escapevelocity.report.plots import compose, plot_run
from escapevelocity.runs import open_run, start

SPEC = ASRSpec(seeds=(1, 2), steps=120, sampler=SamplerConfig(bins=4, low=0.0, high=2.0))


class ScriptedSampling:
    """Emits what a run of adaptive sampling would, from formulas."""

    name = "asr"

    def segments(self, spec):
        return 1

    def step(self, spec, k):
        return spec.steps * k

    def initial_state(self, spec):
        return {"x": np.zeros(1)}

    def segment(self, spec, state, k, emit):
        for period in range(spec.num_periods):
            for seed in spec.seeds:
                mass = np.array([1.0, 1.0, 1.0, 1.0 + period * seed])
                row = {"seed": seed, "batch": period, "env_steps": 30 * (period + 1), "test/recall_at_1": 0.5}
                if spec.sampler.sampler == "adaptive":
                    row["asr/distribution"] = (mass / mass.sum()).tolist()
                emit(row)
        return state


@pytest.fixture
def make(tmp_path):
    def made(name, **sampler):
        spec = dataclasses.replace(SPEC, sampler=dataclasses.replace(SPEC.sampler, **sampler))
        start(ScriptedSampling(), spec, tmp_path / name)
        return open_run(tmp_path / name)

    return made


def test_the_heat_is_the_mean_over_seeds_of_the_distribution_of_each_period(make):
    heat = heat_of(make("a"))
    assert heat.steps.tolist() == [0, 30, 60, 90, 120]
    assert heat.distances.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    # In period 3 the last bin has 4/7 with seed 1 and 7/10 with seed 2.
    assert heat.shares[3, 3] == pytest.approx((4 / 7 + 7 / 10) / 2)
    np.testing.assert_allclose(heat.shares.sum(axis=0), 1.0)


@pytest.mark.parametrize(("where", "steps"), [("later", [60, 90, 120]), ("earlier", [0, 30, 60])])
def test_a_branch_that_changes_its_sampler_has_a_distribution_for_part_of_its_time(
    make, monkeypatch, where, steps
):
    run = make("a")
    records = run.records()
    first = records["env_steps"].to_numpy() <= 60
    gone = first if where == "later" else ~first
    column = pa.array([None if out else x for out, x in zip(gone, records[COLUMN].to_pylist(), strict=True)])
    index = records.column_names.index(COLUMN)
    changed = records.set_column(index, COLUMN, column.cast(records[COLUMN].type))
    monkeypatch.setattr("escapevelocity.report.asr.require_records", lambda run: changed)
    heat = heat_of(run)
    assert heat.steps.tolist() == steps
    assert heat.shares.shape == (4, 2)
    np.testing.assert_allclose(heat.shares.sum(axis=0), 1.0)


def test_a_fixed_sampler_has_no_distribution_to_draw(make, tmp_path):
    run = make("fixed", sampler="random")
    assert heat_of(run) is None
    assert plot_distribution([run], tmp_path / "plots") == []
    names = [path.name for path in plot_run(run, tmp_path / "plots", ("png",))]
    assert names == ["health.png"]


def test_runs_are_named_by_their_starts_where_these_differ(make):
    runs = [make("a"), make("b", init="narrow"), make("c", sampler="hard"), make("d", sampler="curriculum")]
    assert [start_label(run) for run in runs] == ["broad", "narrow", "hard", "broad, then broad"]
    with paper_style():
        figure = compose(runs, panels_of("asr"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [start_label(run) for run in runs]
    assert {axes.get_xlabel() for axes in figure.axes} == {"", "training steps"}
    assert figure.axes[0].get_title() == "Recall@1, unseen classes"


def test_runs_of_different_kinds_are_not_drawn_together(make, tmp_path):
    class Other(ScriptedSampling):
        name = "other"

    start(Other(), SPEC, tmp_path / "other")
    with pytest.raises(UserError, match="different kinds"):
        plot_run([make("a"), tmp_path / "other"], tmp_path / "plots")


def test_more_runs_than_panels_are_refused(make, tmp_path):
    run = make("a")
    with pytest.raises(UserError, match="runs = 13: must be at most 12"):
        plot_distribution([run] * 13, tmp_path)


def test_what_is_shown_follows_the_job():
    assert panels_of("asr") is ASR_PANELS
    assert panels_of("ppo") is PANELS
    assert shown_of("asr")[0].column == "validation/recall_at_1"
    assert shown_of("ppo")[0].column == "perf/return_mean"
    assert task_name({"data": {"data": "omniglot"}}, "asr") == "omniglot"
    assert task_name({}, "lab") == "lab"


def test_every_class_of_a_map_looks_different(rng):
    labels = np.repeat(np.arange(12), 3)
    with paper_style():
        figure = draw_map(rng.normal(size=(36, 2)), labels, [str(n) for n in range(12)], "caption")
    looks = {
        (tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in figure.axes[0].collections
    }
    assert len(looks) == 12


def test_the_plane_of_pca_holds_the_two_directions_of_largest_variance(rng):
    points = rng.normal(size=(50, 5)) * np.array([9.0, 1.0, 0.1, 5.0, 0.1])
    centred = points - points.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    flat = in_the_plane(points, "pca", 0)
    np.testing.assert_allclose((flat**2).sum(axis=0), values[:2] ** 2, rtol=1e-6)
    for given, said in (((points, "umap", 0), "tsne or pca"), ((points[:5], "pca", 0), "at least 10")):
        with pytest.raises(UserError, match=said):
            in_the_plane(*given)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_an_embedding_on_one_point_is_refused_and_t_sne_lays_others_out(method, rng):
    groups = np.repeat(np.eye(3), 10, axis=0) + 0.01 * rng.normal(size=(30, 3))
    flat = in_the_plane(groups, method, 0)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1) + 1e9 * np.eye(30)
    assert (distances.argmin(axis=1) // 10).tolist() == np.repeat([0, 1, 2], 10).tolist()
    with pytest.raises(UserError, match=r"spread of the embeddings = 0\.0: must be above 0"):
        in_the_plane(np.ones((50, 4)), method, 0)


def test_maps_of_wells_write_each_value_where_it_belongs():
    grid = grid_of([0.5, 1.0], [0.1, 0.4], {(0.5, 0.1): 1.0, (1.0, 0.4): -2.0})
    with paper_style():
        figure = draw_wells([0.5, 1.0], [0.1, 0.4], [MeasureGrid("gain", "", grid, True)], "caption")
    texts = {(text.get_position()): text.get_text() for text in figure.axes[0].texts}
    assert texts == {(0, 0): "1", (1, 0): "–", (0, 1): "–", (1, 1): "-2"}
    low, high = figure.axes[0].images[0].get_clim()
    assert (low, high) == (-2.0, 2.0)


def test_files_are_the_same_bytes_each_time(make, tmp_path):
    run = make("a")
    first, second = (plot_distribution([run], tmp_path / name, ("png", "pdf")) for name in ("1", "2"))
    assert [Path(p).read_bytes() for p in first] == [Path(p).read_bytes() for p in second]
