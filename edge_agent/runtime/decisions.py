# SPDX-License-Identifier: Apache-2.0
"""From results to decisions, one decider a stream.

Owns which deciders there are: a stream that begins anew, or another release, begins
with an empty memory. What a decision is, is ``edge_contract.steps``; it comes after
observation, so statistics never see it.
"""

from collections import OrderedDict

from edge_agent.flow import Float32, Result
from edge_agent.runtime.model import Model
from edge_agent.runtime.pipeline import MAX_STREAMS, Task
from edge_contract.steps import Decider, Decision, DecisionRule, decision_rule


class Decisions:
    """Decides on the results of all streams of a slot."""

    def __init__(self) -> None:
        self._digest = ""
        self._rule = DecisionRule()
        self._deciders: OrderedDict[str, Decider] = OrderedDict()

    def settle(self, task: Task, result: Result, model: Model | None) -> Result:
        """Return what a sink gets; ``result`` stays as it is, others may hold it.

        Args:
            task: What was inferred.
            result: What came of it.
            model: What serves now. Nothing is decided on another release's result.
        """
        output = result.output
        ranked: tuple[tuple[str, float], ...] = ()
        if output is not None and model is not None and model.digest == result.digest:
            decision = self._decide(task, output, model)
            output, ranked = decision.output, decision.ranked
        return Result(
            result.id,
            result.time_us,
            result.digest,
            output,
            result.error,
            task.stream,
            ranked,
        )

    def _decide(self, task: Task, output: Float32, model: Model) -> Decision:
        if self._digest != model.digest:
            self._digest = model.digest
            self._rule = decision_rule(model.manifest.post)
            self._deciders.clear()
        decider = self._deciders.get(task.stream)
        if decider is None or task.is_start:
            decider = self._deciders[task.stream] = Decider(self._rule, model.labels)
        self._deciders.move_to_end(task.stream)
        if len(self._deciders) > MAX_STREAMS:
            self._deciders.popitem(last=False)
        return decider.decide(output)
