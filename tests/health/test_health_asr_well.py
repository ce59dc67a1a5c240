"""The verdict "ASR gravity well" on records whose illness is known, and its silence on all others."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible_records import DISCRETE, healthy

from escapevelocity.errors import UserError
from escapevelocity.health import CIRCUMSTANCES, MULTIPLICATIVE_WELL, SAMPLER_CAUSES, combine, measure_well
from escapevelocity.health._retrieval import Retrieval
from escapevelocity.health.context import Context
from escapevelocity.health.diagnosis import diagnose
from escapevelocity.health.signs import Instrument, Sign
from escapevelocity.health.thresholds import Thresholds
from escapevelocity.health.verdict import Verdict
from escapevelocity.health.watch import Watch

EVERY, BINS, ROWS = 30, 29, 120
RISING = ((0, 40, 120), (0.3, 0.6, 0.8))
PLUNGE = ((0, 40, 60, 119), (0.3, 0.6, 0.35, 0.4))
ESCAPED = ((0, 30, 45, 90, 119), (0.3, 0.6, 0.35, 0.7, 0.75))
FALLEN_TEST, STEADY = ((0, 40, 60, 119), (0.3, 0.6, 0.35, 0.4)), ((0, 119), (0.3, 0.8))

BROAD = np.exp(-((np.linspace(0.1, 1.4, BINS) - 0.75) ** 2) / (2 * 0.4**2))
NARROW = np.maximum(np.exp(-((np.linspace(0.1, 1.4, BINS) - 0.5) ** 2) / (2 * 0.1**2)), 1e-15)


def sampler_records(curve=RISING, start=BROAD, noise=0.005, rows=ROWS, test=None, undecided=True, seed=1):
    """A run of `rows` periods of 30 steps: retrieval along a curve of straight pieces, and a sampler that stays."""
    rng = np.random.default_rng(seed)
    q = np.asarray(start) / np.sum(start)
    periods = np.arange(rows)
    steps = EVERY * (periods + 1)
    records = {
        "seed": np.full(rows, seed),
        "env_steps": steps,
        "fault": [""] * rows,
        "validation/recall_at_1": np.interp(periods, *curve) + rng.normal(0, noise, rows),
        "loss/embedding": np.full(rows, 0.3),
        "norm/gradient": np.full(rows, 1.0),
        "asr/skipped_steps": np.zeros(rows, int),
        "asr/distribution": [q.tolist() for _ in range(rows)],
        "asr/entropy": np.full(rows, -(q * np.log(q)).sum()),
        "asr/distance_mean": np.full(rows, 0.75),
        "asr/distance_std": np.full(rows, 0.31),
        "asr/floor_bins": np.full(rows, (q <= 1e-10 * q.max()).sum()),
        "asr/policy_entropy": np.full(rows, 0.99 * math.log(3) if undecided else 0.3),
    }
    if test is not None:
        measured = np.interp(periods, *test) + rng.normal(0, noise, rows)
        records["test/recall_at_1"] = [
            m if p % 3 == 2 else None for p, m in zip(periods, measured, strict=True)
        ]
    return records


def test_a_plunge_that_lasts_after_a_broad_start_is_the_well():
    found = diagnose(sampler_records(PLUNGE))
    assert found.verdict is Verdict.ASR_GRAVITY_WELL
    onsets = {onset.sign: onset for onset in found.onsets if onset.ended is None}
    assert set(onsets) == {Sign.BROAD_SAMPLING, Sign.UNDECIDED_CONTROLLER, Sign.RETRIEVAL_PLUNGE}
    # The drop begins at period 40, step 41·30; the median of five and noise move that by a few periods.
    plunge = onsets[Sign.RETRIEVAL_PLUNGE]
    assert abs(plunge.step - 41 * EVERY) <= 4 * EVERY
    assert plunge.confirmed > plunge.step
    assert plunge.text.startswith("validation/recall_at_1 0.5")
    assert "after a best of 0.5" in plunge.text  # A median of five at a peak of 0.6.
    # Retrieval, sampling and controller agree: 3/(3 + 1).
    assert found.confidence == 0.75
    assert found.remedies == ("narrower-start", "curriculum", "escort-head", "reward-shaping")
    assert any("narrower start" in text for text in found.refuted_by)


def test_the_evidence_tells_depth_onset_entropy_and_what_the_controller_does():
    records = sampler_records(PLUNGE, noise=0.0)
    told = diagnose(records).evidence
    well = measure_well(records["env_steps"], records["validation/recall_at_1"]).values
    assert (well["depth"], well["onset"]) == (pytest.approx(0.25), 41 * EVERY)
    (fell,) = (text for text in told if "fell by" in text)
    assert (
        "fell by 0.25 from its best at step 1,230 to step 1,830 and has not regained it in 2,370 steps"
        in fell
    )
    (sampling,) = (text for text in told if "sampling distribution began" in text)
    assert sampling.startswith("for it: the sampling distribution began with 98% of the largest entropy")
    assert "(distance 0.75 ± 0.31) and has 98% now" in sampling
    assert any(text.startswith("for it: the controller's actions have 99%") for text in told)
    decided = diagnose(sampler_records(PLUNGE, undecided=False))
    assert decided.verdict is Verdict.ASR_GRAVITY_WELL
    # Two agree, the controller speaks against it.
    assert decided.confidence == 0.5
    assert any(text.startswith("against it: the controller is decided") for text in decided.evidence)
    assert any(text == f"against it: {Instrument.CONTROLLER}" for text in decided.evidence)


def test_a_well_that_was_left_is_told_and_is_no_longer_the_verdict():
    found = diagnose(sampler_records(ESCAPED))
    assert found.verdict is Verdict.LEARNING
    (plunge,) = (onset for onset in found.onsets if onset.sign is Sign.RETRIEVAL_PLUNGE)
    assert plunge.ended is not None
    # 0.6 is regained between periods 45 and 90 at 0.35/45 each: at 45 + 32. The sign ends a little before, at 0.57.
    assert abs(plunge.ended - 75 * EVERY) <= 10 * EVERY
    assert any("and regained it" in text for text in found.evidence)


@pytest.mark.parametrize("start", [BROAD, NARROW])
def test_retrieval_that_rises_is_learning_whatever_the_start(start):
    found = diagnose(sampler_records(RISING, start))
    assert found.verdict is Verdict.LEARNING
    assert found.reason == "no sign of illness, and retrieval still rises"
    assert found.refuted_by == ("a later plunge of retrieval",)
    assert {onset.sign for onset in found.onsets} <= CIRCUMSTANCES
    assert found.not_measured == ()


def test_retrieval_that_rose_and_stands_is_healthy():
    found = diagnose(sampler_records(((0, 30, 119), (0.3, 0.8, 0.8)), NARROW))
    assert found.verdict is Verdict.HEALTHY


def test_a_plunge_from_a_narrow_start_has_no_name():
    found = diagnose(sampler_records(PLUNGE, NARROW))
    assert found.verdict is Verdict.NOT_MEASURED
    assert found.reason == "retrieval has fallen and no sign that was measured explains it"
    assert found.remedies == ()


def test_most_bins_at_the_floor_are_a_well_with_a_way_up_that_is_predicted():
    # PADS's normal_high: 25 bins at 1e-15 of a largest density of 9.8e-5.
    density = np.r_[np.full(25, 1e-15), 1.1e-13, 3.6e-10, 3.7e-7, 9.8e-5]
    for curve in (PLUNGE, ((0, 119), (0.3, 0.3))):
        found = diagnose(sampler_records(curve, density), Context(decision_every=EVERY))
        assert found.verdict is Verdict.ASR_GRAVITY_WELL
        assert found.remedies == ("broader-start", "larger-step-up", "reward-shaping")
        # Retrieval and sampling agree, and no other was asked.
        assert found.confidence == pytest.approx(2 / 3)
        # log(9.8e10)/log 1.25 = 113.4.
        assert any(
            text
            == "25 of 29 bins are at the floor: the lowest takes 114 raises of ×1.25 in a row to be level with "
            "the largest, 3,420 training steps"
            for text in found.evidence
        )
        # A narrow start is no news here, and the controller's mind does not matter.
        assert not any(
            " it: the sampling" in text or " it: the controller" in text for text in found.evidence
        )
    rising = diagnose(sampler_records(RISING, density))
    assert rising.verdict is Verdict.LEARNING
    assert rising.reason.startswith("bins at the floor, but nothing that goes with an illness")


def test_the_way_up_has_the_factor_of_the_run():
    density = np.r_[np.full(25, 1e-15), np.full(4, 1.0)]
    found = diagnose(sampler_records(PLUNGE, density), Context(step_up=10.0))
    assert any(
        "takes 15 raises of ×10 in a row to be level with the largest" in text for text in found.evidence
    )
    # A share that float32 has rounded to 0 is at most 1e50 below: log(1e50)/log 10.
    found = diagnose(sampler_records(PLUNGE, np.r_[np.zeros(25) + 1e-300, np.ones(4)]), Context(step_up=10.0))
    assert any("takes 50 raises" in text for text in found.evidence)


def test_a_floor_that_no_controller_could_lift_is_not_judged():
    density = np.r_[np.full(25, 1e-15), np.full(4, 1.0)]
    records = sampler_records(PLUNGE, density)
    del records["asr/policy_entropy"]
    found = diagnose(records)
    assert found.verdict is Verdict.NOT_MEASURED
    assert (
        "bins at the floor: no asr/floor_bins or asr/policy_entropy in the records" not in found.not_measured
    )
    assert any(text.startswith("bins at the floor: no asr/policy_entropy") for text in found.not_measured)


def test_flat_retrieval_alone_names_no_cause():
    found = diagnose(sampler_records(((0, 119), (0.3, 0.3)), NARROW))
    assert found.verdict is Verdict.NOT_MEASURED
    assert found.reason == f"in {ROWS} batches retrieval has not risen above its noise"
    early = diagnose(sampler_records(((0, 119), (0.3, 0.3)), NARROW, rows=10))
    assert early.reason.endswith("has not risen above its noise: too few to tell")


def test_the_test_classes_count_where_they_are_measured():
    found = diagnose(sampler_records(STEADY, test=FALLEN_TEST))
    assert found.verdict is Verdict.ASR_GRAVITY_WELL
    (plunge,) = (onset for onset in found.onsets if onset.sign is Sign.RETRIEVAL_PLUNGE)
    assert plunge.text.startswith("test/recall_at_1")
    assert "against it: the validation classes did not fall" in found.evidence
    both = diagnose(sampler_records(FALLEN_TEST, test=FALLEN_TEST))
    assert any(text.startswith("for it: the validation classes fell too") for text in both.evidence)
    # A plunge on the validation classes alone is none.
    assert diagnose(sampler_records(FALLEN_TEST, test=STEADY)).verdict is Verdict.LEARNING


def test_a_sampler_without_a_distribution_has_no_well_and_says_what_is_missing():
    records = {n: v for n, v in sampler_records(PLUNGE).items() if not n.startswith("asr/")}
    found = diagnose(records)
    assert found.verdict is Verdict.NOT_MEASURED
    assert "broad sampling: no asr/entropy in the records" in found.not_measured
    records["asr/entropy"] = np.full(ROWS, 3.3)
    assert "broad sampling: the number of bins is unknown" in diagnose(records).not_measured
    assert diagnose(records, Context(bins=BINS)).verdict is Verdict.ASR_GRAVITY_WELL


def test_a_step_that_was_skipped_and_a_fault_are_non_finite():
    records = sampler_records()
    records["asr/skipped_steps"][-1] = 1
    found = diagnose(records)
    assert found.verdict is Verdict.NON_FINITE
    assert found.remedies == ("lower-learning-rate", "skip-nonfinite")
    records = sampler_records()
    records["norm/controller_gradient"] = [0.1] * (ROWS - 1) + [math.inf]
    assert diagnose(records).verdict is Verdict.NON_FINITE


def test_an_agents_records_are_never_a_samplers():
    records = healthy()
    records["perf/return_mean"] = np.where(np.arange(60) < 40, records["perf/return_mean"], 110.0)
    found = diagnose(records, DISCRETE)
    assert found.verdict is Verdict.NOT_MEASURED
    samplers = {Sign.BROAD_SAMPLING, Sign.FLOOR_BINS, Sign.RETRIEVAL_PLUNGE, Sign.RETRIEVAL_FLAT}
    assert not samplers & {onset.sign for onset in found.onsets}
    assert not any(text.startswith(tuple(samplers)) for text in found.not_measured)


def test_few_periods_are_too_few():
    found = diagnose(sampler_records(rows=4))
    assert found.verdict is Verdict.NOT_MEASURED
    assert found.reason == "4 logged batches; a sign needs 5"
    assert found.remedies == ("longer-run",)


def test_the_run_has_the_verdict_of_most_seeds():
    members = [diagnose(sampler_records(curve, seed=s)) for s, curve in enumerate((PLUNGE, PLUNGE, RISING))]
    assert combine(members).verdict is Verdict.ASR_GRAVITY_WELL
    assert combine(members).to_json()["verdict"] == "ASR gravity well"


def test_noise_on_a_rising_curve_is_hardly_ever_called_a_plunge():
    plunged = 0
    for seed in range(30):
        retrieval = Retrieval("validation/recall_at_1", Thresholds())
        rng = np.random.default_rng(seed)
        # Noise that is large against the climb and against 5 % of the best.
        for step, value in enumerate(np.linspace(0.2, 0.22, ROWS) + rng.normal(0, 0.02, ROWS)):
            retrieval.add_row({"validation/recall_at_1": float(value)}, step)
            plunged += retrieval.fall >= retrieval.least_fall()
    # Of 3,600 rows; a sign needs three in a row.
    assert plunged < 4


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32 - 1), st.sampled_from([PLUNGE, RISING]))
def test_holes_and_the_order_of_rows_do_not_change_the_verdict(hole_seed, curve):
    rng = np.random.default_rng(hole_seed)
    records = sampler_records(curve)
    whole = diagnose(records)
    for name in ("validation/recall_at_1", "asr/entropy", "asr/policy_entropy"):
        records[name] = np.where(rng.random(ROWS) < 0.1, np.nan, records[name])
    order = rng.permutation(ROWS)
    mixed = {name: [values[i] for i in order] for name, values in records.items()}
    assert diagnose(mixed).verdict is whole.verdict


def test_the_watch_tells_of_the_plunge_as_it_happens():
    watch = Watch(context=Context(bins=BINS))
    records = sampler_records(PLUNGE)
    told = {}
    for i in range(ROWS):
        row = {name: values[i] for name, values in records.items()}
        told |= {onset.sign: i for onset in watch.update(row)}
    # 5 % below the best at period 43 of a fall of 0.0125 each; medians and three in a row add five.
    assert 43 <= told[Sign.RETRIEVAL_PLUNGE] <= 52
    assert watch.retrieval(1).column == "validation/recall_at_1"


def test_settings_of_a_sampler_that_cannot_be_are_refused():
    for options, message in (
        ({"bins": 0}, "bins = 0: must be at least 1"),
        ({"decision_every": 0}, "decision_every = 0: must be at least 1"),
        ({"step_up": 1.0}, "step_up = 1.0: must be a finite number above 1"),
    ):
        with pytest.raises(UserError, match=message):
            Context(**options)


def test_every_cause_of_a_sampler_says_what_would_refute_it_and_what_to_try():
    assert set(SAMPLER_CAUSES) == {Verdict.NON_FINITE, Verdict.ASR_GRAVITY_WELL}
    for cause in (*SAMPLER_CAUSES.values(), MULTIPLICATIVE_WELL):
        assert cause.refuted_by
        assert cause.remedies
