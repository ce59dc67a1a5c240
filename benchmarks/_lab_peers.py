"""Softmax policy gradient on a bandit from many starts, three times over: NumPy twice, and the lab's own loop."""

import numpy as np

from escapevelocity.lab import Bandit, corner_starts, spg, trajectory

ACTIONS, RATE = 10, 0.4
REWARDS = np.linspace(0.2, 0.7, ACTIONS)
SPG = spg(RATE)


def numpy_usual(starts: np.ndarray, steps: int) -> np.ndarray:
    """What one writes first: a row per start, whole-array expressions."""
    theta = np.log(starts.T.copy())
    for _ in range(steps):
        probs = softmax_rows(theta)
        theta = theta + RATE * probs * (REWARDS - (probs @ REWARDS)[:, None])
    return softmax_rows(theta).T


def softmax_rows(theta: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, safe for any logits."""
    exponentials = np.exp(theta - theta.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def numpy_fastest(starts: np.ndarray, steps: int) -> np.ndarray:
    """The fastest that we found: starts last, in place. (Blocks of 512 or 1,024 starts are slower.)"""
    theta = np.log(starts)
    probs, rewards = np.empty_like(theta), REWARDS[:, None]
    for _ in range(steps):
        np.subtract(theta, theta.max(axis=0), out=probs)
        np.exp(probs, out=probs)
        probs /= probs.sum(axis=0)
        probs *= RATE * (rewards - REWARDS @ probs)
        theta += probs
    return softmax_rows(theta.T).T


def lab(starts: np.ndarray, steps: int) -> np.ndarray:
    """The lab, checks of the starts and all; compiled once per number of starts."""
    return trajectory(Bandit(REWARDS), SPG, starts, [steps]).probs[0]


def starts_of(count: int) -> np.ndarray:
    """So many starts at one corner, from bad to hopeless, (K, count)."""
    return corner_starts(ACTIONS, 0, np.geomspace(1e-6, 1e-2, count))
