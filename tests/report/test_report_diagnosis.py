"""The diagnosis of a run on disk, its text, and its marks on the figures."""

import dataclasses

import numpy as np
import pytest
from scripted_runs import BATCH, make_row

from escapevelocity.errors import UserError
from escapevelocity.health.context import Context
from escapevelocity.health.signs import SIGNS, Sign
from escapevelocity.health.verdict import Verdict
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.report import _figure
from escapevelocity.report._marks import Mark, onset_marks, panel_marks
from escapevelocity.report._panels import PANELS
from escapevelocity.report.diagnosis import diagnose_run, diagnosis_text, run_context
from escapevelocity.report.plots import compose, plot_run

SICK = {
    "health__actor__feature_rank_pca": 3.0,
    "health__actor__dead_neurons": 60.0,
    "health__actor__preactivation_norm": 5000.0,
    "trust__ratio_below_mean": 0.1,
}


def rows(batches=30, seeds=(1, 2), ill_from=10):
    """Runs whose return rises, and that fall ill at a batch."""
    return [
        make_row(seed, batch, perf__return_mean=100.0 + 10 * batch, **(SICK if batch >= ill_from else {}))
        for batch in range(batches)
        for seed in seeds
    ]


@pytest.fixture
def sick(run_of):
    return run_of(rows())


def test_a_run_on_disk_is_diagnosed_with_its_own_settings(sick):
    found = diagnose_run(sick)
    assert found.verdict is Verdict.REPRESENTATION_COLLAPSE
    assert found.seeds == (1, 2)
    assert {onset.step for onset in found.members[0].onsets} == {11 * BATCH}
    assert [member.seed for member in diagnose_run(sick, [2]).members] == [2]


def test_the_settings_are_read_alike_from_a_spec_and_from_its_json():
    spec = PPOSpec()
    expected = Context(
        width=64,
        clip_epsilon=0.2,
        continuous=True,
        action_size=3,
        total_steps=5000,
        epochs=10,
        learning_rate=3e-4,
        activation="tanh",
    )
    assert run_context(spec, 5000, 3) == expected
    assert run_context(dataclasses.asdict(spec), 5000, 3) == expected
    assert run_context({}) == Context()


def test_the_text_begins_with_the_verdict_and_holds_onsets_refutation_and_commands(sick):
    lines = diagnosis_text(sick, diagnose_run(sick), ["ev train X"]).splitlines()
    assert lines[0].endswith(": REPRESENTATION COLLAPSE in 2 of 2 seeds, confidence high (0.75)")
    onsets = [line for line in lines if line.startswith("  step")]
    assert len(onsets) == len(SICK)
    assert "  step 22,528   37%  rank decline: rank 3 of 64, 30 at the start" in onsets
    assert lines.index("what would refute it") < lines.index("what to try") < lines.index("not measured")
    assert lines[lines.index("what to try") + 1] == "  ev train X"
    assert any(line.startswith("       2  representation collapse") for line in lines)


def test_what_was_not_measured_has_no_confidence_to_tell(run_of):
    run = run_of([{"seed": 1, "batch": i, "env_steps": i, "perf/return_mean": float(i)} for i in range(9)])
    assert diagnosis_text(run, diagnose_run(run), []).splitlines()[0].endswith(": NOT MEASURED")


def test_an_empty_run_is_refused_with_what_to_do(run_of):
    run = run_of([], batches=1)
    with pytest.raises(UserError, match="no records to diagnose; `ev resume"):
        diagnose_run(run)


def test_an_unfinished_run_says_so(run_of):
    class Stop:
        reason = "enough"

        def on_start(self, info): ...
        def on_message(self, text): ...
        def on_end(self, status): ...
        def on_row(self, row):
            return row["batch"] < 20

    run = run_of(rows(), observers=[Stop()])
    assert "The run is interrupted (enough): what follows" in diagnosis_text(run, diagnose_run(run), [])


def test_a_strangers_run_does_not_steer_the_terminal(run_of):
    run = run_of(rows())
    status = dataclasses.replace(run.status, state="failed", why="\x1b[2J\x1b]0;title\x07")
    text = diagnosis_text(dataclasses.replace(run, status=status), diagnose_run(run), ["ev train \x1b[2J"])
    assert "The run is failed" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_marks_are_the_median_onsets_of_what_most_seeds_show(run_of):
    # Seeds 1 and 2 fall ill at batches 10 and 14; only seed 2 leaves the trust region.
    apart = [row for row in rows(ill_from=10) if row["seed"] == 1]
    for row in rows(ill_from=14):
        if row["seed"] == 2:
            apart.append(row | ({"trust/kl": 9.0} if row["batch"] >= 14 else {}))
    apart.sort(key=lambda row: (row["batch"], row["seed"]))
    marks = {mark.sign: mark.step for mark in onset_marks(diagnose_run(run_of(apart)))}
    assert marks[Sign.RANK_DECLINE] == np.mean([11 * BATCH, 15 * BATCH])
    assert marks[Sign.TRUST_REGION_LEFT] == 15 * BATCH
    assert onset_marks(diagnose_run(run_of(rows(ill_from=99), name="well"))) == []


def test_a_sign_is_marked_in_the_panel_of_its_column():
    marks = [Mark(sign, 1.0) for sign in Sign]
    found = panel_marks(marks, PANELS)
    titles = {mark.sign: panel.title for panel, own in zip(PANELS, found, strict=True) for mark in own}
    assert titles[Sign.RANK_DECLINE] == "Actor feature rank (PCA)"
    assert titles[Sign.TRUST_REGION_LEFT] == titles[Sign.LOW_RATIOS] == "Ratios outside 1 ± ε"
    assert titles[Sign.DEGENERATE_POLICY] == "Policy variance"
    assert titles[Sign.VALUE_FAILURE] == titles[Sign.PLATEAU] == "Return"
    assert sum(map(len, found)) == len(Sign)


def labels_of(axes):
    return {text.get_text() for text in axes.texts} & {info.label for info in SIGNS.values()}


def test_the_figure_has_a_labelled_line_at_each_onset_and_labels_do_not_overlap(run_of, tmp_path):
    ill = rows()
    for row in ill:
        if row["batch"] >= 10:
            row["trust/kl"] = 9.0  # a second mark at the same step of the ratios' panel
    run = run_of(ill)
    with _figure.paper_style():
        figure = compose(run, PANELS, marks=True)
        figure.canvas.draw()
        axes = {ax.get_title(): ax for ax in figure.axes}
        assert labels_of(axes["Actor dead neurons"]) == {"dead"}
        line = axes["Actor dead neurons"].lines[-1]
        assert line.get_xdata()[0] == 11 * BATCH
        texts = axes["Ratios outside 1 ± ε"].texts
        assert {"KL", "ratios", "above 1 + ε", "below 1 − ε"} == {text.get_text() for text in texts}
        boxes = [text.get_window_extent() for text in texts]
        overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
        assert overlaps == []
        assert "Vertical lines: onsets of the signs of representation collapse" in " ".join(
            figure.texts[0].get_text().split()
        )


def test_no_marks_when_told_when_well_and_when_several_runs_are_drawn(run_of, tmp_path):
    run, well = run_of(rows()), run_of(rows(ill_from=99), name="well")
    with _figure.paper_style():
        for figure in (
            compose(run, PANELS, marks=False),
            compose(well, PANELS, marks=True),
            compose([run, well], PANELS, marks=True),
        ):
            assert [labels_of(axes) for axes in figure.axes] == [set()] * len(figure.axes)
            assert "Vertical lines" not in figure.texts[0].get_text()
    (with_marks,) = plot_run(run, tmp_path / "a", ["png"])
    (without,) = plot_run(run, tmp_path / "b", ["png"], marks=False)
    assert with_marks.read_bytes() != without.read_bytes()
