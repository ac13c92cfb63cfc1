# SPDX-License-Identifier: Apache-2.0
"""What the daemon does with down messages.

Owns the answer to each: a wanted configuration is taken as far as it may be, a hint of
new metadata asks the update machine to look, and a command of the closed list is
carried out or refused with its reason. Handlers return at once; frames are picked, and
sent by a process of its own, while ``tick`` looks after them.
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
from edge_agent.daemon.requests import SlotRequests
from edge_agent.daemon.wanted import Judge, save_wanted, take_want
from edge_agent.errors import RequestError
from edge_contract.messages import Announce, Command, Want
from edge_contract.wire import Scalar

CODE_CONSENT: Final = "agent.consent"
CODE_UNSUPPORTED: Final = "agent.unsupported"
CODE_UPLOAD: Final = "agent.upload"
CODE_DISK: Final = "agent.disk"
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
        slots: What may be asked of each slot, in the order of the configuration.
    """

    state_dir: Path
    consent: bool
    upload: Sequence[str]
    look_now: Callable[[], object]
    look_within: Callable[[int], object]
    introduce: Callable[[], None]
    judge: Judge
    apply: Callable[[], None]
    slots: Mapping[str, SlotRequests] = field(default_factory=dict)


@dataclass
class _Upload:
    command_id: str
    process: "subprocess.Popen[bytes]"
    file: Path | None = None  # deleted afterwards

    def discard(self) -> None:
        """Delete the frames: they were kept for this request alone."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)


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
    _collections: dict[str, tuple[Command, SlotRequests]] = field(default_factory=dict)

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
        elif command.kind == "logs":
            detail = "this agent does not send logs"
            self._refuse(command.id, CODE_UNSUPPORTED, detail)
        else:
            self._ask_slot(command)

    def tick(self) -> None:
        """Look after running uploads; called a few times a second."""
        for command, slot in list(self._collections.values()):
            self._look_at(command, slot)
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
            upload.discard()
        self._uploads.clear()

    def _sample(self, command: Command) -> None:
        if not self.rules.consent:
            detail = "samples.consent is false in the device's configuration"
            self._refuse(command.id, CODE_CONSENT, detail)
        elif "select" in command.arguments:
            self._collect(command)
        else:
            fraction = command.arguments.get("fraction", "")
            self._upload(command, [f"--fraction={fraction}"])

    def _upload(
        self, command: Command, arguments: Sequence[str], file: Path | None = None
    ) -> None:
        request = command.arguments.get("request", "")
        argv = [*self.rules.upload, f"--request={request}", *arguments]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program, no shell
                argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            detail = f"the upload cannot start: {error.strerror}"
            self._refuse(command.id, CODE_UPLOAD, detail)
            return
        self._uploads.append(_Upload(command.id, process, file))

    def _ask_slot(self, command: Command) -> None:
        """Answer a command that is about one slot, and done at once."""
        try:
            slot = self._find_slot(command)
            if command.kind == "quarantine":
                fields = slot.quarantine(command.arguments)
            else:
                fields = slot.want_labels(command.arguments)
        except RequestError as error:
            self._refuse(command.id, error.code, error.message)
        except OSError as error:
            self._refuse(command.id, CODE_DISK, f"the disk refused: {error}")
        else:
            self._answer(command.id, accepted=True, fields=fields)

    def _collect(self, command: Command) -> None:
        """Start to pick frames; one that comes again while it runs changes nothing."""
        if command.id in self._collections:
            return
        try:
            slot = self._find_slot(command)
            slot.collect(command.arguments)
        except RequestError as error:
            self._refuse(command.id, error.code, error.message)
        else:
            self._collections[command.id] = (command, slot)

    def _look_at(self, command: Command, slot: SlotRequests) -> None:
        """Send the frames of a request once they are all picked."""
        try:
            path = slot.collected()
        except RequestError as error:
            del self._collections[command.id]
            self._refuse(command.id, error.code, error.message)
        except OSError as error:
            del self._collections[command.id]
            self._refuse(command.id, CODE_DISK, f"the disk refused: {error}")
        else:
            if path is not None:
                del self._collections[command.id]
                self._upload(command, [f"--slot={slot.slot}", f"--file={path}"], path)

    def _find_slot(self, command: Command) -> SlotRequests:
        slots = self.rules.slots
        name = command.arguments.get("slot", next(iter(slots), ""))
        if not isinstance(name, str) or name not in slots:
            known = ", ".join(slots)
            raise RequestError(f"slot: expected one of {known}, found {name!r}")
        return slots[name]

    def _finish(self, upload: _Upload, code: int) -> None:
        output, _ = upload.process.communicate()
        upload.discard()
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

    def _refuse(self, command_id: str, code: str, detail: str) -> None:
        self._answer(command_id, accepted=False, code=code, detail=detail)

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
