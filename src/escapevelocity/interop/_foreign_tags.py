"""What other trainers' tags mean in our columns: one table."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from escapevelocity.health import METRICS

SB3 = "Stable-Baselines3"
CLEANRL = "CleanRL"
RLLIB = "RLlib"
OURS = "escapevelocity"

_SB3_PPO = "stable_baselines3/ppo/ppo.py, PPO.train"
_SB3_ROLLOUT = "stable_baselines3/common/on_policy_algorithm.py, dump_logs"
_SB3_MONITOR = "stable_baselines3/common/monitor.py, Monitor.step"
_CLEANRL_PPO = "cleanrl/ppo.py, ppo_continuous_action.py (commit b5fb801)"
_RLLIB_OLD = (
    "ray/rllib/algorithms/ppo/ppo_torch_policy.py (old API stack); columns as in ray-project/ray #27093"
)
_RLLIB_NEW = "ray/rllib/algorithms/ppo/torch/ppo_torch_learner.py (new API stack)"

_HUNDRED = "a mean over the last 100 episodes by default, not over those that ended in the batch"
_K3 = "the k3 estimate, "
_EVERY = "mean over the minibatches of all epochs, each before its own step"
_LAST = "on the last minibatch, before its step"
_OLD, _NEW = "info/learner/(?!__)[^/]+/learner_stats/", "learners/(?!__)[^/]+/"


@dataclass(frozen=True)
class Tag:
    """One line of the table.

    Attributes:
        pattern: regular expression for the whole tag.
        writer: whose it is.
        source: where it is written.
        column: our column; "" when only its being finite counts.
        factor: value × factor is our column's value.
        note: how its definition differs from our column's.
        per_episode: one value per episode, several at one step included.
        must_be_finite: NaN or infinity means that training broke; elsewhere it means undefined.
        zero_is_missing: the trainer writes 0 where it measured nothing.
    """

    pattern: str
    writer: str
    source: str
    column: str
    factor: float = 1.0
    note: str = ""
    per_episode: bool = False
    must_be_finite: bool = False
    zero_is_missing: bool = False

    @property
    def episodes(self) -> int:
        """Of how many episodes the value is a running mean by default; 0 where it is none."""
        return 100 if self.note == _HUNDRED else 0


def _sb3(name: str, column: str, note: str = "", factor: float = 1.0, source: str = _SB3_PPO) -> Tag:
    return Tag(name, SB3, source, column, factor, note, must_be_finite=True)


def _cleanrl(name: str, column: str, note: str = "", factor: float = 1.0) -> Tag:
    return Tag(f"losses/{name}", CLEANRL, _CLEANRL_PPO, column, factor, note, must_be_finite=True)


def _episode(name: str, writer: str, source: str, column: str) -> Tag:
    return Tag(name, writer, source, column, per_episode=True, must_be_finite=True)


def _rllib(
    old: str, new: str, column: str, note: str = "", finite: bool = False, zero_is_missing: bool = False
) -> tuple[Tag, Tag]:
    return (
        Tag(new, RLLIB, _RLLIB_NEW, column, 1.0, note, False, finite, zero_is_missing),
        Tag(old, RLLIB, _RLLIB_OLD, column, 1.0, note, False, finite, zero_is_missing),
    )


TAGS: tuple[Tag, ...] = (
    # `HealthCallback` writes it beside the last row, if the update broke the network.
    Tag("health/parameters", OURS, "interop/_sb3_health.py", "", must_be_finite=True),
    # Single episodes come first: where both are there, they beat a running mean.
    _episode("monitor/r", SB3, _SB3_MONITOR, "perf/return_mean"),
    _episode("monitor/l", SB3, _SB3_MONITOR, "perf/length_mean"),
    _episode("charts/episodic_return", CLEANRL, _CLEANRL_PPO, "perf/return_mean"),
    _episode("charts/episodic_length", CLEANRL, _CLEANRL_PPO, "perf/length_mean"),
    _sb3("rollout/ep_rew_mean", "perf/return_mean", _HUNDRED, source=_SB3_ROLLOUT),
    _sb3("rollout/ep_len_mean", "perf/length_mean", _HUNDRED, source=_SB3_ROLLOUT),
    _sb3(
        "train/approx_kl", "trust/kl_k3", f"{_K3}mean over the last epoch's minibatches, before their steps"
    ),
    _sb3("train/clip_fraction", "trust/ratio_outside_fraction", _EVERY),
    _sb3("train/entropy_loss", "policy/entropy", _EVERY, factor=-1.0),
    _sb3("train/value_loss", "loss/value"),
    _sb3("train/(loss|policy_loss|policy_gradient_loss|std)", ""),
    _cleanrl("approx_kl", "trust/kl_k3", _K3 + _LAST),
    _cleanrl("old_approx_kl", "trust/kl_k1", f"the k1 estimate, {_LAST}"),
    _cleanrl("clipfrac", "trust/ratio_outside_fraction", _EVERY),
    _cleanrl("entropy", "policy/entropy", _LAST),
    _cleanrl(
        "value_loss", "loss/value", f"halved there; {_LAST}, and the larger of the clipped and unclipped", 2.0
    ),
    _cleanrl("policy_loss", ""),
    *_rllib(
        "(sampler_results/)?episode_reward_mean",
        "env_runners/episode_re(turn|ward)_mean",
        "perf/return_mean",
        _HUNDRED,
    ),
    *_rllib(
        "(sampler_results/)?episode_reward_max",
        "env_runners/episode_re(turn|ward)_max",
        "perf/return_max",
        "of the last 100 episodes by default",
    ),
    *_rllib(
        "(sampler_results/)?episode_len_mean", "env_runners/episode_len_mean", "perf/length_mean", _HUNDRED
    ),
    *_rllib(
        "(sampler_results/)?episodes_this_iter",
        "env_runners/(num_episodes|episodes_this_iter)",
        "perf/episodes",
    ),
    *_rllib(f"{_OLD}kl", f"{_NEW}mean_kl_loss", "trust/kl", _EVERY, True, True),
    *_rllib(f"{_OLD}entropy", f"{_NEW}entropy", "policy/entropy", _EVERY, True),
    Tag(f"{_NEW}vf_loss_unclipped", RLLIB, _RLLIB_NEW, "loss/value", must_be_finite=True),
    *_rllib(
        f"{_OLD}vf_loss",
        f"{_NEW}vf_loss",
        "loss/value",
        "clipped there at vf_clip_param: a lower bound",
        True,
    ),
    *_rllib(f"{_OLD}(policy|total)_loss", f"{_NEW}(policy|total)_loss", "", finite=True),
)
"""The first line whose tag a log holds gives the column. Our own columns, which `HealthCallback` and the trackers
write, come before them all."""

STEP_TAGS = (
    "env_steps",
    "time/total_timesteps",
    "global_step",
    "num_env_steps_sampled_lifetime",
    "env_runners/num_env_steps_sampled_lifetime",
    "num_env_steps_sampled",
    "timesteps_total",
    "total_timesteps",
)
"""Tags that hold environment steps, the most telling first."""

SETTING_TAGS = {
    "train/clip_range": "clip_epsilon",
    "train/learning_rate": "learning_rate",
    "health/actor/units": "width",
}
"""Tags whose first value is a setting."""

_UNREAD = re.compile(rf"train/explained_variance|losses/explained_variance|({_OLD}|{_NEW})vf_explained_var")

_PREFIX = "ray/tune/"
_POSITION = {"env_steps", "seed", "segment", "batch", "wall_time", "fault"}


def normalised(tag: str) -> str:
    """Give a tag without the prefix that Ray Tune puts before it in TensorBoard."""
    return tag.removeprefix(_PREFIX)


def is_unread(tag: str) -> bool:
    """Whether people look at a tag that no column of ours stands for: explained variance, a share of the returns'
    variance, where our sign of a failing critic goes by the spread of its values.
    """
    return _UNREAD.fullmatch(tag) is not None


@cache
def find_tag(tag: str) -> tuple[int, Tag] | None:
    """Find the line of the table for a tag, with its rank (smaller is better); None for an unknown tag."""
    if tag in _our_columns():
        return -1, Tag(re.escape(tag), OURS, "docs/metrics.md", tag)
    for rank, line in enumerate(TAGS):
        if re.fullmatch(line.pattern, tag):
            return rank, line
    return None


def return_episodes(tags: Iterable[str]) -> int | None:
    """Of how many episodes the return that is read from these tags is a running mean; None where it is none."""
    found = [match for tag in tags if (match := find_tag(tag)) and match[1].column == "perf/return_mean"]
    return (min(found, key=lambda match: match[0])[1].episodes or None) if found else None


@cache
def _our_columns() -> frozenset[str]:
    return frozenset(column for metric in METRICS for column in metric.columns()) - _POSITION
