import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from escapevelocity.errors import UserError
from escapevelocity.lab.classifier import Training, Tuned
from escapevelocity.lab.classifier_objective import Objective
from escapevelocity.lab.experiments._contest import (
    Contest,
    Entry,
    Result,
    against_softmax,
    curve_rows,
    final_rows,
    geometric_interval,
    mean_interval,
    objectives,
    plus_minus,
    summary_cells,
    times_over,
)
from escapevelocity.lab.experiments.classify import Classify
from escapevelocity.lab.experiments.experiment import silently
from escapevelocity.lab.images import load_images


def result(objective, reward, loss, rate=0.1, at_edge=False):
    """A result with hand-made curves, (seeds, records) each."""
    reward, loss = np.asarray(reward, float)[None], np.asarray(loss, float)[None]
    training = Training(reward, loss, reward / 2)
    return Result(Entry("wrong", "SGD", objective), Tuned(rate, at_edge, np.zeros(3), training))


def never(parts: Any, name: Any = str) -> Any:
    raise AssertionError("something was computed")


REWARDS = [[0.1, 0.92, 0.95], [0.1, 0.3, 0.91], [0.1, 0.2, 0.85]]
LOSSES = [[2.0, 1.0, 0.1], [2.0, 1.0, 0.2], [2.0, 1.0, 0.4]]


def test_intervals_are_those_of_scipys_t_test(rng):
    values = rng.normal(size=9)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(mean_interval(values), (values.mean(), *expected), rtol=1e-12)
    logs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(geometric_interval(np.exp(values)), np.exp([values.mean(), *logs]), rtol=1e-12)


def test_a_diverged_seed_makes_the_mean_infinite_and_the_interval_unknown():
    mean = geometric_interval(np.array([0.1, np.inf]))
    assert mean.value == math.inf
    assert math.isnan(mean.low)
    assert math.isnan(mean.high)


def test_epochs_until_the_goal_are_the_median_over_seeds_with_never_as_infinite():
    # First at 0.9: epochs 1, 2 and never.
    assert result(Objective("reward"), REWARDS, LOSSES).epochs_to_goal == 2
    assert result(Objective("reward"), REWARDS[1:] + REWARDS[2:], LOSSES).epochs_to_goal == math.inf


def test_rewards_are_compared_by_paired_differences_and_losses_by_paired_ratios():
    better = np.add(REWARDS, [[0, 0, 0.01], [0, 0, 0.03], [0, 0, 0.05]])
    pair = [result(Objective("reward"), REWARDS, LOSSES), result(Objective("reward", 4), better, LOSSES)]
    low, high = stats.ttest_rel(better[:, -1], np.asarray(REWARDS)[:, -1]).confidence_interval(0.95)
    said = against_softmax(pair, "wrong", "SGD", "reward")
    assert f"EPG(4) +0.03 [{low:+.3g}, {high:+.3g}] (90 % after 2)" in said
    halved = np.asarray(LOSSES) * [[1, 1, 0.5], [1, 1, 0.5], [1, 1, 0.5]]
    pair = [
        result(Objective("likelihood"), REWARDS, LOSSES),
        result(Objective("likelihood", 4), REWARDS, halved),
    ]
    said = against_softmax(pair, "wrong", "SGD", "likelihood")
    assert said.startswith("SGD: SCE 0.2 [")  # the geometric mean of 0.1, 0.2, 0.4
    assert said.endswith("ECE(4) × 0.5 [0.5, 0.5]")


def test_diverged_seeds_are_said_and_not_left_out():
    lost = np.asarray(LOSSES)
    lost[0, -1] = np.inf
    pair = [
        result(Objective("likelihood"), REWARDS, LOSSES),
        result(Objective("likelihood", 2), REWARDS, lost),
    ]
    assert "ECE(2) inf, 1 seeds diverged" in against_softmax(pair, "wrong", "SGD", "likelihood")
    row = final_rows(pair)[1]
    assert (row["loss"], row["diverged"]) == (math.inf, 1)


def test_the_table_shows_rate_final_accuracy_and_epochs():
    cells = summary_cells(result(Objective("reward"), REWARDS, LOSSES, rate=0.316, at_edge=True), 2)
    half = stats.t.ppf(0.975, 2) * np.std([0.95, 0.91, 0.85], ddof=1) / math.sqrt(3)
    accuracy = f"{100 * np.mean([0.95, 0.91, 0.85]) / 2:.1f} ± {100 * half / 2:.1f}"
    assert cells == ["0.316*", f"0.90 ± {half:.2f}", accuracy, "2"]
    never = summary_cells(result(Objective("likelihood"), [[0.1, 0.2, 0.3]] * 3, LOSSES), 2)
    factor = math.exp(
        stats.t.ppf(0.975, 2) * math.log(2) / math.sqrt(3)
    )  # logs are ln 0.2 and ± ln 2 around it
    assert never[1:] == [f"0.2 ×÷ {factor:.2g}", "15.0 ± 0.0", "> 2"]


@pytest.mark.parametrize(
    ("values", "text"), [([1.0, 1.0], "1.000 ± 0.000"), ([0.9871, 0.9873], "0.9872 ± 0.0013")]
)
def test_means_are_shown_to_the_second_digit_of_the_interval(values, text):
    assert plus_minus(mean_interval(np.array(values))) == text
    assert times_over(geometric_interval(np.array([0.1, 0.1]))) == "0.1 ×÷ 1"


def test_the_methods_are_softmax_first_then_the_escorts():
    names = [one.name for one in objectives((2.0, 4.0), (2.0,))]
    assert names == ["SPG", "EPG(2)", "EPG(4)", "EPG(2), scaled", "SCE", "ECE(2)", "ECE(4)"]


def test_from_the_wrong_start_the_escorts_reward_rises_before_softmaxs():
    # The best rates of the default grid, whose neighbours a factor √10 away are worse for both methods.
    contest = Contest(
        3,
        128,
        64,
        0.97,
        {"SGD": (3.16,)},
        {"SGD": "learning_rates"},
        selection_seeds=3,
        report_seeds=3,
        seed=0,
    )
    entries = [Entry("wrong", "SGD", Objective("reward")), Entry("wrong", "SGD", Objective("reward", 4))]
    softmax, escort = contest.run(load_images("digits"), entries, silently)
    # π = 0.97 on class 0, 0.01/3 on each other: the digits have 9.9 % zeros.
    np.testing.assert_allclose(softmax.training.reward[..., 0], 0.0988, atol=5e-4)
    np.testing.assert_allclose(escort.training.reward[..., 0], 0.0988, atol=5e-4)
    assert softmax.final.max() < escort.final.min()
    rows = curve_rows([softmax, escort])
    assert [row["reward"] for row in rows if row["epoch"] == 3] == [*softmax.final, *escort.final]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": "cifar"}, "name = 'cifar': must be one of digits, mnist, omniglot"),
        ({"starts": ("left",)}, r"starts\[0\] = 'left': must be one of uniform, wrong"),
        ({"optimisers": ()}, r"optimisers = \(\): must be one or more"),
        ({"optimisers": ("LBFGS",)}, r"optimisers\[0\] = 'LBFGS': must be one of SGD, momentum, Adam"),
        ({"escort_powers": (0.5,)}, r"escort_powers\[0\] = 0.5: must be finite and ≥ 1"),
        ({"scaled_powers": (0.5,)}, r"scaled_powers\[0\] = 0.5: must be finite and ≥ 1"),
        ({"learning_rates": (0.0,)}, r"learning_rates\[0\] = 0.0: must be finite and above 0"),
        (
            {"optimisers": ("SGD", "Adam"), "adam_rates": (0.1, 0.01)},
            r"adam_rates = \(0\.1, 0\.01\): must be in increasing",
        ),
        ({"corner_prob": 1.0}, r"corner_prob = 1.0: must be in \(0, 1\)"),
        ({"report_seeds": 1}, "report_seeds = 1: must be an integer ≥ 2"),
        ({"selection_seeds": 0}, "selection_seeds = 0: must be an integer ≥ 1"),
        ({"seed": -1}, "seed = -1: must be an integer ≥ 0"),
        ({"epochs": 0}, "epochs = 0: must be an integer ≥ 1"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_computed(changed, message):
    with pytest.raises(UserError, match=message):
        Classify(**changed).run(track=never)
