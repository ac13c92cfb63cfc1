# SPDX-License-Identifier: Apache-2.0
"""What the daemon does with down messages.

Owns the answer to each: a wanted configuration is taken as far as it may be, a hint of
new metadata asks the update machine to look, and a command of the closed list is
carried out or refused with its reason. Handlers return at once; a sample is sent by a
process of its own, which ``tick`` looks after.
"""

import json
import logging
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from edge_agent.daemon.identity import Identity
from edge_agent.daemon.reports import MAX_DETAIL
from edge_agent.daemon.wanted import Judge, save_wanted, take_want
from edge_contract.messages import Announce, Command, Want
from edge_contract.wire import Scalar

CODE_CONSENT: Final = "agent.consent"
CODE_UNSUPPORTED: Final = "agent.unsupported"
CODE_UPLOAD: Final = "agent.upload"
_MAX_OUTPUT_BYTES: Final = 64 * 1024
_LOG = logging.getLogger(__name__)


class Replies(Protocol):
    """Where answers go; the link."""

    def reply(
        self,
        command_id: str,
        *,
        accepted: bool,
        code: str = "",
        detail: str = "",
        fields: Mapping[str, Scalar] | None = None,
    ) -> None:
        """Answer a command, once and for all."""


@dataclass(frozen=True)
class DeskRules:
    """What commands may do on this device.

    Attributes:
        state_dir: Where the wanted configuration is kept.
        consent: Whether samples may leave.
        upload: The command line that sends a sample; the request is appended.
        look_now: Has the update machine look for news.
        look_within: The same, at a random moment within so many seconds.
        introduce: Tells the server anew what this device is and runs.
        judge: Says which wanted keys are refused.
        apply: Puts the wanted keys that were taken to use.
    """

    state_dir: Path
    consent: bool
    upload: Sequence[str]
    look_now: Callable[[], object]
    look_within: Callable[[int], object]
    introduce: Callable[[], None]
    judge: Judge
    apply: Callable[[], None]


@dataclass
class _Upload:
    command_id: str
    process: "subprocess.Popen[bytes]"


@dataclass
class CommandDesk:
    """Acts on down messages.

    Args:
        rules: What commands may do here.
        identity: Reports the wanted configuration.
    """

    rules: DeskRules
    identity: Identity
    replies: Replies | None = None
    _uploads: list[_Upload] = field(default_factory=list)

    def on_want(self, want: Want) -> None:
        """Take a wanted configuration as far as it may be taken."""
        wanted = take_want(want, self.rules.judge)
        if wanted == self.identity.wanted:
            return
        save_wanted(self.rules.state_dir, wanted)
        self.identity.wanted = wanted
        self.rules.apply()
        self.rules.introduce()

    def on_announce(self, announce: Announce) -> None:
        """Have the update machine look, some time within the asked spread."""
        self.rules.look_within(announce.spread_seconds)

    def on_command(self, command: Command) -> None:
        """Carry out a command, or refuse it with the reason."""
        if command.kind == "check-update":
            self.rules.look_now()
            self._answer(command.id, accepted=True)
        elif command.kind == "sample":
            self._sample(command)
        else:
            detail = f"this agent does not know {command.kind}"
            self._answer(
                command.id, accepted=False, code=CODE_UNSUPPORTED, detail=detail
            )

    def tick(self) -> None:
        """Look after running uploads; called a few times a second."""
        for upload in list(self._uploads):
            code = upload.process.poll()
            if code is None:
                continue
            self._uploads.remove(upload)
            self._finish(upload, code)

    def stop(self) -> None:
        """End running uploads; the server asks again."""
        for upload in self._uploads:
            upload.process.terminate()
            upload.process.communicate()
        self._uploads.clear()

    def _sample(self, command: Command) -> None:
        if not self.rules.consent:
            detail = "samples.consent is false in the device's configuration"
            self._answer(command.id, accepted=False, code=CODE_CONSENT, detail=detail)
            return
        argv = [*self.rules.upload]
        for name in ("request", "fraction"):
            argv += [f"--{name}={command.arguments.get(name, '')}"]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program, no shell
                argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            detail = f"the upload cannot start: {error.strerror}"
            self._answer(command.id, accepted=False, code=CODE_UPLOAD, detail=detail)
            return
        self._uploads.append(_Upload(command.id, process))

    def _finish(self, upload: _Upload, code: int) -> None:
        output, _ = upload.process.communicate()
        try:
            found = json.loads(output[:_MAX_OUTPUT_BYTES])
        except ValueError:
            found = {}
        if code == 0:
            fields = {
                key: value
                for key, value in found.items()
                if isinstance(value, int | str)
            }
            self._answer(upload.command_id, accepted=True, fields=fields)
            return
        error = found.get("error", {}) if isinstance(found, dict) else {}
        self._answer(
            upload.command_id,
            accepted=False,
            code=str(error.get("code", CODE_UPLOAD)),
            detail=str(error.get("message", f"the upload ended with {code}")),
        )

    def _answer(
        self,
        command_id: str,
        *,
        accepted: bool,
        code: str = "",
        detail: str = "",
        fields: Mapping[str, Scalar] | None = None,
    ) -> None:
        _LOG.info("command %s: %s %s", command_id, "done" if accepted else code, detail)
        if self.replies is not None:
            self.replies.reply(
                command_id,
                accepted=accepted,
                code=code,
                detail=detail[:MAX_DETAIL],
                fields=fields,
            )
