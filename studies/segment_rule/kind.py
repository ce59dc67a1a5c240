"""PPO in a single segment: the same computation as ever, but for the places where environments begin afresh."""

from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.job import PPOJob
from escapevelocity.study.kinds import register_kind
from studies.job_kind import JobKind


class OneSegmentPPO(PPOJob):
    """The trainer without boundaries inside a run. It can therefore not be resumed: it begins again."""

    name = "ppo-one-segment"

    def segments(self, spec: PPOSpec) -> int:
        """One, however long the run is."""
        return 1


register_kind(JobKind(OneSegmentPPO()))
