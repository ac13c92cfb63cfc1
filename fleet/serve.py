# SPDX-License-Identifier: Apache-2.0
"""Making a state folder and running the server on it.

Owns the life of the process: lock, ports, socket, ``run.json``, signals. What the
server consists of is in ``app``.
"""

import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from edge_contract.errors import EdgeError
from edge_contract.topics import check_fleet_id
from fleet.app import Parts, build_application, compose, init_features
from fleet.auth.keyring import create_master_key, load_key_ring
from fleet.auth.peer import PeerProtocol
from fleet.auth.tokens import TokenBook, make_token_book
from fleet.config import FleetConfig, StateLayout, load_config
from fleet.devices.enrol import Endpoints
from fleet.errors import StateError
from fleet.registry.site import Site
from fleet.services import SystemClock
from fleet.state import (
    hold_lock,
    listen_locally,
    listen_on,
    pick_ports,
    write_private,
)
from fleet.store.engine import database_url, open_engine
from fleet.store.migrate import migrate

_LOG = logging.getLogger(__name__)
_SHUTDOWN_SECONDS = 5
_SAMPLE_CONFIG = """\
# Configuration of edge-fleet; what is left out has the default shown.
# fleets: [default]
# listen: {host: 127.0.0.1, port: 0}   # 0: a free port, picked once and kept
# broker: {mode: embedded, port: 0}    # or mode: external with host and port
# rollout: {approve: [start, roll-back, override]}   # what two persons agree on
# listen: {group: fleet}               # who may use the socket beside the owner
# ingest: {ack_interval: 60s}
# alerts: {webhooks: {ops: {url: https://…, secret_file: /etc/edgeloop/ops.key}}}
# pipelines:
#   retrain: {command: [python, retrain.py], timeout: 10m}
"""


@dataclass(frozen=True, slots=True)
class Running:
    """What a server that started says about itself."""

    url: str
    dashboard_url: str  # carries the token
    broker: str


def init_state(layout: StateLayout) -> FleetConfig:
    """Make the state folder, or complete one; nothing there is overwritten.

    Raises:
        StateError: A server is using it.
        ConfigError: Its ``fleet.yaml`` is wrong.
    """
    layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not layout.config.exists():
        layout.config.write_text(_SAMPLE_CONFIG, encoding="utf-8")
    config = load_config(layout.config)
    for fleet in config.fleets:
        check_fleet_id(fleet)
    with hold_lock(layout):
        create_master_key(layout.master_key)
        engine = open_engine(database_url(layout.database))
        migrate(engine)
        engine.dispose()
        init_features(layout, config)
    return config


def run_server(
    layout: StateLayout, *, port: int | None, on_start: Callable[[Running], None]
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        layout: The state folder.
        port: The HTTP port; None means what configuration or memory says.
        on_start: Called when requests are answered.

    Raises:
        EdgeError: The server cannot start; the message says why.
    """
    config = load_config(layout.config)
    if not layout.master_key.exists():
        message = f"{layout.root}: expected a state folder, found none"
        step = f"run `edge-fleet init --state {layout.root}` first"
        raise StateError(message, next_step=step)
    with hold_lock(layout):
        wanted = config.listen.port if port is None else port
        ports = pick_ports(layout, wanted, config.broker.port)
        local = Path(config.listen.socket or layout.socket)
        with ExitStack() as stack:
            stack.callback(layout.run.unlink, missing_ok=True)
            stack.callback(local.unlink, missing_ok=True)
            listeners = [
                stack.enter_context(listen_on(config.listen.host, ports["http"])),
                stack.enter_context(listen_locally(local, config.listen.group)),
            ]
            _serve(layout, config, ports, listeners, on_start)


def _serve(
    layout: StateLayout,
    config: FleetConfig,
    ports: dict[str, int],
    listeners: list[socket.socket],
    on_start: Callable[[Running], None],
) -> None:
    url = f"http://{config.listen.host}:{ports['http']}"
    book = make_token_book()
    endpoints = Endpoints(
        broker_host=config.broker.host,
        broker_port=ports["broker"],
        api_url=url,
        tuf_root=Site(layout.root).find_root(),
    )
    engine = open_engine(database_url(layout.database))
    migrate(engine)
    parts = Parts(
        config=config,
        layout=layout,
        engine=engine,
        ring=load_key_ring(layout.master_key),
        clock=SystemClock(),
        endpoints=endpoints,
        server_id=secrets.token_hex(4),
    )
    features = compose(parts)
    failures: list[EdgeError] = []
    application = build_application(features, book, failures.append)
    server = _Server(
        uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            http=PeerProtocol,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        ),
        lambda: on_start(_announce(layout, config, endpoints, book)),
    )
    # The server re-raises the signal that stopped it; here its work is done by then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    try:
        server.run(sockets=listeners)
    finally:
        engine.dispose()
    if failures:
        raise failures[0]


class _Server(uvicorn.Server):
    """A server that tells when it answers."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            self._on_start()


def _announce(
    layout: StateLayout, config: FleetConfig, endpoints: Endpoints, book: TokenBook
) -> Running:
    running = Running(
        url=endpoints.api_url,
        dashboard_url=f"{endpoints.api_url}/?token={book.admin}",
        broker=f"{endpoints.broker_host}:{endpoints.broker_port}",
    )
    write_private(
        layout.run,
        {
            "pid": os.getpid(),
            "url": running.url,
            "dashboard_url": running.dashboard_url,
            "broker": running.broker,
            "token": book.admin,
            "socket": config.listen.socket or str(layout.socket),
        },
    )
    _LOG.info("serving %s, broker %s", running.url, running.broker)
    return running
