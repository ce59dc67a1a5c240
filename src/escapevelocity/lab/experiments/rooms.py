"""Four rooms: value against iterations from the policy in the well, each method at its own best rate (figure 5)."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from escapevelocity.errors import require
from escapevelocity.lab import (
    EscapeTimes,
    Method,
    Rooms,
    epg,
    escape_time,
    evaluate,
    four_rooms,
    gnpg,
    log_spaced,
    npg,
    spg,
    trajectory,
)
from escapevelocity.lab.experiments.experiment import (
    Experiment,
    Findings,
    Summary,
    Track,
    require_all,
    silently,
    stack_rows,
)
from escapevelocity.lab.simulate import require_count

ESCAPED, SOLVED = 0.9, 0.1
"""Shares of the start's sub-optimality left when a tenth of it is gone (the laws' criterion), and nine tenths."""

_PLAIN: Mapping[str, Callable[[Any], Method]] = {"SPG": spg, "NPG": npg, "GNPG": gnpg}
_ACTIONS = ("north", "east", "south", "west")

Row = dict[str, Any]


class Contender(NamedTuple):
    """A method: its name, and rate or rates -> update rule."""

    name: str
    build: Callable[[Any], Method]


_MOST_REWARD = 1e6
"""Size of a reward, with which values and gradients stay far from overflowing at any rate that solves the rooms."""


class Choice(NamedTuple):
    """The best rate of a method, and what happens there.

    Attributes:
        rate: η.
        at_edge: "lower" or "upper" where the rate is the grid's smallest or largest.
        escaped_at: iterations until a tenth of the gap was closed; NaN where it never was.
        solved_at: until nine tenths were.
        curves: long-form rows of every rate.
        policies: policies (A, S) by iteration, at the start and the snapshots.
    """

    rate: float
    at_edge: str
    escaped_at: float
    solved_at: float
    curves: list[Row]
    policies: dict[int, np.ndarray]


@dataclasses.dataclass(frozen=True)
class FourRooms(Experiment):
    """Four rooms (104 cells): how long until the policy that walks to the nearest sub-goal walks to the goal?

    Every method starts from the same policy in the well and follows exact gradients; η multiplies its update, where
    the gradient contains the discounted visits of each state. Every method runs at every rate of one grid, and is
    shown at its own best: the fewest iterations until nine tenths of V*(μ) − V(μ) are closed, if they still are at
    the end. EPG has the rate η‖θ(s)‖²/p².
    """

    question: ClassVar[str] = (
        "Four rooms: how long until the policy leaves the nearest sub-goal for the goal?"
    )
    quick: ClassVar[Mapping[str, Any]] = {
        "escort_powers": (2.0,),
        "rates": (10.0, 100.0, 1000.0),
        "iterations": 600,
        "snapshots": (10, 100),
    }

    methods: tuple[str, ...] = ("SPG", "EPG", "NPG", "GNPG")
    """Of SPG, EPG, NPG and GNPG."""
    escort_powers: tuple[float, ...] = (2.0, 4.0)
    """Exponents p ≥ 1 of the escort transform."""
    rates: tuple[float, ...] = tuple(float(f"{10 ** (i / 2):.4g}") for i in range(-2, 13))
    """Grid of η for every method, increasing: 0.1 … 10⁶ in steps of √10."""
    iterations: int = 5000
    """Updates of every run."""
    snapshots: tuple[int, ...] = (10, 100, 1000)
    """Iterations of the value maps, increasing; the start and the optimum are always shown."""
    gamma: float = 0.99
    """Discount in [0, 1)."""
    goal_reward: float = 1.0
    """Paid at the goal."""
    subgoal_reward: float = 0.8
    """Paid at each of the three sub-goals."""
    concentration: float = 0.97
    """Probability of the start policy's action, in [0.25, 1)."""

    def run(self, track: Track = silently) -> Findings:
        """Choose every method's rate, then follow it and time every cell's escape."""
        self._check()
        rooms = four_rooms(
            self.gamma,
            goal_reward=self.goal_reward,
            subgoal_reward=self.subgoal_reward,
            concentration=self.concentration,
        )
        start = evaluate(rooms.mdp, rooms.start_policy[..., None])
        gap = float(start.suboptimality[0])
        start_gaps = np.asarray(start.state_suboptimality)[:, 0]
        require(
            gap > 0.01, "subgoal_reward", self.subgoal_reward, "so low that the start is 0.01 below V*(μ)"
        )
        curves, maps, cells, lines = [], _map_rows(rooms, "optimum", 0, _optimal_policy(rooms)), [], []
        for contender in track(self.contenders(), lambda one: one.name):
            choice = self._choose(rooms, contender, gap)
            one_cells = self._cell_rows(rooms, contender, choice.rate, start_gaps)
            curves, cells = curves + choice.curves, cells + one_cells
            for step, probs in choice.policies.items():
                maps += _map_rows(rooms, contender.name, step, probs)
            lines.append(self._line(contender.name, choice, one_cells))
        headings = [
            "method",
            "best η",
            "10 % closed",
            "90 % closed",
            "first cell",
            "median cell",
            "last cell",
        ]
        headings += ["left at the end"]
        tables = {"": stack_rows(curves), "maps": stack_rows(maps), "cells": stack_rows(cells)}
        return Findings(tables, Summary(headings, lines), self._answers(rooms, lines, curves, gap))

    def contenders(self) -> list[Contender]:
        """The methods, EPG once for every exponent."""
        found = []
        for name in self.methods:
            if name == "EPG":
                found += [
                    Contender(f"EPG({p:g})", lambda rate, p=p: epg(rate, p)) for p in self.escort_powers
                ]
            else:
                found.append(Contender(name, _PLAIN[name]))
        return found

    def _check(self) -> None:
        known = ("EPG", *_PLAIN)
        require_all(self.methods, "methods", lambda name: name in known, f"one of {', '.join(known)}")
        require_all(self.escort_powers, "escort_powers", lambda p: 1 <= p < math.inf, "finite and ≥ 1")
        require_all(self.rates, "rates", lambda rate: 0 < rate < math.inf, "finite and > 0")
        require_count(self.iterations, "iterations")
        require(self.iterations >= 10, "iterations", self.iterations, "an integer ≥ 10")
        require_all(self.snapshots, "snapshots", lambda n: n >= 1, "an integer ≥ 1")
        for name in ("rates", "snapshots"):
            rises = bool((np.diff(getattr(self, name)) > 0).all())
            require(rises, name, getattr(self, name), "in increasing order")
        for name in ("goal_reward", "subgoal_reward"):
            size = abs(getattr(self, name))
            require(
                size <= _MOST_REWARD,
                name,
                getattr(self, name),
                f"finite and at most {_MOST_REWARD:g} in size",
            )
        require(0.25 <= self.concentration < 1, "concentration", self.concentration, "in [0.25, 1)")

    def _choose(self, rooms: Rooms, contender: Contender, gap: float) -> Choice:
        """Run every rate side by side."""
        starts = np.repeat(rooms.start_policy[..., None], len(self.rates), axis=-1)
        method = contender.build(np.asarray(self.rates))
        solved = escape_time(rooms.mdp, method, starts, SOLVED * gap, self.iterations)
        seen = [0, *(n for n in self.snapshots if n <= self.iterations)]
        path = trajectory(rooms.mdp, method, starts, np.union1d(log_spaced(self.iterations, 150), seen))
        stays = ~solved.censored & (path.suboptimality[-1] < SOLVED * gap)
        rank = np.where(stays, solved.steps, np.where(solved.censored, np.inf, self.iterations))
        # Where no rate solves it: the one that ends nearest to the optimum.
        best = int(rank.argmin()) if np.isfinite(rank).any() else int(path.suboptimality[-1].argmin())
        escaped = escape_time(rooms.mdp, method, starts, ESCAPED * gap, int(solved.steps[best]))
        curves = [
            {
                "method": contender.name,
                "rate": rate,
                "is_best": i == best,
                "iteration": int(step),
                "value": rooms.mdp.optimal_value - float(left),
                "share_left": float(left) / gap,
                "solved_at": _time(solved, i),
            }
            for i, rate in enumerate(self.rates)
            for step, left in zip(path.steps, path.suboptimality[:, i], strict=True)
        ]
        edge = "lower" if best == 0 else "upper" if best == len(self.rates) - 1 else ""
        policies = {n: path.probs[np.searchsorted(path.steps, n), ..., best] for n in seen}
        return Choice(self.rates[best], edge, _time(escaped, best), _time(solved, best), curves, policies)

    def _cell_rows(
        self, rooms: Rooms, contender: Contender, rate: float, start_gaps: np.ndarray
    ) -> list[Row]:
        """When each cell's own value has escaped and is solved, at the best rate."""
        method, start = contender.build(rate), rooms.start_policy[..., None]
        is_end = start_gaps < 1e-9  # nothing can be gained there
        gaps = np.where(is_end, 1.0, start_gaps)
        escaped, solved = (
            escape_time(rooms.mdp, method, start, share * gaps, self.iterations, per_state=True)
            for share in (ESCAPED, SOLVED)
        )
        return [
            {"method": contender.name, "row": int(row), "column": int(column), "rate": rate}
            | {"escaped_at": _time(escaped, (s, 0)), "solved_at": _time(solved, (s, 0))}
            for s, (row, column) in enumerate(rooms.cells)
            if not is_end[s]
        ]

    def _line(self, name: str, choice: Choice, cells: Sequence[Row]) -> list[str | int | float]:
        left = [row["share_left"] for row in choice.curves if row["is_best"]][-1]
        # Cells that never escape come last.
        order = sorted(math.inf if math.isnan(row["escaped_at"]) else row["escaped_at"] for row in cells)
        mark = {"lower": "↓", "upper": "↑", "": ""}[choice.at_edge]
        times = [choice.escaped_at, choice.solved_at, order[0], order[len(order) // 2], order[-1]]
        shown = [int(time) if math.isfinite(time) else f"> {self.iterations}" for time in times]
        return [name, f"{choice.rate:g}{mark}", *shown, left]

    def _answers(
        self, rooms: Rooms, lines: Sequence[Sequence[Any]], curves: Sequence[Row], gap: float
    ) -> list[str]:
        best = rooms.mdp.optimal_value
        times = "; ".join(f"{line[0]} {line[3]} (η = {line[1]})" for line in lines)
        edges = [line[0] for line in lines if line[1][-1] in "↑↓"]
        edge = (
            f" At the grid's edge, so that a better rate may lie outside: {', '.join(edges)}."
            if edges
            else ""
        )
        return [
            f"The start is worth V(μ) = {best - gap:.4f}, the optimum {best:.4f}. "
            f"Iterations until nine tenths of the gap are closed, each at its own best rate: {times}.{edge}",
            *self._at_the_same_rate(curves),
            "Gradients are exact, and the grid contains rates at which an update nearly replaces the policy: for NPG "
            "that is policy iteration. What such steps cost with sampled actions: `ev lab adaptive-rates`.",
        ]

    def _at_the_same_rate(self, curves: Sequence[Row]) -> list[str]:
        """SPG beside EPG(p) at the smallest rate at which both close nine tenths of the gap."""
        solved = {(row["method"], row["rate"]): row["solved_at"] for row in curves if row["iteration"] == 0}
        parts = []
        for p in self.escort_powers if {"SPG", "EPG"} <= set(self.methods) else ():
            for rate in self.rates:
                softmax, escort = solved["SPG", rate], solved[f"EPG({p:g})", rate]
                if not math.isnan(softmax + escort):
                    ratio = softmax / escort
                    parts.append(
                        f"EPG({p:g}) {escort:g}, SPG {softmax:g} at η = {rate:g} (ratio {ratio:.3g})"
                    )
                    break
        return [f"At the same η, the smallest at which both get there: {'; '.join(parts)}."] if parts else []


def _time(times: EscapeTimes, where: Any) -> float:
    return math.nan if times.censored[where] else float(times.steps[where])


def _optimal_policy(rooms: Rooms) -> np.ndarray:
    """The first of the best actions in every cell."""
    best = np.asarray(rooms.mdp.best_actions)
    return np.eye(len(best))[:, best.argmax(axis=0)]


def _map_rows(rooms: Rooms, method: str, iteration: int, probs: np.ndarray) -> list[Row]:
    values = evaluate(rooms.mdp, probs[..., None]).state_values[:, 0]
    return [
        {"method": method, "iteration": iteration, "row": int(row), "column": int(column)}
        | {"value": float(values[s])}
        | {action: float(probs[a, s]) for a, action in enumerate(_ACTIONS)}
        for s, (row, column) in enumerate(rooms.cells)
    ]
