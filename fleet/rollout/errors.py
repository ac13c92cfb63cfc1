# SPDX-License-Identifier: Apache-2.0
"""Errors of rollouts.

* FleetError
    * RolloutApprovalError - a second person has to approve
    * RolloutConflictError - the rollout's state, or another rollout, forbids it
    * RolloutRequestError - a rollout that makes no sense was asked for (usage)
"""

from fleet.errors import ConflictError, RefusedError, RequestError


class RolloutApprovalError(RefusedError):
    """Who asks may not do this alone, or is not known by name."""

    code = "fleet.rollout.approval"


class RolloutConflictError(ConflictError):
    """The rollout's state, or another rollout, forbids what was asked."""

    code = "fleet.rollout.conflict"


class RolloutRequestError(RequestError):
    """A phase, limit or duration of a new rollout makes no sense."""

    code = "fleet.rollout.request"
