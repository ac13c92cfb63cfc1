# SPDX-License-Identifier: Apache-2.0
"""From results to decisions, one decider a stream.

Owns which deciders there are: a stream that begins anew, or another release, begins
with an empty memory. What a decision is, is ``edge_contract.steps``; it comes after
observation, so statistics never see it.
"""

from collections import OrderedDict

from edge_agent.flow import Result
from edge_agent.runtime.model import Model
from edge_agent.runtime.pipeline import MAX_STREAMS, Task
from edge_contract.steps import Decider, DecisionRule, decision_rule


class Decisions:
    """Decides on the results of all streams of a slot."""

    def __init__(self) -> None:
        self._digest = ""
        self._rule = DecisionRule()
        self._deciders: OrderedDict[str, Decider] = OrderedDict()

    def settle(self, task: Task, result: Result, model: Model | None) -> None:
        """Write what is decided into ``result``.

        Args:
            task: What was inferred.
            result: What came of it.
            model: What serves now. A result of another release is left as it is.
        """
        result.stream = task.stream
        if result.output is None or model is None or model.digest != result.digest:
            return
        if self._digest != model.digest:
            self._digest = model.digest
            self._rule = decision_rule(model.manifest.post)
            self._deciders.clear()
        decision = self._decider(task, model).decide(result.output)
        result.output, result.ranked = decision.output, decision.ranked

    def _decider(self, task: Task, model: Model) -> Decider:
        decider = self._deciders.get(task.stream)
        if decider is None or task.is_start:
            decider = self._deciders[task.stream] = Decider(self._rule, model.labels)
        self._deciders.move_to_end(task.stream)
        if len(self._deciders) > MAX_STREAMS:
            self._deciders.popitem(last=False)
        return decider
