# SPDX-License-Identifier: Apache-2.0
"""The choice for each device profile, and the proof that what is chosen runs there.

Owns the loop: choose by measured figures, check what was chosen (golden vectors on
every kernel set of this host, and on tflite-runtime 2.14 where a device has that), drop
what fails, choose again. The rules of one choice are ``choose``'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from converter import compat, vectors
from converter.candidate import Candidate
from converter.choose import Choice, Figures, Objective, choose
from converter.errors import (
    ConvertBudgetError,
    ConvertCompatError,
    ConvertGoldenError,
    ConvertModelError,
)
from converter.pack import PackedVariant
from converter.profiles import DeviceProfile
from converter.runtimes.side import run_there
from converter.tensors import Float32
from edge_contract.golden import GoldenResult, GoldenVectors, compare

OLD_RUNTIME = "tflite-runtime"


@dataclass(frozen=True)
class Rules:
    """What a choice goes by.

    Attributes:
        objective: What to make small.
        max_drop: The largest drop of the metric.
        require_quantized: Fail where only float is within ``max_drop``.
        device_check: Run what a device's old runtime will run on that runtime.
    """

    objective: Objective
    max_drop: float
    require_quantized: bool
    device_check: bool


class Goldens:
    """Golden vectors of candidates, made once each.

    Args:
        inputs: float32 [n, ...].
        compares_winners: Whether the largest output means something.
    """

    def __init__(self, inputs: Float32, *, compares_winners: bool) -> None:
        self.inputs = inputs
        self._compares_winners = compares_winners
        self._checked: dict[str, vectors.Checked] = {}
        self.there: dict[str, GoldenResult] = {}

    def checked(self, candidate: Candidate) -> vectors.Checked:
        """Return a candidate's golden outputs and this host's kernels against them."""
        if candidate.id not in self._checked:
            self._checked[candidate.id] = vectors.check(
                candidate, self.inputs, compares_winners=self._compares_winners
            )
        return self._checked[candidate.id]

    def refusal_there(self, candidate: Candidate) -> str:
        """Return why tflite-runtime 2.14 must not run a candidate; empty where it may.

        Raises:
            ConvertSideError: That runtime cannot be had here.
        """
        known = self.checked(candidate)
        if candidate.id not in self.there:
            try:
                outputs = run_there(candidate.content, self.inputs)
            except ConvertModelError as error:
                return error.message
            # Its kernels are older than the three that the tolerance was taken from.
            kind, limit = known.tolerance.kind, known.tolerance.limit
            wider = limit * 2 if kind == "lsb" else limit - 3
            allowed = replace(known.tolerance, limit=wider)
            self.there[candidate.id] = compare(outputs, known.golden, allowed)
        result = self.there[candidate.id]
        if result.ok:
            return ""
        return (
            f"{OLD_RUNTIME} 2.14 gives other outputs: {result.sqnr_db:.1f} dB,"
            f" largest difference {result.max_abs:.3g}"
        )

    def of(self, packed: Sequence[PackedVariant]) -> GoldenVectors:
        """Return the golden vectors of what is packed."""
        found = {one.id: self.checked(one.candidate) for one in packed}
        return GoldenVectors(
            self.inputs,
            {name: one.golden for name, one in found.items()},
            {name: one.tolerance for name, one in found.items()},
        )


@dataclass(frozen=True, eq=False)
class Decision:
    """What was chosen.

    Attributes:
        choices: Device profile to its choice, over candidate ids.
        packed: What goes into the bundle: float of the first runtime, then the chosen.
        selected: Device profile to the id of a packed variant.
        dropped: Candidate id to why it was dropped after it was chosen.
    """

    choices: Mapping[str, Choice]
    packed: tuple[PackedVariant, ...]
    selected: Mapping[str, str]
    dropped: Mapping[str, str]


def decide(
    candidates: Sequence[Candidate],
    figures: Mapping[str, Figures],
    profiles: Mapping[str, DeviceProfile | None],
    rules: Rules,
    goldens: Goldens,
) -> Decision:
    """Choose for each profile, and check the choices until all hold.

    Args:
        candidates: Float first; the first one's runtime is that of ``default``.
        figures: Candidate id to what was measured.
        profiles: Device profile, None for ``default``.
        rules: What the choice goes by.
        goldens: Makes and checks golden vectors.

    Raises:
        ConvertGoldenError: The kernels of this host disagree on float.
        ConvertCompatError: A device can run nothing.
        ConvertBudgetError: Only float is within the budget, and that was not allowed.
        ConvertSideError: A device's runtime cannot be had here.
    """
    base = candidates[0]
    if refusal := goldens.checked(base).refusal:
        raise ConvertGoldenError(
            refusal, next_step="check the model for numbers near overflow"
        )
    known = {one.id: one for one in candidates}
    dropped: dict[str, str] = {}
    barred: dict[tuple[str, str], str] = {}
    while True:
        choices = {
            name: _choose_for(name, known, figures, profiles, rules, barred)
            for name in profiles
        }
        failed = _failures(choices, known, profiles, rules, goldens)
        if not failed:
            break
        for (profile, name), reason in failed.items():
            if profile:
                barred[profile, name] = reason
            else:
                dropped[name] = reason
                del known[name]
    _check(choices, known, rules)
    return _decision(choices, known, profiles, dropped)


def _choose_for(
    name: str,
    known: Mapping[str, Candidate],
    figures: Mapping[str, Figures],
    profiles: Mapping[str, DeviceProfile | None],
    rules: Rules,
    barred: Mapping[tuple[str, str], str],
) -> Choice:
    profile = profiles[name]
    first = next(iter(known.values())).runtime
    seen = {}
    for one in known.values():
        objections = compat.check(one, profile).objections
        if profile is None and one.runtime != first:
            objections = (f"any device is expected to have {first} only",)
        if reason := barred.get((name, one.id)):
            objections = (*objections, reason)
        seen[one.id] = replace(figures[one.id], objections=objections)
    return choose(
        seen,
        objective=rules.objective,
        max_drop=rules.max_drop,
        float_ids=[one.id for one in known.values() if one.recipe.scheme == "float32"],
    )


def _failures(
    choices: Mapping[str, Choice],
    known: Mapping[str, Candidate],
    profiles: Mapping[str, DeviceProfile | None],
    rules: Rules,
    goldens: Goldens,
) -> dict[tuple[str, str], str]:
    """Return what fails its check: (profile, id); no profile where it fails here."""
    found: dict[tuple[str, str], str] = {}
    for name, choice in choices.items():
        if choice.chosen is None:
            continue
        candidate = known[choice.chosen]
        if refusal := goldens.checked(candidate).refusal:
            found["", candidate.id] = refusal
            continue
        runtime = compat.check(candidate, profiles[name]).runtime
        if runtime == OLD_RUNTIME and rules.device_check:
            refusal = goldens.refusal_there(candidate)
            if refusal:
                found[name, candidate.id] = refusal
    return found


def _check(
    choices: Mapping[str, Choice], known: Mapping[str, Candidate], rules: Rules
) -> None:
    for profile, choice in choices.items():
        if choice.chosen is None:
            reasons = "; ".join(
                f"{name}: {why}" for name, why in choice.reasons.items()
            )
            msg = f"{profile}: no variant can run there: {reasons}"
            raise ConvertCompatError(msg, next_step="leave the profile out")
        is_float = known[choice.chosen].recipe.scheme == "float32"
        if is_float and rules.require_quantized:
            _refuse_float(profile, choice)


def _refuse_float(profile: str, choice: Choice) -> None:
    if choice.nearest is None:
        msg = f"{profile}: no quantized variant is faster or smaller than float"
        step = "see the reasons with --all, or leave --require-quantized out"
        raise ConvertBudgetError(msg, next_step=step)
    msg = f"{profile}: no quantized variant is within the budget; the nearest is"
    msg += f" {choice.nearest}: {choice.reasons[choice.nearest]}"
    raise ConvertBudgetError(
        msg, next_step="give more validation data, or a larger --max-drop"
    )


def _decision(
    choices: Mapping[str, Choice],
    known: Mapping[str, Candidate],
    profiles: Mapping[str, DeviceProfile | None],
    dropped: Mapping[str, str],
) -> Decision:
    base = next(iter(known.values()))
    packed = {base.id: _packed(base, None)}
    selected = {}
    for name, choice in choices.items():
        one = _packed(known[choice.chosen or base.id], profiles[name])
        packed.setdefault(one.id, one)
        selected[name] = one.id
    return Decision(choices, tuple(packed.values()), selected, dropped)


def _packed(candidate: Candidate, profile: DeviceProfile | None) -> PackedVariant:
    found = compat.check(candidate, profile)
    name = candidate.id
    if found.runtime != candidate.runtime:
        name = candidate.id.replace(candidate.runtime, found.runtime, 1)
    return PackedVariant(name, found.runtime, found.min_runtime, candidate)
