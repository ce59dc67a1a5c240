"""The registry knows remedies by name, takes others in, and lays remedies over settings without contradictions."""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from escapevelocity.errors import UserError
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.job import task_of
from escapevelocity.ppo.remedies import (
    PFO,
    REMEDIES,
    AdamBeta2,
    AdamReset,
    KLPenalty,
    Remedy,
    SharedTrunk,
    apply_remedies,
    load_entry_points,
    register,
    registry,
    remedy_class,
    remedy_types,
)
from escapevelocity.ppo.training import default_spec


@dataclass(frozen=True)
class Slower(Remedy):
    """A remedy of somebody else: another learning rate and, as a second thing, no clipping."""

    name: ClassVar[str] = "slower"
    clips: ClassVar[bool] = False
    rate: float = 1e-5
    """Learning rate."""

    def configure(self, spec):
        return replace(spec, optimizer=replace(spec.optimizer, learning_rate=self.rate))


@dataclass(frozen=True)
class OtherBeta(Remedy):
    """A remedy that disagrees with adam-beta2."""

    name: ClassVar[str] = "other-beta"

    def configure(self, spec):
        return replace(spec, optimizer=replace(spec.optimizer, adam_beta2=0.95))


class EntryPoint:
    """An installed package's entry point, without the package."""

    name, value, dist = "slower", "somebody:Slower", None

    def __init__(self, loaded):
        self.loaded = loaded

    def load(self):
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "REMEDIES", dict(REMEDIES))
    load_entry_points.cache_clear()
    yield
    load_entry_points.cache_clear()


def installed(monkeypatch, *loaded):
    found = [EntryPoint(item) for item in loaded]
    monkeypatch.setattr(
        registry, "entry_points", lambda group: found if group == registry.ENTRY_POINTS else []
    )


def test_the_papers_remedies_are_known_by_name():
    names = {"pfo", "shared-trunk", "adam-reset", "adam-beta2", "reward-mask", "kl-penalty", "kl-early-stop"}
    assert names <= set(REMEDIES)
    assert all(remedy_class(name).name == name for name in REMEDIES)


def test_a_registered_remedy_is_found_and_may_be_registered_again():
    assert register(Slower) is Slower
    assert register(Slower) is Slower
    assert remedy_class("slower") is Slower


def derived(name="derived", frozen=True, base=Remedy, label="Derived"):
    return dataclass(frozen=frozen)(type(label, (base,), {"name": name, "__module__": __name__}))


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (derived(base=object), "must be a frozen dataclass that derives from Remedy"),
        (type("Plain", (Remedy,), {"name": "plain"}), "must be a frozen dataclass that derives from Remedy"),
        (Remedy, "must be a frozen dataclass that derives from Remedy"),
        (derived(""), "remedy name = '' of Derived: must be lower-case words joined by dashes"),
        (derived("Camel-Case"), "remedy name = 'Camel-Case' of Derived: must be lower-case"),
        (derived("snake_case"), "remedy name = 'snake_case' of Derived: must be lower-case"),
        (
            derived("pfo"),
            "remedy name = 'pfo' of Derived: already taken by escapevelocity.ppo.remedies.pfo.PFO",
        ),
        (derived("pfo-two", label="PFO"), "remedy name = 'pfo-two' of PFO: already taken"),
    ],
)
def test_what_is_no_remedy_of_its_own_is_refused(cls, message):
    with pytest.raises(UserError, match=re.escape(message)):
        register(cls)


def test_an_unknown_name_gets_the_nearest_ones():
    with pytest.raises(UserError, match="remedy = 'adam-rest': unknown; did you mean adam-reset"):
        remedy_class("adam-rest")
    with pytest.raises(UserError, match="remedy = 'zzz': unknown; known are adam-beta2, adam-reset"):
        remedy_class("zzz")


def test_installed_packages_are_asked_only_for_names_not_known(monkeypatch):
    installed(monkeypatch, Slower)
    assert remedy_class("pfo") is PFO
    assert "slower" not in registry.REMEDIES
    assert remedy_class("slower") is Slower
    assert Slower in remedy_types()


@pytest.mark.parametrize("loaded", [ImportError("no module named x"), object])
def test_a_broken_package_is_named_and_stands_in_nobodys_way(monkeypatch, loaded):
    installed(monkeypatch, loaded)
    with pytest.warns(
        RuntimeWarning, match=r"remedy 'slower' of an unknown package \(somebody:Slower\) cannot be used"
    ):
        types = remedy_types()
    assert PFO in types


def test_settings_remedies_are_folded_into_the_settings_and_the_others_kept_in_order():
    spec = apply_remedies(PPOSpec(), [AdamReset(), AdamBeta2(), PFO(), SharedTrunk()])
    assert spec.remedies == (AdamReset(), PFO())
    by_hand = PPOSpec(remedies=(AdamReset(), PFO()))
    by_hand = replace(
        by_hand,
        optimizer=replace(by_hand.optimizer, adam_beta2=0.9),
        network=replace(by_hand.network, trunk="shared"),
    )
    assert spec == by_hand


def test_a_settings_remedy_that_does_more_is_kept_too():
    spec = apply_remedies(PPOSpec(), [Slower()])
    assert spec.optimizer.learning_rate == 1e-5
    assert spec.remedies == (Slower(),)


def test_new_remedies_come_behind_those_of_the_settings_and_replace_their_namesakes():
    spec = apply_remedies(PPOSpec(remedies=(PFO(), AdamReset())), [KLPenalty(), PFO(coef=7.0)])
    assert spec.remedies == (PFO(coef=7.0), AdamReset(), KLPenalty())


@pytest.mark.parametrize(
    ("remedies", "message"),
    [
        ([PFO(), PFO(coef=2.0)], "remedy = 'pfo': given twice"),
        (
            [AdamBeta2(), OtherBeta()],
            "remedy = 'other-beta': sets adam-beta2 to 0.95, and adam-beta2 to 0.9; leave one out",
        ),
        (
            [KLPenalty(), Slower()],
            "remedy = 'slower': takes the clipped objective's place, as kl-penalty does",
        ),
    ],
)
def test_contradictions_are_refused(remedies, message):
    with pytest.raises(UserError, match=re.escape(message)):
        apply_remedies(PPOSpec(), remedies)


def test_two_remedies_may_agree_on_a_setting():
    assert apply_remedies(PPOSpec(), [AdamBeta2(0.95), OtherBeta()]).optimizer.adam_beta2 == 0.95


@pytest.mark.parametrize("name", sorted(REMEDIES))
def test_a_remedy_whose_settings_were_not_made_is_refused_and_one_that_is_applied_is_not(name):
    spec, remedy = default_spec("CartPole-v1"), REMEDIES[name]()
    spec = replace(spec, network=replace(spec.network, activation="relu"))  # ReDo sees no saturated units.
    applied = apply_remedies(spec, [remedy])
    task_of(applied)
    if remedy.configure(spec) == spec:
        return
    with pytest.raises(UserError, match=name):
        task_of(replace(spec, remedies=(remedy,)))
