"""Coloured paths on the simplex: each is joined along itself, and none to the next."""

import mpltern  # noqa: F401
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from escapevelocity.lab.experiments.trajectories import Trajectories
from escapevelocity.report.lab.trajectories import draw_colored_paths


def test_a_path_is_drawn_from_its_start_to_its_end_and_not_on_to_the_next():
    line = np.linspace(0, 1, 201)
    # From the corner of action 1 half-way to action 0, and from the corner of action 2 nearly to action 0.
    first = np.stack([line / 2, 1 - line / 2, 0 * line])
    second = np.stack([0.9 * line, 0 * line, 1 - 0.9 * line])
    both = np.concatenate([first, second], axis=1)
    rows = {f"prob_{a}": both[a] for a in range(3)}
    rows |= {"step": np.tile(np.arange(201), 2), "start": np.repeat([0, 1], 201)}
    panel = Figure().add_subplot(projection="ternary")
    draw_colored_paths(panel, Trajectories(), rows, LogNorm(1, 200))
    (lines,) = (artist for artist in panel.collections if isinstance(artist, LineCollection))
    segments, times = np.array(lines.get_segments()), np.asarray(lines.get_array())
    lengths = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1)
    side = np.linalg.norm(np.subtract(*panel.transProjection.transform([[1.0, 0, 0], [0, 1.0, 0]])))
    assert lengths.max() < 0.02 * side  # the two starts are a whole side apart
    # What is thinned out is less than a hundredth of the way.
    assert abs(lengths.sum() / side - (0.5 + 0.9)) < 0.01 * 1.4
    assert (times.min() > 0, times.max()) == (True, 200)
    assert np.sum(np.diff(times) < 0) == 1  # time starts again once, with the second path
