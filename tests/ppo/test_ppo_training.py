"""How a run's process is prepared: what the settings decide."""

import contextlib

import pytest
from small_ppo import small_spec

from escapevelocity.ppo import training


class Asked(Exception):
    """Raised instead of training."""


@pytest.fixture
def asked(monkeypatch):
    """What the process was asked for."""
    found = []

    @contextlib.contextmanager
    def process(**settings):
        found.append(settings)
        raise Asked
        yield

    monkeypatch.setattr(training, "trainer_process", process)
    return found


@pytest.mark.parametrize(("convolutions", "gives"), [("none", True), ("minatar", False), ("nature", False)])
def test_memory_goes_back_to_the_system_unless_convolutions_ask_for_it_at_every_step(
    convolutions, gives, asked, monkeypatch, tmp_path
):
    spec = small_spec("softmax", network={"convolutions": convolutions})
    monkeypatch.setattr(
        training, "task_of", lambda spec: None
    )  # Cart-pole has no images; nothing is trained.
    monkeypatch.setattr(training, "saved_spec", lambda path: spec)
    with pytest.raises(Asked):
        training.train(spec, tmp_path)
    with pytest.raises(Asked):
        training.resume_training(tmp_path)
    assert asked == [{"give_memory_back": gives}] * 2
