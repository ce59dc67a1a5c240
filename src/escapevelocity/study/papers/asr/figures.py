"""The figures of adaptive sampling that compare arms: the gravity well, the escort head, the curriculum."""

from escapevelocity.study.papers.asr.arms import Arm, ArmRuns, written
from escapevelocity.study.papers.asr.compare import SIX, ArmsFigure, best_of, well_sentence

RATES = (0.003, 0.01, 0.03)
"""The controller's learning rates that heads are compared at; 0.01 is that of Roth et al. 2020."""
HEADS = {
    "softmax": {"head": "softmax"},
    "escort p = 2": {"head": "escort", "escort_p": 2.0},
    "escort p = 4": {"head": "escort", "escort_p": 4.0},
}
NARROW, BROAD, DISTANCE = "adaptive from narrow", "adaptive from broad", "distance-weighted"
CURRICULUM = "narrow, then broad"
FROM_DISTANCE, UNREGULARISED = "adaptive from distance", "adaptive from broad, negatives only"


def gravity_well(found: dict[str, ArmRuns]) -> list[str]:
    """Does the broad start plunge, and end above the narrow one?"""
    broad, narrow = found.get("broad"), found["narrow"]
    if broad is None:
        return []
    deeper, gain, first = (broad.against(narrow, measure) for measure in ("depth", "final", "first"))
    if deeper is None or gain is None or first is None:
        return []
    holds, fails = ([one.side == side for one in (deeper, gain)] for side in (1, -1))
    verdict = "Partly confirmed" if any(holds) else "Not confirmed" if any(fails) else "Cannot be told"
    verdict = "Partly confirmed, partly the other way round" if any(holds) and any(fails) else verdict
    verdict = "Confirmed" if all(holds) else verdict
    since = broad.ahead_from(narrow)
    ahead = "not ahead at the end" if since is None else f"ahead at every one from step {since:.0f} on"
    return [
        f"{verdict}: the broad start fell {written(deeper.mean, sign=True)} deeper than the narrow one and ended "
        f"{written(gain.mean, sign=True)} above it (Recall@1, paired over {len(gain.seeds)} seeds, Student's 95 % "
        "intervals).",
        f"{well_sentence('broad', broad)}; {well_sentence('narrow', narrow)}.",
        f"Broad less narrow at the first measurement: {written(first.mean, sign=True)}; {ahead}.",
    ]


def heads(found: dict[str, ArmRuns]) -> list[str]:
    """Is the escort ahead of softmax at the same rate, and each head at its own best?"""
    said = []
    best = {head: best_of([_at(head, rate) for rate in RATES], found) for head in HEADS}
    for head in list(HEADS)[1:]:
        same = [
            f"{written(paired.mean, sign=True)} at rate {rate:g}"
            for rate in RATES
            if _at(head, rate) in found
            and _at("softmax", rate) in found
            and (paired := found[_at(head, rate)].against(found[_at("softmax", rate)], "mean"))
        ]
        if not same or not best[head] or not best["softmax"]:
            continue
        own = found[best[head]].against(found[best["softmax"]], "mean")
        final = found[best[head]].against(found[best["softmax"]], "final")
        if own is None or final is None:
            continue
        verdict = {1: "Ahead of softmax", -1: "Behind softmax", 0: "No difference shown"}[own.side]
        said.append(
            f"{verdict}, {head}: Recall@1 over the whole training against softmax's at the same rate "
            f"{', '.join(same)}; each at its own best rate ({best[head]}; {best['softmax']}; chosen by validation) "
            f"{written(own.mean, sign=True)}, at the end {written(final.mean, sign=True)} (paired over "
            f"{len(own.seeds)} seeds)."
        )
    return said


def best_heads(found: dict[str, ArmRuns]) -> list[str]:
    """Each head at its own best rate: what is drawn."""
    best = [best_of([_at(head, rate) for rate in RATES], found) for head in HEADS]
    return [label for label in best if label]


def curriculum(found: dict[str, ArmRuns]) -> list[str]:
    """Is the schedule ahead of the agent, and either of plain distance weighting?"""
    said = []
    pairs = (
        (CURRICULUM, BROAD),
        (BROAD, DISTANCE),
        (NARROW, DISTANCE),
        (CURRICULUM, DISTANCE),
        (BROAD, "fixed broad"),
        (FROM_DISTANCE, DISTANCE),
        (UNREGULARISED, BROAD),
    )
    for first, second in pairs:
        if first not in found or second not in found:
            continue
        final, whole = (found[first].against(found[second], measure) for measure in ("final", "mean"))
        if final is None or whole is None:
            continue
        verdict = {1: "ahead of", -1: "behind", 0: "not told from"}[final.side]
        said.append(
            f"{first}: {verdict} {second} at the end, {written(final.mean, sign=True)}; over the whole training "
            f"{written(whole.mean, sign=True)} (Recall@1 of unseen classes, paired over {len(final.seeds)} seeds)."
        )
    return said


def _at(head: str, rate: float) -> str:
    return f"{head}, rate {rate:g}"


GRAVITY_WELL = ArmsFigure(
    "asr/gravity-well",
    "the six retrieval curves, from a broad and a narrow start of the sampling distribution",
    "From the start of high variance the retrieval curves plunge into a common minimum and then climb above those "
    "from the start of low variance, which stay flat (Dou et al. 2022; they give no numbers for the starts, ours are "
    "N(0.75, 0.4) and N(0.5, 0.05), and the policy network's own weights are varied as well).",
    (
        Arm("narrow", {"init": "narrow"}),
        Arm("broad", {"init": "broad"}),
        Arm("narrow, policy weights N(0, 1)", {"init": "narrow", "weight_std": 1.0}),
        Arm("broad, policy weights N(0, 1)", {"init": "broad", "weight_std": 1.0}),
    ),
    "narrow",
    gravity_well,
    SIX,
)
HEADS_FIGURE = ArmsFigure(
    "asr/heads",
    "escort head against softmax, at the same learning rate of the controller and at each one's best",
    "A question that the papers leave open: does an escort head (p = 2, 4) leave the well sooner than softmax does?",
    tuple(
        Arm(_at(head, rate), {**settings, "controller_learning_rate": rate})
        for head, settings in HEADS.items()
        for rate in RATES
    ),
    _at("softmax", 0.01),
    heads,
    chosen=best_heads,
)
CURRICULUM_FIGURE = ArmsFigure(
    "asr/curriculum",
    "a schedule from narrow to broad, the agent, fixed distributions, and distance weighting",
    "The well can be read as learning in a wrong order (Dou et al., Demystify the Gravity Well); does a schedule, "
    "narrow first and then broad, do better than the agent that adapts the distribution itself?",
    (
        Arm(DISTANCE, {"sampler": "distance"}),
        Arm(BROAD, {"init": "broad"}),
        Arm(NARROW, {"init": "narrow"}),
        Arm(CURRICULUM, {"sampler": "curriculum", "init": "narrow", "then": "broad"}),
        Arm("fixed broad", {"sampler": "curriculum", "init": "broad", "then": "broad"}),
        Arm("fixed narrow", {"sampler": "curriculum", "init": "narrow", "then": "narrow"}),
        Arm(FROM_DISTANCE, {"init": "distance"}),
        Arm(UNREGULARISED, {"init": "broad", "self_regularisation": False}),
    ),
    DISTANCE,
    curriculum,
)
FIGURES = (GRAVITY_WELL, HEADS_FIGURE, CURRICULUM_FIGURE)
