# SPDX-License-Identifier: Apache-2.0
"""The driver over a quantizer whose candidates say what they are made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
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

    A quantized operator adds its error; a float one costs 5 % of latency, and 100 bytes
    where it is large. A corrected recipe takes a quarter of a dB off.
    """

    model: FloatModel = field(default_factory=lambda: FloatModel(b"", SPEC, SPEC, ()))
    accepted_error: float = 100.0
    refused: frozenset[str] = frozenset()
    refines: bool = False
    large: frozenset[str] = frozenset()
    dynamic_cost: float = 2.0
    dynamic_error: float = 5.0
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

    def refine(self, recipe: Recipe) -> Recipe | None:
        return replace(recipe, is_corrected=True) if self.refines else None

    def calibrate(self, frames: Frames) -> None:
        raise NotImplementedError

    def freeze(self, made: Candidate, like: bytes) -> Candidate:
        raise AssertionError((made, like))

    def make(self, recipe: Recipe) -> Candidate:
        self.made += 1
        if recipe.id in self.refused:
            raise ConvertQuantizeError("no", next_step="none")
        more = sum(100 for name in recipe.kept_float if name in self.large)
        return Candidate(recipe, repr(recipe).encode().ljust(400) + bytes(more))

    def sqnr_db(self, candidate: Candidate) -> float:
        return 60.0 - self.error(candidate)

    def error(self, candidate: Candidate) -> float:
        recipe = candidate.recipe
        if recipe.scheme == "float32":
            return 0.0
        extra = 2.0 if recipe.ranges == "p99.9" else 0.0
        extra += self.dynamic_error if recipe.scheme == "dynamic" else 0.0
        extra -= 0.25 if recipe.is_corrected else 0.0
        kept = recipe.kept_float
        return extra + sum(one for name, one in ERRORS.items() if name not in kept)

    def is_accepted(self, candidate: Candidate) -> bool:
        return self.error(candidate) <= self.accepted_error

    def cost_ratio(self, candidate: Candidate, base: Candidate) -> float:
        return self.cost(candidate.recipe) / self.cost(base.recipe)

    def cost(self, recipe: Recipe) -> float:
        base = self.dynamic_cost if recipe.scheme == "dynamic" else 1.0
        return base * (1 + 0.05 * len(recipe.kept_float))


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
    assert dict(outcome.all_but_db) == {"a": 47.5, "b": 54.5, "c": 47.0, "d": 50.5}
    assert not outcome.is_cut_short


def test_the_fewest_reverts_that_the_metric_accepts_are_found() -> None:
    outcome = search(World(accepted_error=0.5), revert_cost=0.0)
    assert kept(outcome) == [("a", "b", "d")]


def test_the_best_of_each_scheme_are_refined_and_reverted_with_it() -> None:
    outcome = search(World(refines=True))
    refined = [one.candidate.id for one in outcome.trials if one.stage == "refined"]
    assert refined == [
        "litert-static-minmax-channel-bc",
        "litert-static-p99.9-channel-bc",
        "litert-dynamic-channel-bc",
    ]
    reverted = [one for one in outcome.trials if one.stage == "reverted"]
    assert [one.sqnr_db for one in reverted] == [54.75, 58.75]
    assert all(one.candidate.recipe.is_corrected for one in reverted)


@pytest.mark.parametrize(
    ("world", "scheme"),
    [
        (World(dynamic_cost=1.0, dynamic_error=-1.0), "dynamic"),  # as fast, more exact
        (World(dynamic_cost=1.0, dynamic_error=1.0), "static"),  # less exact
        (World(dynamic_cost=1.5, dynamic_error=-1.0), "static"),  # more exact, slower
        (World(dynamic_cost=0.8, dynamic_error=1.0), "dynamic"),  # faster
        (World(dynamic_error=-9.0, accepted_error=5.0), "dynamic"),  # alone accepted
    ],
)
def test_reverts_go_to_what_the_choice_would_take(world: World, scheme: str) -> None:
    outcome = search(world)
    found = {
        one.candidate.recipe.scheme for one in outcome.trials if one.stage == "reverted"
    }
    assert found == {scheme}


def test_reverts_for_quality_do_not_swell_the_file() -> None:
    world = World(large=frozenset({"b"}))
    assert kept(search(world)) == [("d",), ("a", "d")]
    # Where the metric needs it, size is no reason.
    assert kept(search(replace(world, accepted_error=5.5))) == [("b",), ("a", "d")]


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
