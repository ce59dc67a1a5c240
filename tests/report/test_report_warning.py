"""Early warning: what is told and when, and which runs are stopped."""

import pytest
from scripted_runs import BATCH, RowsJob, make_info, make_row, make_spec

from escapevelocity.errors import UserError
from escapevelocity.health.signs import Sign
from escapevelocity.ppo.config import MonitoringConfig
from escapevelocity.report import EarlyWarning
from escapevelocity.runs import open_run, read_records, resume, start

DEAD = {"health__actor__dead_neurons": 60.0}
LOST = {**DEAD, "health__actor__feature_rank_pca": 3.0, "trust__ratio_below_mean": 0.1}


def rising(seed, batch, **columns):
    return make_row(seed, batch, **{"perf__return_mean": 100.0 + 10 * batch, **columns})


@pytest.fixture
def told():
    return []


def watching(told, seeds=(1,), **options):
    warning = EarlyWarning(told.append, **options)
    warning.on_start(make_info(seeds=seeds))
    return warning


def test_a_sign_is_told_in_one_line_when_it_is_confirmed_and_only_once(told):
    warning = watching(told, leads={})
    for batch in range(40):
        # The median of five is 60 from batch 12 on, for the third time at batch 14.
        assert not told or batch > 14
        warning.on_row(rising(1, batch, **(DEAD if batch >= 10 else {})))
    assert told == [
        f"step {15 * BATCH:,} seed 1: dead neurons since step {11 * BATCH:,}: 60 of 64 neurons dead, 2 at the start"
        " [lead not measured yet]"
    ]


def test_a_lead_that_was_measured_is_told(told):
    warning = watching(told, leads={Sign.DEAD_NEURONS: 0.12})
    for batch in range(20):
        warning.on_row(rising(1, batch, **DEAD))
    assert told[0].endswith("[collapse followed after a median of 12% of training, in studies/early_warning]")


def test_a_sign_that_sound_runs_show_as_well_is_kept_for_the_diagnosis(told):
    warning = watching(told)
    for batch in range(20):
        warning.on_row(rising(1, batch, **({"health/actor/feature_rank_pca": 3.0} if batch >= 5 else {})))
    assert told == []


def test_a_healthy_run_is_never_warned_about_nor_stopped(told):
    warning = watching(told, stop_on="collapse")
    assert [warning.on_row(rising(1, batch)) for batch in range(60)] == [None] * 60
    assert told == []


def stopped_at(warning, rows):
    for row in rows:
        if warning.on_row(row) is False:
            return row["batch"]
    return None


def test_the_run_stops_when_its_last_seed_has_collapsed(told):
    warning = watching(told, (1, 2), stop_on="collapse")
    rows = [
        rising(seed, batch, **(LOST if batch >= ill else {}))
        for batch in range(60)
        for seed, ill in ((1, 10), (2, 30))
    ]
    assert stopped_at(warning, rows) == 34
    assert warning.reason == f"collapsed by step {35 * BATCH:,}: representation collapse (seeds 1 2)"


def test_a_seed_that_has_recovered_does_not_count(told):
    warning = watching(told, (1, 2), stop_on="collapse")
    rows = [
        rising(seed, batch, **(LOST if ill else {}))
        for batch in range(80)
        for seed, ill in ((1, 10 <= batch < 20), (2, batch >= 40))
    ]
    assert stopped_at(warning, rows) is None
    late = [rising(1, batch, **LOST) for batch in range(80, 100)]
    assert stopped_at(warning, late) == 84


@pytest.mark.parametrize(("skips", "stopped"), [(True, None), (False, 34)])
def test_a_seed_that_skips_what_is_not_finite_has_not_ended(told, skips, stopped):
    warning = EarlyWarning(told.append, stop_on="collapse")
    spec = make_spec(100, (1, 2), monitoring=MonitoringConfig(on_nonfinite="skip" if skips else "stop"))
    warning.on_start(make_info(spec=spec))
    rows = [
        rising(seed, batch, **(LOST if seed == 2 and batch >= 30 else {}), **extra)
        for batch in range(60)
        for seed in (1, 2)
        for extra in [{"fault": "non-finite loss in minibatch 3"} if (seed, batch) == (1, 10) else {}]
    ]
    assert stopped_at(warning, rows) == stopped


def test_a_single_sign_does_not_stop_a_run_but_a_fallen_return_does(told):
    lone = [rising(1, batch, **(DEAD if batch >= 10 else {})) for batch in range(60)]
    # Dead neurons alone: the ratios and the norm, which were measured, speak against a collapse.
    assert stopped_at(watching(told, stop_on="collapse"), lone) is None
    fallen = [rising(1, batch, **({"perf__return_mean": 50.0} if batch >= 30 else {})) for batch in range(60)]
    warning = watching(told, stop_on="collapse")
    assert stopped_at(warning, fallen) == 34
    assert warning.reason.endswith("performance collapse (seeds 1)")


def test_a_seed_that_failed_is_not_waited_for_and_does_not_count_as_collapsed(told):
    warning = watching(told, (1, 2), stop_on="collapse")
    rows = [rising(2, 0, fault="seed 2: non-finite loss in batch 0, minibatch 1")]
    rows += [rising(1, batch, **(LOST if batch >= 10 else {})) for batch in range(30)]
    assert stopped_at(warning, rows) == 14
    assert warning.reason.endswith("representation collapse (seeds 1)")
    all_failed = watching(told, (1,), stop_on="collapse")
    assert all_failed.on_row(rising(1, 0, fault="seed 1: non-finite loss")) is None


def test_a_stopped_run_is_interrupted_with_the_reason_and_exit_code_0_and_keeps_its_rows(tmp_path, told):
    rows = [rising(1, batch, **(LOST if batch >= 10 else {})) for batch in range(60)]
    warning = EarlyWarning(told.append, "collapse")
    status = start(RowsJob(rows), make_spec(60), tmp_path / "run", [warning])
    assert (status.state, status.exit_code) == ("interrupted", 0)
    assert open_run(tmp_path / "run").status.why == warning.reason
    assert read_records(tmp_path / "run").num_rows == 15


class Halves(RowsJob):
    """The same rows in two segments; the process ends between them when it is told to."""

    def __init__(self, rows, crash):
        super().__init__(rows)
        self.crash = crash

    def segments(self, spec):
        return 2

    def step(self, spec, k):
        return k * len(self.rows) // 2 * BATCH

    def segment(self, spec, state, k, emit):
        if k == 1 and self.crash:
            raise KeyboardInterrupt
        half = len(self.rows) // 2
        for row in self.rows[k * half : (k + 1) * half]:
            emit(row)
        return state


def test_a_run_that_goes_on_is_judged_by_how_it_began(tmp_path, told):
    norm = "health__actor__preactivation_norm"
    # 8 at the start, 600 after the break: 75 times as much, which a watch that began there would not see.
    rows = [rising(1, batch, **{norm: 8.0 if batch < 20 else 600.0}) for batch in range(40)]
    spec = make_spec(40)
    start(Halves(rows, crash=True), spec, tmp_path / "run", [EarlyWarning(told.append)])
    assert told == []
    resume(Halves(rows, crash=False), spec, tmp_path / "run", [EarlyWarning(told.append)])
    assert len(told) == 1
    assert "pre-activation growth" in told[0]
    assert "600, 8 at the start" in told[0]


def test_what_to_stop_on_is_checked():
    with pytest.raises(UserError, match="stop-on = 'plateau': must be collapse or None"):
        EarlyWarning(print, "plateau")
