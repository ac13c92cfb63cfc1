# SPDX-License-Identifier: Apache-2.0
"""The program ``edge-fleet``.

Owns the parser's root, the verbs that work on a state folder (``init``, ``serve``),
printing answers and errors, and exit codes. The other verbs live in the features'
packages and talk to a running server.
"""

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from edge_contract.errors import EdgeError
from fleet.alerts import verbs as alert_verbs
from fleet.audit import verbs as audit_verbs
from fleet.client import ServerAddress, open_client, read_address
from fleet.commands import Answer, Groups, Register
from fleet.config import StateLayout
from fleet.devices import verbs as device_verbs
from fleet.drift import verbs as drift_verbs
from fleet.errors import RemoteError, RequestError
from fleet.pipelines import verbs as pipeline_verbs
from fleet.registry import key_verbs
from fleet.registry import verbs as registry_verbs
from fleet.rollout import verbs as rollout_verbs
from fleet.samples import verbs as sample_verbs

if TYPE_CHECKING:
    from fleet.serve import Running

DEFAULT_STATE = "edge-fleet-state"

# Nouns in the order of --help.
GROUPS: tuple[Register, ...] = (
    device_verbs.register,
    sample_verbs.register,
    pipeline_verbs.register,
    registry_verbs.register,
    key_verbs.register,
    rollout_verbs.register,
    drift_verbs.register,
    alert_verbs.register,
    audit_verbs.register,
)

_LocalVerb = Callable[[argparse.Namespace], int]


def make_parser() -> argparse.ArgumentParser:
    """Make the parser with the verbs of all features."""
    parser = argparse.ArgumentParser(
        prog="edge-fleet", description="The server of an Edgeloop fleet."
    )
    parser.add_argument("--version", action="version", version=_read_version())
    groups = parser.add_subparsers(dest="noun", required=True, metavar="COMMAND")
    _add_local(
        groups,
        "init",
        _init,
        summary="make the state folder of a server: keys, database, repository",
    )
    serve = _add_local(
        groups,
        "serve",
        _serve,
        summary="run the server until it is told to stop",
    )
    serve.add_argument(
        "--port", type=int, help="HTTP port (default: a free one, kept for next time)"
    )
    for register in GROUPS:
        register(groups)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        if "local" in arguments:
            local: _LocalVerb = arguments.local
            return local(arguments)
        answer = _answer(arguments)
    except EdgeError as error:
        return _print_error(error, as_json=arguments.json)
    except OSError as error:
        return _print_error(_from_os_error(error), as_json=arguments.json)
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps(answer.document, indent=2, sort_keys=True))
    else:
        print(answer.text)
    return answer.exit_code


def _answer(arguments: argparse.Namespace) -> Answer:
    if "state_handler" in arguments:
        root = Path(arguments.state or DEFAULT_STATE).absolute()
        worked: Answer = arguments.state_handler(arguments, StateLayout(root))
        return worked
    with open_client(_find_address(arguments)) as client:
        answer: Answer = arguments.handler(arguments, client)
    return answer


def _add_local(
    groups: Groups, name: str, verb: _LocalVerb, *, summary: str
) -> argparse.ArgumentParser:
    parser = groups.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  edge-fleet {name} --state {DEFAULT_STATE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        default=DEFAULT_STATE,
        help=f"state folder (default: {DEFAULT_STATE})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.set_defaults(local=verb)
    return parser


def _init(arguments: argparse.Namespace) -> int:
    serve = _import_server()
    layout = StateLayout(Path(arguments.state).absolute())
    config = serve.init_state(layout)
    if arguments.json:
        document = {
            "state": str(layout.root),
            "fleets": list(config.fleets),
            "builder_key": str(layout.builder_key),
            "builder_public": str(layout.builder_public),
        }
        print(json.dumps(document, indent=2))
        return 0
    print(f"state folder {layout.root}, fleets: {', '.join(config.fleets)}")
    print(f"key that signs bundles: {layout.builder_key}")
    print(f"keep {layout.offline_keys} elsewhere once you are past trying out")
    print(f"Next: edge-fleet serve --state {arguments.state}")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # One line a request of a neighbour library is not a unit of our work.
    for name in ("httpx", "alembic", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)

    serve = _import_server()

    def on_start(running: "Running") -> None:
        if arguments.json:
            document = {
                "url": running.url,
                "dashboard_url": running.dashboard_url,
                "broker": running.broker,
            }
            print(json.dumps(document), flush=True)
            return
        print(f"dashboard: {running.dashboard_url}", flush=True)
        print(f"API: {running.url}  MQTT: {running.broker}", flush=True)

    layout = StateLayout(Path(arguments.state).absolute())
    serve.run_server(layout, port=arguments.port, on_start=on_start)
    return 0


def _import_server() -> ModuleType:
    """Import the server only where it is needed: the other verbs start at once."""
    return importlib.import_module("fleet.serve")


def _find_address(arguments: argparse.Namespace) -> ServerAddress:
    if arguments.socket is not None:
        local = Path(arguments.socket).absolute()
        return ServerAddress("http://edge-fleet", "", local)
    if arguments.server is None:
        root = Path(arguments.state or DEFAULT_STATE)
        return read_address(StateLayout(root).run)
    if arguments.token_file is None:
        message = "--server: expected --token-file with it, found none"
        raise RequestError(message, next_step="add --token-file FILE")
    token = Path(arguments.token_file).read_text(encoding="utf-8").strip()
    return ServerAddress(url=arguments.server, token=token)


def _from_os_error(error: OSError) -> EdgeError:
    message = f"{error.filename or 'system'}: {error.strerror or error}"
    return RequestError(message, next_step="check the path, its rights and the space")


def _print_error(error: EdgeError, *, as_json: bool) -> int:
    code, exit_code = error.code, error.exit_code
    if isinstance(error, RemoteError):
        code, exit_code = error.remote_code, error.remote_exit_code
    if as_json:
        body = {"code": code, "message": error.message, "next_step": error.next_step}
        print(json.dumps({"error": body}, indent=2), file=sys.stderr)
    else:
        print(f"edge-fleet: {error} [{code}]", file=sys.stderr)
    return exit_code


def _read_version() -> str:
    try:
        return f"edge-fleet {version('edgeloop')}"
    except PackageNotFoundError:
        return "edge-fleet (not installed)"


if __name__ == "__main__":
    sys.exit(main())
