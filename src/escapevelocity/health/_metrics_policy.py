"""Columns about the policy and the critic's outputs: entropy, diversity, trust."""

from escapevelocity.health._metric import HealthyRange, Metric

_BEFORE = "the batch, before the update (`_after`: after it)"
_TRUST = "the whole batch, after the update"
_MOALLA = "Moalla et al. 2024 (arXiv 2405.00662)"
_SCHULMAN = "Schulman 2020 (joschu.net/blog/kl-approx.html)"
_ONE_NAT = (
    "at 1 nat an average action is e times less likely than when it was taken; 33 was read before NaN in {}"
)

POLICY_METRICS = (
    Metric(
        "policy/entropy",
        "categorical: mean of −Σ π log π, exact; squashed normal: one-sample estimate, mean of −log π(a|s)",
        _MOALLA + ", Fig. 2",
        "nats",
        "the batch, before the update",
        None,
        "the sign of collapse is high entropy together with zero policy/variance, not a level of its own",
    ),
    Metric(
        "policy/entropy_base",
        "entropy of the normal before squashing: Σ ½·log(2πe·std²), mean over states",
        "closed form",
        "nats",
        "the batch, before the update",
        None,
        "falls as a continuous policy settles; grows with the number of action dimensions",
    ),
    Metric(
        "policy/variance{,_after}",
        "variance (ddof 1) across states of the action probabilities, or of mean and std, averaged over them",
        _MOALLA + ", Figs. 2–3",
        "probability², or action²",
        _BEFORE,
        HealthyRange(low=1e-6, start_share=0.5),
        "a collapsed policy does the same in every state: zero (Moalla et al., Fig. 2); 1e-6 is that of"
        " a tanh unit at the edge of dead, std 0.001; a fresh policy whose last layer is small may begin below it",
    ),
    Metric(
        "value/std{,_after}",
        "standard deviation (ddof 1) of the critic's values across states",
        _MOALLA + ", code",
        "reward",
        _BEFORE,
        None,
        "depends on the scale of the rewards; 0 means the critic tells no states apart",
    ),
    Metric(
        "trust/ratio_mean",
        "mean of r = π_new(a|s)/π_old(a|s), from log-ratios held within ±700",
        _MOALLA,
        "–",
        _TRUST,
        None,
        "1 in expectation whatever the policies: a distance from 1 is sampling noise or a heavy tail",
    ),
    Metric(
        "trust/ratio_std",
        "standard deviation (ddof 1) of r",
        _MOALLA,
        "–",
        _TRUST,
        None,
        "dominated by the few largest ratios; read ratio_max and the counts instead",
    ),
    Metric("trust/ratio_min", "smallest r", _MOALLA, "–", _TRUST, None, "one sample; see ratio_below_mean"),
    Metric("trust/ratio_max", "largest r", _MOALLA, "–", _TRUST, None, "one sample; see ratio_above_mean"),
    Metric(
        "trust/ratio_above_mean",
        "mean of the ratios > 1+ε; NaN when there is none",
        _MOALLA,
        "–",
        _TRUST,
        None,
        "unbounded above for continuous actions; no study sets a bound",
    ),
    Metric(
        "trust/ratio_below_mean",
        "mean of the ratios < 1−ε; NaN when there is none",
        _MOALLA + ", Figs. 3–4",
        "–, 0..1−ε",
        _TRUST,
        HealthyRange(low=0.4),
        "falls far below 1−ε when the representation is lost (Moalla et al., Fig. 4). In our prototype on"
        " MuJoCo (ε = 0.2) runs that kept their features read 0.51–0.60, damaged ones 0.26–0.43",
    ),
    Metric(
        "trust/ratio_above_count",
        "number of ratios > 1+ε",
        _MOALLA,
        "samples",
        _TRUST,
        None,
        "see clip_fraction",
    ),
    Metric(
        "trust/ratio_below_count",
        "number of ratios < 1−ε",
        _MOALLA,
        "samples",
        _TRUST,
        None,
        "see clip_fraction",
    ),
    Metric(
        "trust/excess_ratio",
        "ratio_above_mean / ratio_below_mean, NaN when a side is empty; continuous actions: each mean first"
        " clipped to [1e-12, 1e12]",
        _MOALLA + ", Fig. 6",
        "–, > (1+ε)/(1−ε)",
        _TRUST,
        None,
        "compare between runs of one task and ε, as the paper does",
    ),
    Metric(
        "trust/clip_fraction",
        "share of samples with clip(r, 1−ε, 1+ε)·A < r·A",
        "Schulman et al. 2017, Eq. 7",
        "–, 0..1",
        _TRUST,
        HealthyRange(high=0.5),
        "by its definition more than half the batch then has no gradient left; advice for high values: lower"
        " or annealed learning rate, fewer epochs",
    ),
    Metric(
        "trust/ratio_outside_fraction",
        "share of samples with |r − 1| > ε, which Stable-Baselines3 logs as clip_fraction",
        "Stable-Baselines3, ppo.py",
        "–, 0..1",
        _TRUST,
        HealthyRange(high=0.9),
        "0.999 just before the numbers became NaN in stable-baselines3 #1593",
    ),
    Metric(
        "trust/kl",
        "KL(π_old‖π_new), exact on the base distributions, mean over states",
        _MOALLA + ", code",
        "nats",
        _TRUST,
        HealthyRange(high=1.0),  # It is never negative but by rounding, which is no illness.
        _ONE_NAT.format("stable-baselines3 #1593"),
    ),
    Metric(
        "trust/kl_k1",
        "mean of −log r",
        _SCHULMAN,
        "nats",
        _TRUST,
        HealthyRange(high=1.0),
        "as trust/kl; unbiased, and may be negative by sampling noise",
    ),
    Metric(
        "trust/kl_k3",
        "mean of (r − 1) − log r",
        _SCHULMAN,
        "nats, ≥ 0",
        _TRUST,
        None,
        "unbiased, but one enormous ratio decides it; judge by trust/kl",
    ),
)
"""policy/, value/ and trust/."""
