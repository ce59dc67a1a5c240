"""`ev asr`: a policy that chooses the negatives of deep metric learning."""

from collections.abc import Sequence

from escapevelocity.cli._group import run_group

COMMANDS = {
    "train": "train an embedding whose negatives a policy, or a fixed rule, chooses",
    "branch": "go on from a checkpoint of such a run with other settings",
    "study": "the well's depth and duration over a grid of starts, with seeds and intervals",
    "starts": "list the starts of the sampling distribution, with energy, entropy and mean distance",
    "map": "draw what a trained embedding makes of the test classes as a 2-D map",
}

_INTRO = """\
usage: ev asr COMMAND [options]

Adaptive sampling with reward: an embedding learns from negatives that an agent picks by their distance, and
the agent is paid by retrieval on a validation set (Dou et al. 2022). Where the distribution starts decides
whether training falls into a well first."""

_START = """\
  ev asr train                                 scikit-learn's digits, in under a minute
  ev asr train --data omniglot --init narrow   another set of images, another start
  ev plot runs/NAME                            curves, and the distribution over time
  ev asr COMMAND --help                        every option, with its meaning and source
"""


def main(argv: Sequence[str]) -> int:
    """Run `ev asr`; returns the exit code."""
    return run_group("asr", COMMANDS, _INTRO, _START, argv)
