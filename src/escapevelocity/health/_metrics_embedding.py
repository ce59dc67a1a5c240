"""Columns of an embedding: retrieval on validation and test classes, loss, norms, ranks, time."""

from escapevelocity.health._metric import Metric

_OURS = "escapevelocity"
_ASR = "Dou et al. 2022 (ASR, arXiv 2208.08056)"
_PADS = "Roth et al. 2020 (PADS, arXiv 2003.11113), code"
_MUSGRAVE = "Musgrave et al. 2020 (arXiv 2003.08505)"
_WU = "Wu et al. 2017 (arXiv 1706.07567)"
_VALIDATION = "the validation set, at the end of the period"
_TEST = "the test classes, where they were measured"
_PERIOD = "mean over the training steps of the period"
_BOOK = "bookkeeping"
_TASK = "depends on the task"
_WELL = "a plunge that lasts is a sign of its own: see retrieval plunge"

EMBEDDING_METRICS = (
    Metric(
        "validation/recall_at_{1,2,4,8}",
        "share of images with one of their class among their k nearest others",
        _ASR + "; " + _MUSGRAVE,
        "–, 0..1",
        _VALIDATION,
        None,
        _WELL,
    ),
    Metric(
        "validation/nmi",
        "normalised mutual information of classes and k-means clusters, as many as there are classes",
        _ASR,
        "–, 0..1",
        _VALIDATION,
        None,
        _TASK,
    ),
    Metric(
        "validation/intra_distance",
        "mean cosine distance, 1 − cos, over all pairs of images of one class",
        _PADS,
        "–, 0..2",
        _VALIDATION,
        None,
        "part of the controller's state",
    ),
    Metric(
        "validation/inter_distance",
        "the same over all pairs of images of different classes (PADS: of the centres of classes)",
        _PADS,
        "–, 0..2",
        _VALIDATION,
        None,
        "part of the controller's state; a collapsed embedding has 0",
    ),
    Metric(
        "test/recall_at_{1,2,4,8}",
        "share of images with one of their class among their k nearest others",
        _ASR + "; " + _MUSGRAVE,
        "–, 0..1",
        _TEST,
        None,
        _WELL,
    ),
    Metric(
        "test/nmi",
        "normalised mutual information of classes and k-means clusters, as many as there are classes",
        _ASR,
        "–, 0..1",
        _TEST,
        None,
        _TASK,
    ),
    Metric(
        "test/{intra,inter}_distance",
        "as on the validation set",
        _OURS,
        "–, 0..2",
        _TEST,
        None,
        "how far classes lie apart that were never trained on",
    ),
    Metric(
        "test/f1",
        "F1 of pairs that share a cluster against pairs that share a class",
        _ASR,
        "–, 0..1",
        _TEST,
        None,
        _TASK,
    ),
    Metric(
        "test/r_precision",
        "precision among the R nearest, R being the class's other images",
        _MUSGRAVE,
        "–, 0..1",
        _TEST,
        None,
        _TASK,
    ),
    Metric(
        "test/map_at_r",
        "mean average precision among the R nearest",
        _MUSGRAVE,
        "–, 0..1",
        _TEST,
        None,
        _TASK,
    ),
    Metric(
        "loss/embedding",
        "margin or triplet loss",
        _WU,
        "distance",
        _PERIOD,
        None,
        "falls with easier negatives too: judge by retrieval",
    ),
    Metric(
        "loss/active_fraction",
        "share of the loss's terms that are above 0: one a triplet, or two of margin loss",
        _WU,
        "–, 0..1",
        _PERIOD,
        None,
        "at 0 the sampler offers nothing to learn from; which level is right no study says",
    ),
    Metric(
        "norm/gradient",
        "global L2 norm of the embedding's gradient",
        _OURS,
        "loss per weight",
        _PERIOD,
        None,
        "depends on architecture and loss",
    ),
    Metric(
        "norm/weights",
        "global L2 norm of the embedding's parameters",
        _OURS,
        "weight",
        "at the end of the period",
        None,
        "depends on architecture and initialisation; look at its growth",
    ),
    Metric(
        "health/embedding/feature_rank_pca",
        "as for the actor, of the embeddings",
        "Yang et al. 2020 (arXiv 1909.12255), §2",
        "directions, 0..dimension",
        _VALIDATION,
        None,
        "no study ties a level to worse retrieval",
    ),
    Metric(
        "health/embedding/effective_rank",
        "as for the actor, of the embeddings",
        "Roy & Vetterli 2007, §2",
        "directions, 0 or 1..dimension",
        _VALIDATION,
        None,
        "no study ties a level to worse retrieval",
    ),
    Metric(
        "time/{train,validation,test,controller}",
        "time spent in training steps, in measuring either set, in the controller",
        _OURS,
        "s",
        "the period",
        None,
        _BOOK,
    ),
)
"""validation/ and test/, and what an embedding adds to loss/, norm/, health/ and time/."""
