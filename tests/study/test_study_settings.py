"""Settings by name, laid over a spec: they land where their option would, with their type checked."""

import dataclasses
from typing import Literal

import numpy as np
import pytest

from escapevelocity.errors import UserError, require
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.remedies import PFO
from escapevelocity.study.settings import nearest, setting_names, typed_values, with_settings


@dataclasses.dataclass(frozen=True)
class Optimizer:
    rate: float = 0.5
    kind: Literal["sgd", "adam"] = "sgd"

    def __post_init__(self) -> None:
        require(self.rate > 0, "rate", self.rate, "above 0")


@dataclasses.dataclass(frozen=True)
class Spec:
    seeds: tuple[int, ...] = (1,)
    steps: int = 100
    limit: int | None = None
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)


def test_settings_land_in_the_part_that_has_them_and_leave_the_rest_alone():
    made = with_settings(Spec(limit=3), {"rate": 2, "steps": 7, "seeds": [4, 5]})
    assert made == Spec(seeds=(4, 5), steps=7, limit=3, optimizer=Optimizer(rate=2.0))
    assert isinstance(made.optimizer.rate, float)
    assert with_settings(Spec(limit=3), {"limit": None}) == Spec()


def test_numbers_of_numpy_are_numbers():
    made = with_settings(Spec(), {"rate": np.float32(0.25), "steps": np.int64(9)})
    assert (made.optimizer.rate, made.steps) == (0.25, 9)
    assert type(made.steps) is int


def test_the_settings_of_ppo_are_the_options_of_ev_train():
    from escapevelocity.cli._options import options_of

    options = {name.removeprefix("--").replace("-", "_") for name in options_of(PPOSpec)}
    named = setting_names(PPOSpec)
    assert {name for name in options if not name.startswith("no_")} | {"task"} == (
        {*named} - {"remedies", "branch"}
    )
    assert (named["learning_rate"], named["hidden"], named["steps"]) == ("optimizer", "network", None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rat": 1.0}, r"rat = 1\.0: unknown setting; did you mean rate\?"),
        ({"optimizer": {"rate": 1.0}}, "optimizer = .*: unknown setting; known are kind, limit, rate, steps"),
        ({"seeds": [1]}, "seeds = .*: unknown setting"),
        ({"rate": "fast"}, r"^rate = 'fast': must be a number"),
        ({"steps": 1.5}, r"^steps = 1\.5: must be an integer"),
        ({"steps": True}, r"^steps = True: must be an integer"),
        ({"kind": "adm"}, r"^kind = 'adm': must be 'sgd' or 'adam'"),
        ({"limit": "none"}, r"^limit = 'none': must be an integer or null"),
        ({"rate": -1.0}, r"^rate = -1\.0: must be above 0"),
    ],
)
def test_a_mistake_is_one_line_that_begins_with_the_setting(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        with_settings(Spec(), settings, fixed=("seeds",))
    assert "\n" not in str(caught.value)


def test_values_of_a_remedy_are_checked_under_its_name():
    assert typed_values(PFO, {"coef": 10, "layers": "all"}) == {"coef": 10.0, "layers": "all"}
    with pytest.raises(UserError, match=r"^pfo\.coef = 'ten': must be a number"):
        typed_values(PFO, {"coef": "ten"}, "pfo.")
    with pytest.raises(UserError, match=r"^pfo\.coeff = 1\.0: unknown field; did you mean coef"):
        typed_values(PFO, {"coeff": 1.0}, "pfo.")


def test_the_nearest_names_are_told_or_all_of_them():
    assert nearest("epoch", ["epochs", "steps"]) == "did you mean epochs?"
    assert nearest("zzz", ["epochs", "activation"]) == "known are activation, epochs"
    assert nearest("zzz", []) == "none is known here"
