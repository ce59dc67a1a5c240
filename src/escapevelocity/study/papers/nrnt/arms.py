"""What is done against the collapse in the paper's figures, and how the runs of each are recognised."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from escapevelocity.study.papers.nrnt.settings import Setting

_ONLY_SETTINGS = {"", "none", "shared-trunk", "adam-beta2"}
"""Remedies that a spec does not keep by name, because they are nothing but settings."""


@dataclass(frozen=True, eq=False)  # an arm is itself: its mappings could not be hashed
class Arm:
    """One way to train.

    Attributes:
        label: in legends and sentences.
        name: the remedy's name as `ev train --remedy` has it, or "none".
        fields: its fields.
        settings: what shows in the run's settings beside the remedy's name.
    """

    label: str
    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def axis_value(self, setting: Setting) -> dict[str, Any]:
        """Its entry on a study's axis, with the coefficient published for the setting."""
        if self.name == "none":
            return {"label": self.label, "remedy": "none"}
        fields = dict(self.fields)
        if self.name == "pfo":
            fields["coef"] = pfo_coefficient(setting, str(fields["layers"]))
        return {"label": self.label, "remedy": {self.name: fields}}

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether a run with these settings is one of its runs."""
        given = set(str(settings.get("remedy", "none")).split("+")) - _ONLY_SETTINGS
        wanted = {self.name} - _ONLY_SETTINGS
        expected = {"trunk": "separate", "adam_beta2": 0.999, **self.settings}
        expected |= {f"{self.name}.{key}": value for key, value in self.fields.items() if wanted}
        return given == wanted and all(settings.get(key, value) == value for key, value in expected.items())


def pfo_coefficient(setting: Setting, layers: str) -> float:
    """The published coefficient of PFO: 1 (last) and 10 (all) on Atari, 1 (tanh) and 10 (ReLU) on MuJoCo [M, code]."""
    if setting.family == "atari":
        return 10.0 if layers == "all" else 1.0
    return 10.0 if setting.activation == "relu" else 1.0


NONE = Arm("no remedy", "none")
PFO_LAST = Arm("PFO (last layer)", "pfo", {"layers": "last"})
PFO_ALL = Arm("PFO (all layers)", "pfo", {"layers": "all"})
TRUNK_NOTE = (
    "The shared trunk takes one step per minibatch, on the sum of both losses; in the paper's code it takes two, one "
    "by each loss's optimiser (trunk_updates = once, there twice)."
)
"""For the captions of figures that show the shared trunk."""
SHARED = Arm("shared trunk", "shared-trunk", settings={"trunk": "shared"})
RESET = Arm("Adam reset", "adam-reset")
BETA2 = Arm("Adam β₂ = 0.9", "adam-beta2", settings={"adam_beta2": 0.9})

ARMS = (NONE, PFO_LAST, PFO_ALL, SHARED, RESET, BETA2)
"""Those of the box plots, no remedy first."""
FEW_ARMS = (NONE, PFO_LAST, SHARED)
"""What fits under an hour on Atari at small scale."""
