"""What the metrics that pages show mean, in words for somebody who has not met them. Formulas are in health/."""

METRIC_WORDS: dict[str, str] = {
    "perf/return_mean": (
        "Reward that the agent collects in an episode, on average. It should rise and stay up; a rise that is followed"
        " by a fall is a collapse."
    ),
    "perf/length_mean": "How long an episode lasts. In tasks that end on a fall, longer is better.",
    "health/actor/feature_rank_pca": (
        "In how many independent directions the actor's last layer still varies. Few directions mean that many"
        " different situations look alike to the policy."
    ),
    "health/critic/feature_rank_pca": (
        "In how many independent directions the critic's last layer still varies. Few directions mean that it values"
        " many different situations alike."
    ),
    "health/actor/preactivation_norm": (
        "How large the numbers inside the actor have become. Growth without end comes before a loss of rank and before"
        " dead neurons."
    ),
    "health/actor/dead_neurons": (
        "Units of the actor's last layer that answer every situation alike, and so neither inform nor learn."
    ),
    "trust/ratio_above_mean": (
        "Of the actions that an update made much more likely: by what factor. Clipping is meant to hold it near 1 + ε."
    ),
    "trust/ratio_below_mean": (
        "Of the actions that an update made much less likely: by what factor. Far below 1 − ε, clipping no longer holds"
        " the policy."
    ),
    "trust/kl": (
        "How far one update moved the policy. Small steps are safe; a rise says that updates get out of hand."
    ),
    "trust/clip_fraction": "Share of the samples whose ratio has left 1 ± ε, so that clipping has cut their gradient.",
    "policy/entropy": (
        "How undecided the policy is. It falls as the agent settles; close to its least while the return is poor, the"
        " agent has settled too early."
    ),
    "policy/variance": (
        "How differently the policy acts in different situations. Near zero, it does the same whatever it sees."
    ),
    "test/recall_at_1": (
        "How often the nearest neighbour of an image is of its own class, for classes never trained on. This is what"
        " the embedding is for: higher is better."
    ),
    "test/recall_at_2": "How often one of the two nearest neighbours is of the image's own class (unseen classes).",
    "test/recall_at_4": "How often one of the four nearest neighbours is of the image's own class (unseen classes).",
    "test/recall_at_8": "How often one of the eight nearest neighbours is of the image's own class (unseen classes).",
    "test/nmi": "How well clusters of the embedding agree with the classes: 0 not at all, 1 exactly (unseen classes).",
    "test/f1": "How well pairs within a cluster agree with pairs within a class (unseen classes).",
    "validation/recall_at_1": (
        "The same as Recall@1, for classes held back from training: what the controller sees and is paid by."
    ),
    "asr/distance_mean": (
        "How far away the negatives are that the controller asks for, on average. A broad start asks for far ones, from"
        " which little is learned."
    ),
}
"""By column."""
