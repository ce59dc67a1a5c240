"""Columns about the networks: ranks, dead neurons, norms, change, capacity."""

from escapevelocity.health._metric import HealthyRange, Metric
from escapevelocity.health.rank import SINGLE_DIGITS

_BEFORE = "the batch, before the update (`_after`: after it)"
_MOALLA = "Moalla et al. 2024 (arXiv 2405.00662)"
_NO_BOUND = (
    "no study sets a bound; it moves with feature_rank_pca (Moalla et al., Figs. 36–41), judge by that"
)

NETWORK_METRICS = (
    Metric(
        "health/actor/feature_rank_pca{,_after}",
        "min k with Σ_{i≤k} σ_i² ≥ (1−δ)·Σ σ_i², δ = 0.01; σ: singular values of Φ, the N×D penultimate"
        " activations, not centred",
        "Yang et al. 2020 (arXiv 1909.12255), §2; the headline rank of " + _MOALLA,
        "directions, 0..D",
        _BEFORE,
        HealthyRange(low=SINGLE_DIGITS, low_share=0.5, start_share=0.5, provisional=False),
        "ratios fall far below 1−ε only once the rank is in single digits (Moalla et al., Fig. 4); half of D"
        " for layers narrower than 20. Where the run began in single digits (CartPole: 2), half of the start",
    ),
    Metric(
        "health/critic/feature_rank_pca{,_after}",
        "as for the actor",
        "as for the actor",
        "directions, 0..D",
        _BEFORE,
        None,
        "the paper ties single digits to the actor's ratios only, and a critic that learns well can stand there:"
        " about 2 of 64 in the healthy run of `make demo`",
    ),
    Metric(
        "health/{actor,critic}/effective_rank{,_after}",
        "exp(−Σ p_i log p_i), p_i = σ_i/Σσ, 0·log 0 = 0",
        "Roy & Vetterli 2007, §2",
        "directions, 0 or 1..D",
        _BEFORE,
        None,
        _NO_BOUND,
    ),
    Metric(
        "health/{actor,critic}/srank{,_after}",
        "min k with Σ_{i≤k} σ_i ≥ (1−δ)·Σ σ_i, δ = 0.01; not the stable rank",
        "Kumar et al. 2021 (arXiv 2010.14498), §3",
        "directions, 0..D",
        _BEFORE,
        None,
        _NO_BOUND,
    ),
    Metric(
        "health/{actor,critic}/stable_rank{,_after}",
        "‖Φ‖_F²/‖Φ‖₂² = Σσ_i²/σ₁²",
        "Rudelson & Vershynin 2007",
        "directions, 0 or 1..D",
        _BEFORE,
        None,
        "close to 1 whenever the features share a large mean, whatever else they hold",
    ),
    Metric(
        "health/{actor,critic}/feature_rank_lyle{,_after}",
        "#{σ_i/√N > δ}, δ = 0.01",
        "Lyle et al. 2022 (arXiv 2204.09560), Eqs. 4–5",
        "directions, 0..D",
        _BEFORE,
        None,
        "depends on the scale of the features: growing activations can raise it while the others fall",
    ),
    Metric(
        "health/{actor,critic}/numerical_rank{,_after}",
        "#{σ_i > σ₁·max(N, D)·eps(float32)}",
        "torch.linalg.matrix_rank",
        "directions, 0..D",
        _BEFORE,
        None,
        "below min(N, D) when units are dead or linear combinations of others to float32 precision",
    ),
    Metric(
        "health/{actor,critic}/dead_neurons{,_after}",
        "units of the penultimate layer dead on the whole batch. ReLU, GELU: output 0; LeakyReLU: negative;"
        " tanh: std (ddof 1) < 0.001",
        _MOALLA,
        "units, 0..D",
        _BEFORE,
        HealthyRange(high_share=0.5),
        "collapse goes with almost all units dead (Moalla et al., Fig. 2); half the layer marks it early",
    ),
    Metric(
        "health/{actor,critic}/preactivation_norm{,_after}",
        "mean over states of the L2 norm of the penultimate pre-activations",
        _MOALLA + ", Fig. 1",
        "pre-activation",
        _BEFORE,
        HealthyRange(high=1000.0),
        "collapsed Phoenix runs reach about 10⁴, runs with PFO stay near 80 (Moalla et al.); the mark is a"
        " tenth of the former. It rises in every task, so growth alone is no alarm",
    ),
    Metric(
        "health/{actor,critic}/preactivation_norm_all{,_after}",
        "the same over all hidden layers' pre-activations, concatenated",
        _MOALLA + ", Fig. 1",
        "pre-activation",
        _BEFORE,
        None,
        "grows with the number of units, 128 for an MLP and 21,632 on Atari: no common bound",
    ),
    Metric(
        "health/undefined",
        "which values of this row are NaN and why, 'name: reason; …'; empty when all are defined",
        "escapevelocity",
        "text",
        "row",
        None,
        "an empty side of the ratios is normal; 'contain NaN' never is",
    ),
    Metric(
        "change/{actor,critic}/{features,preactivations}_l2",
        "mean over states and units of (new − old)²",
        _MOALLA + ", code; PFO's penalty (Eq. 2) without its coefficient",
        "activation²",
        "the batch, after against before the update",
        None,
        "depends on the scale of the features and the number of epochs",
    ),
    Metric(
        "change/{actor,critic}/{features,preactivations}_cosine",
        "mean over states of 1 − cos(new, old); 0 for two zero vectors, 1 for one",
        _MOALLA + ", code (which logs the similarity)",
        "–, 0..2",
        "the batch, after against before the update",
        None,
        "no study sets a bound",
    ),
    Metric(
        "capacity/{actor,critic}",
        "loss left when this network has been fitted to a random one: mean KL(target ‖ network); mean squared error",
        _MOALLA + ", Fig. 1",
        "nats (actor), value² (critic)",
        "a snapshot; last minibatch of the fit, before its step",
        None,
        "compare with the same run's first snapshot: rising means plasticity is being lost",
    ),
    Metric(
        "capacity/{actor,critic}_data",
        "the same on the whole data, after the fit",
        _MOALLA + ", code",
        "nats (actor), value² (critic)",
        "a snapshot; 4,000 agent steps (Atari: 36,000)",
        None,
        "as for the last minibatch, with less noise",
    ),
)
"""health/, change/ and capacity/."""
