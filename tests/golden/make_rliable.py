"""Prints rliable.json: what rliable says about fixed scores. Needs rliable, which the project does not install.

python -m venv V && V/bin/pip install rliable==1.2.0 "pandas<3"
V/bin/python tests/golden/make_rliable.py > tests/golden/rliable.json
"""

import json
from importlib import metadata

import numpy as np
from rliable import library, metrics

# Two algorithms on three tasks, five and four runs; ties within and between them. Made up, in no order.
X = [[0.31, 1.20, 0.05], [0.87, 0.40, 0.05], [0.87, 2.75, 0.90], [1.00, 0.66, 0.11], [0.12, 1.20, 3.50]]
Y = [[0.87, 1.10, 0.02], [0.25, 0.40, 0.11], [0.44, 1.20, 0.05], [0.09, 0.30, 0.30]]
# Ten runs of six tasks: 60 scores, log-normal, rounded.
WIDE = np.round(np.random.RandomState(7).lognormal(0.0, 0.8, (10, 6)), 4).tolist()
THRESHOLDS = [0.0, 0.1, 0.5, 0.87, 1.0, 2.0, 10.0]
REPETITIONS = {"aggregates": 50_000, "profile": 20_000, "improvement": 5_000}

AGGREGATES = {
    "iqm": metrics.aggregate_iqm,
    "mean": metrics.aggregate_mean,
    "median": metrics.aggregate_median,
    "optimality_gap": metrics.aggregate_optimality_gap,
}


def aggregates(scores):
    """Point estimates and 95 % percentile intervals (2 x 4) of the four aggregates."""
    points, intervals = library.get_interval_estimates(
        {"scores": scores},
        lambda drawn: np.array([function(drawn) for function in AGGREGATES.values()]),
        reps=REPETITIONS["aggregates"],
    )
    ends = intervals["scores"].T.tolist()
    return {
        name: {"estimate": point, "interval": pair}
        for name, point, pair in zip(AGGREGATES, points["scores"].tolist(), ends, strict=True)
    }


def main():
    # rliable ignores its random_state and draws from NumPy's global generator.
    np.random.seed(20210831)  # noqa: NPY002
    x, y, wide = np.array(X), np.array(Y), np.array(WIDE)
    result = {
        "source": "tests/golden/make_rliable.py (its docstring has the commands)",
        "versions": {name: metadata.version(name) for name in ("rliable", "arch", "numpy", "scipy")},
        "repetitions": REPETITIONS,
        "scores": {"x": X, "y": Y, "wide": WIDE},
        "aggregates": {"x": aggregates(x), "wide": aggregates(wide)},
        "optimality_gap_half": metrics.aggregate_optimality_gap(x, gamma=0.5),
    }
    profile, ends = library.create_performance_profile(
        {"x": x}, THRESHOLDS, reps=REPETITIONS["profile"], use_score_distribution=True
    )
    result["profile"] = {
        "thresholds": THRESHOLDS,
        "share": profile["x"].tolist(),
        "interval": ends["x"].tolist(),
    }
    better, ends = library.get_interval_estimates(
        {"x,y": [x, y]},
        lambda *drawn: np.array([metrics.probability_of_improvement(*drawn)]),
        reps=REPETITIONS["improvement"],
    )
    result["improvement"] = {"estimate": better["x,y"].item(), "interval": ends["x,y"][:, 0].tolist()}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
