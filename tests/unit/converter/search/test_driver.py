# SPDX-License-Identifier: Apache-2.0
"""The driver over a quantizer whose candidates say what they are made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest

from converter.candidate import Candidate, Recipe
from converter.errors import ConvertQuantizeError
from converter.model import FloatModel
from converter.search import Limits, Outcome, run_search
from converter.tensors import Frames, TensorSpec

SPEC = TensorSpec("x", (1, 4))
ERRORS = {"a": 1.0, "b": 8.0, "c": 0.5, "d": 4.0}


@dataclass
class World:
    """Quantizer and judge of a model with four operators.

    A quantized operator adds its error; a float one costs 5 % of latency.
    """

    model: FloatModel = field(default_factory=lambda: FloatModel(b"", SPEC, SPEC, ()))
    accepted_error: float = 100.0
    refused: frozenset[str] = frozenset()
    made: int = 0

    @property
    def operators(self) -> tuple[str, ...]:
        return tuple(ERRORS)

    def recipes(self) -> tuple[Recipe, ...]:
        return (
            Recipe("litert", "float32"),
            Recipe("litert", "static", "minmax"),
            Recipe("litert", "static", "p99.9"),
            Recipe("litert", "dynamic"),
        )

    def calibrate(self, frames: Frames) -> None:
        raise NotImplementedError

    def make(self, recipe: Recipe) -> Candidate:
        self.made += 1
        if recipe.id in self.refused:
            raise ConvertQuantizeError("no", next_step="none")
        return Candidate(recipe, repr(recipe).encode())

    def sqnr_db(self, candidate: Candidate) -> float:
        return 60.0 - self.error(candidate)

    def error(self, candidate: Candidate) -> float:
        recipe = candidate.recipe
        if recipe.scheme == "float32":
            return 0.0
        extra = 2.0 if recipe.ranges == "p99.9" else 0.0
        kept = recipe.kept_float
        return extra + sum(one for name, one in ERRORS.items() if name not in kept)

    def is_accepted(self, candidate: Candidate) -> bool:
        return self.error(candidate) <= self.accepted_error

    def cost_ratio(self, candidate: Candidate, base: Candidate) -> float:
        more = len(candidate.recipe.kept_float) - len(base.recipe.kept_float)
        return 1 + 0.05 * more


def clock(step: float) -> Callable[[], float]:
    ticks: Iterator[int] = count()
    return lambda: next(ticks) * step


def search(world: World, *, step: float = 0.0, revert_cost: float = 0.11) -> Outcome:
    return run_search(world, world, Limits(10.0, clock(step), revert_cost), print)


def kept(outcome: Outcome) -> list[tuple[str, ...]]:
    return [
        one.candidate.recipe.kept_float
        for one in outcome.trials
        if one.stage == "reverted"
    ]


def test_the_best_static_candidate_gets_the_reverts_that_its_cost_allows() -> None:
    outcome = search(World())
    stages = [(one.candidate.id, one.stage) for one in outcome.trials[:4]]
    assert stages == [
        ("litert-float32", "float"),
        ("litert-static-minmax-channel", "global"),
        ("litert-static-p99.9-channel", "global"),
        ("litert-dynamic-channel", "global"),
    ]
    assert kept(outcome) == [("b",), ("b", "d")]
    assert all(
        one.candidate.recipe.ranges == "minmax"
        for one in outcome.trials
        if one.stage == "reverted"
    )
    assert outcome.sensitivity["b"].all_but_db == 60.0 - 5.5
    assert outcome.sensitivity["b"].only_db == 52.0
    assert not outcome.is_cut_short


def test_the_fewest_reverts_that_the_metric_accepts_are_found() -> None:
    outcome = search(World(accepted_error=0.5), revert_cost=0.0)
    assert kept(outcome) == [("a", "b", "d")]


def test_no_reverts_where_none_help_and_none_are_allowed() -> None:
    assert kept(search(World(accepted_error=-1.0), revert_cost=0.0)) == []


def test_what_cannot_be_made_is_skipped_with_its_reason() -> None:
    outcome = search(World(refused=frozenset({"litert-static-minmax-channel"})))
    assert dict(outcome.skipped) == {"litert-static-minmax-channel": "no"}
    assert kept(outcome) == [("b",), ("b", "d")]


def test_float_must_be_made() -> None:
    with pytest.raises(ConvertQuantizeError):
        search(World(refused=frozenset({"litert-float32"})))


@pytest.mark.parametrize("step", [20.0, 4.0, 1.5])
def test_time_that_runs_out_leaves_what_there_is(step: float) -> None:
    world = World()
    outcome = search(world, step=step)
    assert outcome.is_cut_short
    assert outcome.trials[0].stage == "float"
    assert world.made < 20
