"""What a run reads beside its spec, such as images: named in its provenance, and the same whenever it goes on."""

import os
from typing import Any, Protocol, runtime_checkable

from escapevelocity.errors import UserError
from escapevelocity.runs.provenance import sessions_of

_PREFIX = "input/"


@runtime_checkable
class ReadsInputs(Protocol):
    """A job whose result follows from files as well, not from its spec alone."""

    def inputs(self, spec: Any) -> dict[str, str]:
        """Say what was read, by name: a few words and a checksum."""
        ...


def inputs_of(job: Any, spec: Any) -> dict[str, str]:
    """What `job` reads for `spec`, under the names that provenance.json has; nothing of most jobs."""
    found = job.inputs(spec) if isinstance(job, ReadsInputs) else {}
    return {f"{_PREFIX}{name}": text for name, text in found.items()}


def require_inputs(run_dir: str | os.PathLike[str], job: Any, spec: Any) -> None:
    """Refuse to go on from what a run has learned from other files.

    Args:
        run_dir: the folder of the run that is continued or branched.
        job: what is to be computed.
        spec: its settings.

    Raises:
        UserError: provenance.json names an input that is another one now. Of what it does not name nothing is known.
    """
    before = next(iter(sessions_of(run_dir)), {})
    for name, text in inputs_of(job, spec).items():
        if before.get(name, text) != text:
            raise UserError(
                f"{run_dir}: {name.removeprefix(_PREFIX)} = {text}: must be those it has learned from, {before[name]}"
            )
