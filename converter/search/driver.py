# SPDX-License-Identifier: Apache-2.0
"""The stages of a search: global recipes, refined bests, then reverts of the leader.

Owns their order and when to stop. Candidates that cannot be made are left out with the
reason; running out of time ends the search with what there is. The choice among the
trials is ``choose``'s.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from converter.candidate import Candidate, Quantizer, Recipe
from converter.errors import ConvertModelError, ConvertQuantizeError
from converter.search.judge import Judge, Limits
from converter.search.reverts import largest_prefix, rank, smallest_prefix

Stage = Literal["float", "global", "refined", "reverted"]
Progress = Callable[[str], None]
# Schemes that compute in int8: what is worth refining, and reverting in part.
_INTEGER: Final = ("static", "dynamic")
_REFINED: Final = 4


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
        all_but_db: Operator to the SQNR of the leader with it float.
        is_cut_short: Whether time ran out before the last stage ended.
    """

    trials: tuple[Trial, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    all_but_db: Mapping[str, float] = field(default_factory=dict)
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
        self._all_but_db: dict[str, float] = {}
        self._cut_short = False

    def run(self) -> Outcome:
        base, *others = self._quantizer.recipes()
        self._add(self._quantizer.make(base), "float")
        for recipe in others:
            if self._is_over():
                break
            self._try(recipe, "global")
        for scheme in _INTEGER:
            self._refine(scheme)
        leader = None if self._is_over() else self._leader()
        if leader is not None:
            self._revert(leader)
        return Outcome(
            tuple(self._trials), self._skipped, self._all_but_db, self._cut_short
        )

    def _is_over(self) -> bool:
        self._cut_short = self._cut_short or self._limits.is_over
        return self._cut_short

    def _try(self, recipe: Recipe, stage: Stage) -> None:
        self._progress(f"trying {recipe.id}")
        try:
            self._add(self._quantizer.make(recipe), stage)
        except (ConvertQuantizeError, ConvertModelError) as error:
            self._skipped[recipe.id] = error.message

    def _add(self, candidate: Candidate, stage: Stage) -> None:
        known = {one.candidate.content for one in self._trials}
        if candidate.content in known:
            self._skipped[candidate.id] = "the same bytes as another recipe"
            return
        sqnr_db = self._judge.sqnr_db(candidate)
        self._trials.append(Trial(candidate, stage, sqnr_db))

    def _of(self, scheme: str) -> list[Trial]:
        """Return a scheme's trials, the best first."""
        found = [one for one in self._trials if one.candidate.recipe.scheme == scheme]
        return sorted(found, key=lambda one: -one.sqnr_db)

    def _refine(self, scheme: str) -> None:
        for one in self._of(scheme)[:_REFINED]:
            recipe = self._quantizer.refine(one.candidate.recipe)
            if recipe is not None and not self._is_over():
                self._try(recipe, "refined")

    def _leader(self) -> Trial | None:
        """Return what the choice would take of the best of each scheme.

        That is the most exact of those that cost alike, among those that the metric
        accepts.
        """
        best = [found[0] for scheme in _INTEGER if (found := self._of(scheme))]
        accepted = [one for one in best if self._judge.is_accepted(one.candidate)]
        best = accepted or best
        if not best:
            return None
        first = best[0].candidate
        costs = [
            1.0,
            *(self._judge.cost_ratio(one.candidate, first) for one in best[1:]),
        ]
        limit = min(costs) * (1 + self._limits.revert_cost)
        near = [one for one, cost in zip(best, costs, strict=True) if cost <= limit]
        return max(near, key=lambda one: one.sqnr_db)

    def _revert(self, leader: Trial) -> None:
        """Rank operators by what they do, and add the prefixes that are worth it."""
        base = leader.candidate
        # What refines a candidate takes time, and changes neither cost nor rank much.
        plain = replace(base.recipe, is_corrected=False)
        operators = self._quantizer.operators
        small: list[str] = []
        for position, name in enumerate(operators, start=1):
            if self._is_over():
                return
            self._progress(f"sensitivity of operator {position} of {len(operators)}")
            made = self._made(plain, (name,))
            if made is None:
                continue
            self._all_but_db[name] = self._judge.sqnr_db(made)
            if self._is_small(made, base):
                small.append(name)
        ranked = rank(self._all_but_db)
        self._progress("bisecting reverts to float")
        self._add_prefixes(base.recipe, ranked, self._needed(base, ranked))
        cheap = tuple(name for name in ranked if name in small)
        self._add_prefixes(base.recipe, cheap, self._affordable(base, plain, cheap))

    def _needed(self, base: Candidate, ranked: tuple[str, ...]) -> list[int]:
        """Return the length of the shortest prefix that the metric accepts."""

        def is_accepted(count: int) -> bool:
            made = self._prefix(base.recipe, ranked, count)
            return made is not None and self._judge.is_accepted(made)

        if self._judge.is_accepted(base):
            return []
        needed = smallest_prefix(len(ranked) - 1, is_accepted)
        return [] if needed is None else [needed]

    def _affordable(
        self, base: Candidate, plain: Recipe, ranked: tuple[str, ...]
    ) -> list[int]:
        """Return lengths of prefixes that cost hardly more than ``base``."""

        def is_cheap(count: int) -> bool:
            made = self._prefix(plain, ranked, count)
            if made is None or not self._is_small(made, base):
                return False
            ratio = self._judge.cost_ratio(made, base)
            return ratio <= 1 + self._limits.revert_cost

        most = min(len(ranked), len(self._all_but_db) - 1)
        affordable = largest_prefix(most, is_cheap)
        return sorted(range(affordable, 0, -max(1, affordable // 4)))

    def _is_small(self, candidate: Candidate, base: Candidate) -> bool:
        limit = len(base.content) * (1 + self._limits.revert_cost)
        return len(candidate.content) <= limit

    def _prefix(
        self, recipe: Recipe, ranked: tuple[str, ...], count: int
    ) -> Candidate | None:
        if self._is_over():
            return None
        return self._made(recipe, tuple(sorted(ranked[:count])))

    def _add_prefixes(
        self, recipe: Recipe, ranked: tuple[str, ...], counts: list[int]
    ) -> None:
        known = {one.candidate.id for one in self._trials}
        for count in counts:
            made = self._prefix(recipe, ranked, count)
            if made is not None and made.id not in known:
                self._add(made, "reverted")

    def _made(self, recipe: Recipe, kept_float: tuple[str, ...]) -> Candidate | None:
        try:
            return self._quantizer.make(replace(recipe, kept_float=kept_float))
        except (ConvertQuantizeError, ConvertModelError):
            return None
