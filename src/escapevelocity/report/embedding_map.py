"""A trained embedding's test classes as a map in the plane."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from escapevelocity.errors import UserError, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 12
"""Classes that can be told apart by colour and mark."""
_ONE_POINT = 1e-6
"""Coordinates that differ by less are equal in float32; t-SNE of equal points crashes the process."""
_MARKS = ("o", "^")
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


def draw_map(
    points: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"], names: Sequence[str], caption: str
) -> Figure:
    """Draw points in the plane, a colour and a mark for each class; call it inside `paper_style`.

    Args:
        points: one for each image.
        labels: classes, 0, 1, …
        names: of the classes, at most `MOST_CLASSES`.
        caption: below the map.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from escapevelocity.report._figure import write_caption

    text = textwrap.fill(caption, 84, break_on_hyphens=False)
    below = 0.13 * (text.count("\n") + 1) + 0.12
    height = 3.9 + below
    layout = ConstrainedLayoutEngine(rect=(0, below / height, 1, 1 - below / height))
    figure = Figure(figsize=(5.6, height), layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for index, name in enumerate(names):
        own = points[labels == index]
        color, mark = _COLORS[index % len(_COLORS)], _MARKS[index // len(_COLORS) % len(_MARKS)]
        axes.scatter(own[:, 0], own[:, 1], s=9, c=color, marker=mark, linewidths=0, alpha=0.8, label=name)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, markerscale=2)
    write_caption(figure, text, left=0.012)
    return figure


def in_the_plane(embeddings: Float[np.ndarray, "n dim"], method: str, seed: int) -> Float[np.ndarray, "n 2"]:
    """Lay embeddings out in the plane, by scikit-learn.

    Args:
        embeddings: on the unit sphere.
        method: tsne, which keeps neighbours together and distances between groups do not count, or pca, the two
            directions of largest variance.
        seed: of t-SNE.

    Raises:
        UserError: an unknown method, too few images, or all of them on one point.
    """
    require(method in ("tsne", "pca"), "method", method, "tsne or pca")
    require(len(embeddings) >= 10, "images", len(embeddings), "at least 10")
    spread = float(np.ptp(embeddings, axis=0).max())
    require(spread > _ONE_POINT, "spread of the embeddings", spread, "above 0: all images lie on one point")
    if method == "pca":
        from sklearn.decomposition import PCA

        return PCA(2, random_state=seed).fit_transform(embeddings)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(embeddings)


def plot_map(
    path: str | os.PathLike[str],
    out_dir: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    method: str = "tsne",
    fmt: Sequence[str] = ("png", "pdf"),
) -> list[Path]:
    """Draw what a run's embedding makes of the first of the classes that it was never trained on.

    Args:
        path: the run's folder.
        out_dir: where `map.png` and so on go; by default the run's plots folder.
        seed: which member; by default the first.
        method: see `in_the_plane`.
        fmt: kinds of files.

    Returns:
        The files' paths.

    Raises:
        UserError: not a run of adaptive sampling, no such seed, images that are missing, or a folder that cannot be
            written.
    """
    from escapevelocity.metric_learning.images import subset
    from escapevelocity.metric_learning.job import split_of
    from escapevelocity.metric_learning.period import embed
    from escapevelocity.metric_learning.training import load_network
    from escapevelocity.report import _figure
    from escapevelocity.runs.atomic import make_folder, require_writable, write_bytes

    folder = Path(path) / "plots" if out_dir is None else Path(out_dir)
    require_writable(folder)  # Told now, not after the images were embedded.
    spec, network, number = load_network(path, seed)
    test = split_of(spec).test
    shown = subset(test, np.flatnonzero(test.labels < MOST_CLASSES))
    embeddings, classes = embed(spec, network, shown), shown.classes
    if not np.isfinite(embeddings).all():
        raise UserError(f"{path}: embeddings are not finite; there is nothing to draw")
    points = in_the_plane(embeddings, method, seed=0)
    caption = (
        f"{spec.data.data}, seed {spec.seeds[0] if seed is None else seed}, after {number:,} training steps: "
        f"{len(classes)} of {len(test.classes)} classes that were never trained on, by "
        f"{'t-SNE (neighbours count, distances between groups do not)' if method == 'tsne' else 'PCA'}."
    )
    make_folder(folder)
    paths = [folder / f"map.{kind}" for kind in fmt]
    with _figure.paper_style():
        figure = draw_map(points, shown.labels, classes, caption)
        for file, kind in zip(paths, fmt, strict=True):
            write_bytes(file, _figure.encode(figure, kind))
    return paths
