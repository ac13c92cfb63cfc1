# SPDX-License-Identifier: Apache-2.0
"""The stages of a search: global recipes, sensitivity of the best, bisected reverts.

Owns their order and when to stop. Candidates that cannot be made are left out with the
reason; running out of time ends the search with what there is. The choice among the
trials is ``choose``'s.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from converter.candidate import Candidate, Quantizer, Recipe
from converter.errors import ConvertModelError, ConvertQuantizeError
from converter.search.judge import Judge, Limits
from converter.search.reverts import (
    Sensitivity,
    largest_prefix,
    rank,
    smallest_prefix,
)

Stage = Literal["float", "global", "reverted"]
Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Trial:
    """A candidate, where it came from, and its SQNR on the probe frames."""

    candidate: Candidate
    stage: Stage
    sqnr_db: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """All that a search found for one runtime.

    Attributes:
        trials: Float first.
        skipped: Recipe id to why it is not among them.
        sensitivity: Operator to what it does, for the best static candidate.
        is_cut_short: Whether time ran out before the last stage ended.
    """

    trials: tuple[Trial, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    sensitivity: Mapping[str, Sensitivity] = field(default_factory=dict)
    is_cut_short: bool = False


def run_search(
    quantizer: Quantizer, judge: Judge, limits: Limits, progress: Progress
) -> Outcome:
    """Search one runtime's candidates.

    Args:
        quantizer: Calibrated already.
        judge: Measures.
        limits: How long.
        progress: Called with what is being tried.

    Raises:
        ConvertError: Float itself cannot be made.
    """
    return _Search(quantizer, judge, limits, progress).run()


class _Search:
    def __init__(
        self, quantizer: Quantizer, judge: Judge, limits: Limits, progress: Progress
    ) -> None:
        self._quantizer = quantizer
        self._judge = judge
        self._limits = limits
        self._progress = progress
        self._trials: list[Trial] = []
        self._skipped: dict[str, str] = {}
        self._sensitivity: dict[str, Sensitivity] = {}
        self._cut_short = False

    def run(self) -> Outcome:
        base, *others = self._quantizer.recipes()
        self._add(self._quantizer.make(base), "float")
        for recipe in others:
            if self._is_over():
                break
            self._progress(f"trying {recipe.id}")
            self._try(recipe)
        best = self._best_static()
        if best is not None and not self._is_over():
            self._revert(best)
        return Outcome(
            tuple(self._trials), self._skipped, self._sensitivity, self._cut_short
        )

    def _is_over(self) -> bool:
        self._cut_short = self._cut_short or self._limits.is_over
        return self._cut_short

    def _try(self, recipe: Recipe) -> None:
        try:
            self._add(self._quantizer.make(recipe), "global")
        except (ConvertQuantizeError, ConvertModelError) as error:
            self._skipped[recipe.id] = error.message

    def _add(self, candidate: Candidate, stage: Stage) -> None:
        known = {one.candidate.content for one in self._trials}
        if candidate.content in known:
            self._skipped[candidate.id] = "the same bytes as another recipe"
            return
        sqnr_db = self._judge.sqnr_db(candidate)
        self._trials.append(Trial(candidate, stage, sqnr_db))

    def _best_static(self) -> Trial | None:
        static = [
            one for one in self._trials if one.candidate.recipe.scheme == "static"
        ]
        return max(static, key=lambda one: one.sqnr_db, default=None)

    def _revert(self, best: Trial) -> None:
        """Rank operators by what they do, and add the prefixes that are worth it."""
        recipe = best.candidate.recipe
        operators = self._quantizer.operators
        for position, name in enumerate(operators, start=1):
            if self._is_over():
                return
            self._progress(f"sensitivity of operator {position} of {len(operators)}")
            others = tuple(sorted(one for one in operators if one != name))
            found = [self._made(recipe, kept) for kept in (others, (name,))]
            if found[0] is None or found[1] is None:
                continue
            only, all_but = (
                self._judge.sqnr_db(one) for one in found if one is not None
            )
            self._sensitivity[name] = Sensitivity(only, all_but)
        self._add_prefixes(best, rank(self._sensitivity))

    def _add_prefixes(self, best: Trial, ranked: tuple[str, ...]) -> None:
        """Add the shortest prefix that the metric accepts, and the best within cost."""
        counts: set[int] = set()
        recipe = best.candidate.recipe

        def prefix(count: int) -> Candidate | None:
            return self._made(recipe, tuple(sorted(ranked[:count])))

        def is_accepted(count: int) -> bool:
            made = None if self._is_over() else prefix(count)
            return made is not None and self._judge.is_accepted(made)

        def is_cheap(count: int) -> bool:
            made = None if self._is_over() else prefix(count)
            return made is not None and (
                self._judge.cost_ratio(made, best.candidate)
                <= 1 + self._limits.revert_cost
            )

        self._progress("bisecting reverts to float")
        if not self._judge.is_accepted(best.candidate):
            needed = smallest_prefix(len(ranked) - 1, is_accepted)
            counts.update([] if needed is None else [needed])
        affordable = largest_prefix(len(ranked) - 1, is_cheap)
        counts.update(range(affordable, 0, -max(1, affordable // 4)))
        for count in sorted(counts):
            made = prefix(count)
            if made is not None:
                self._add(made, "reverted")

    def _made(self, recipe: Recipe, kept_float: tuple[str, ...]) -> Candidate | None:
        try:
            return self._quantizer.make(replace(recipe, kept_float=kept_float))
        except (ConvertQuantizeError, ConvertModelError):
            return None
