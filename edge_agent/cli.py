# SPDX-License-Identifier: Apache-2.0
"""``edge-agent``: the command line of the device.

Owns arguments, output and exit codes: 0 done, 1 failed, 2 usage, 3 trust refused. With
``--json`` exactly one document goes to stdout; all else goes to stderr. What a verb
needs is imported by that verb: ``run`` loads no update code, ``update`` no broker.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import edge_agent
from edge_agent.clock import SystemClock
from edge_agent.config import AgentConfig, Duration, FileSourceConfig, Layers
from edge_agent.config.environment import read_variable
from edge_agent.config.layers import CONFIG_VARIABLE
from edge_agent.errors import SourceError
from edge_agent.flow import Result
from edge_agent.logs import set_up_logging
from edge_agent.verbs.answer import Answer
from edge_contract.errors import EXIT_FAILED, ConfigError, EdgeError

if TYPE_CHECKING:
    from edge_agent.runtime.model import Model

EPILOG: Final = """example:
  edge-agent enrol watch-3.json --config agent.yaml
  edge-agent check --config agent.yaml
  edge-agent run --config agent.yaml
"""
_SLOT: Final = "which model's; the first one's if left out"
Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    arguments = make_parser().parse_args(argv)
    verb: Callable[[Arguments], int] = arguments.verb
    try:
        return verb(arguments)
    except EdgeError as error:
        _complain(arguments, error.code, error.message, error.next_step)
        return error.exit_code
    except OSError as error:
        _complain(arguments, "os", *_describe(error))
        return EXIT_FAILED


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Run models on this device, and keep its fleet informed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"edge-agent {edge_agent.__version__}"
    parser.add_argument("--version", action="version", version=version)
    verbs = _Verbs(parser)
    _add_agent(verbs)
    _add_models(verbs)
    _add_fleet(verbs)
    return parser


class _Verbs:
    """Adds verbs, alone or under a noun, with the flags that all have."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._nouns = {"": parser.add_subparsers(metavar="VERB", required=True)}
        self._common = argparse.ArgumentParser(add_help=False)
        self._common.add_argument(
            "--json", action="store_true", help="one JSON document"
        )
        self._told = argparse.ArgumentParser(add_help=False, parents=[self._common])
        self._told.add_argument(
            "--config",
            type=Path,
            help=f"configuration file; {CONFIG_VARIABLE} if left out",
        )
        self._told.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="set one key, above file and environment",
        )

    def group(self, name: str, text: str) -> None:
        """Add a noun."""
        noun = self._nouns[""].add_parser(name, help=text, description=text)
        self._nouns[name] = noun.add_subparsers(metavar="VERB", required=True)

    def add(
        self,
        name: str,
        body: Callable[[Arguments], int],
        text: str,
        *,
        example: str = "",
        config: bool = True,
    ) -> argparse.ArgumentParser:
        """Add a verb; ``noun verb`` stands under its noun."""
        noun, _, verb = name.rpartition(" ")
        parser = self._nouns[noun].add_parser(
            verb,
            help=text,
            description=text,
            epilog=f"example:\n  edge-agent {name} {example}" if example else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[self._told if config else self._common],
        )
        parser.set_defaults(verb=body)
        return parser


def _add_agent(verbs: _Verbs) -> None:
    told = "--config agent.yaml"
    verbs.add("run", _run, "infer, count and report until stopped", example=told)
    text = "say whether this device could run, part by part"
    verbs.add("check", _check, text, example=told)
    verbs.add("status", _status, "show what the agent said last", example=told)
    verbs.group("config", "what the agent was told, and by whom")
    text = "show each value and where it came from"
    example = f"{told} --set log.level=debug"
    verbs.add("config explain", _explain, text, example=example)
    text = "read the configuration, and say what is wrong"
    verbs.add("config check", _check_config, text, example=told)
    text = "pack what helps others to find a fault, without secrets"
    example = f"{told} -o dump.tar.gz"
    dump = verbs.add("support-dump", _dump, text, example=example)
    dump.add_argument("-o", "--output", type=Path, required=True, help=".tar.gz")


def _add_models(verbs: _Verbs) -> None:
    text, example = "run a bundle on a file of data", "watch.bundle --input x.npz"
    infer = verbs.add("infer", _infer, text, example=example)
    _add_bundle(infer)
    infer.add_argument("--input", type=Path, required=True, help=".npz or .npy file")
    text = "compute predictions ahead, into a file"
    example = "watch.bundle --input x.npz -o predictions.sqlite"
    batch = verbs.add("batch", _batch, text, example=example)
    _add_bundle(batch)
    batch.add_argument("--input", type=Path, required=True, help=".npz, .npy or .csv")
    batch.add_argument("--key", default="", help="column or array of the keys")
    batch.add_argument("--threads", type=int, default=1)
    batch.add_argument(
        *("-o", "--output"), type=Path, required=True, help=".sqlite or .parquet"
    )
    text = "run a bundle over a recording as the daemon would, without a fleet"
    example = "watch.bundle --input recordings.npz"
    _add_replay(verbs.add("replay", _replay, text, example=example))
    text, example = "measure the serving model here", "--config agent.yaml --slot main"
    bench = verbs.add("bench", _bench, text, example=example)
    bench.add_argument("--slot", help=_SLOT)
    bench.add_argument("--seconds", type=float, default=3.0, help="how long")
    verbs.group("bundle", "bundles that come without a network")
    text, example = "bring a release from a stick", "/media/stick --config agent.yaml"
    stick = verbs.add("bundle import", _import, text, example=example)
    text = "a bundle, a folder with one, or an export"
    stick.add_argument("source", type=Path, help=text)
    stick.add_argument("--slot", help=_SLOT)
    _add_trust(stick)
    text = "run a bundle's golden vectors"
    _add_selftest(verbs.add("selftest", _selftest, text, config=False))


def _add_fleet(verbs: _Verbs) -> None:
    text = "install an enrolment file, and delete it"
    example = "watch-3.json --config agent.yaml"
    enrol = verbs.add("enrol", _enrol, text, example=example)
    enrol.add_argument("file", type=Path, help="from `edge-fleet device add`")
    text = "look for an update, fetch and test it"
    update = verbs.add("update", _update, text, example="--config agent.yaml")
    update.add_argument("--slot", help=_SLOT)
    text = "do not wait for a maintenance window, a cheaper link, or another day"
    update.add_argument("--now", action="store_true", help=text)
    upload = verbs.add("upload", _upload, "send samples that the server asked for")
    upload.add_argument("--request", required=True, help="the server's request")
    upload.add_argument("--slot", help=_SLOT)
    upload.add_argument("--fraction", default="1", help="of each recording, 0 to 1")
    text = "frames that the agent has picked (.npz), instead of the slot's source"
    upload.add_argument("--file", type=Path, help=text)


def _add_replay(verb: argparse.ArgumentParser) -> None:
    _add_bundle(verb)
    add = verb.add_argument
    add("--input", type=Path, required=True, help=".npz, .csv or .parquet file")
    add("--sample-rate-hz", type=float, default=50.0, help="rows a second; 50")
    add("--window", type=_duration, default="5m", help="of event time; 5m")
    add("--order", choices=("interleaved", "sequential"), default="interleaved")
    add("--summary", action="store_true", help="leave the single results out")


def _add_selftest(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("bundle", type=Path)
    verb.add_argument("--device-profile", default="auto")
    verb.add_argument("--threads", type=int, default=1)
    _add_trust(verb)
    text = "a state folder: trust the builder of its enrolment"
    verb.add_argument("--enrolled", type=Path, help=text)
    text = "end the process above so much memory"
    verb.add_argument("--memory-bytes", type=int, help=text)
    text = "end the process after so much processor time"
    verb.add_argument("--cpu-seconds", type=int, default=60, help=text)


def _add_trust(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--trust", type=Path, action="append", default=[], help="a public key file"
    )


def _add_bundle(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("bundle", type=Path, help="a bundle file")
    _add_trust(verb)
    verb.add_argument(
        "--allow-unsigned", action="store_true", help="do not ask who made it"
    )
    verb.add_argument("--device-profile", default="auto", help="which variant to take")


def _run(arguments: Arguments) -> int:
    # Nothing serves yet, and the imports take longest: a stop is at once, and clean.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    from edge_agent.verbs.run import run

    return run(_config_path(arguments), arguments.set)


def _check(arguments: Arguments) -> int:
    from edge_agent.verbs.health import check

    return _print(arguments, check(_configure(arguments)))


def _status(arguments: Arguments) -> int:
    from edge_agent.verbs.health import show_status

    return _print(arguments, show_status(_configure(arguments)))


def _dump(arguments: Arguments) -> int:
    from edge_agent.verbs.support import dump

    layers = _layers(arguments)
    return _print(arguments, dump(layers, arguments.output))


def _bench(arguments: Arguments) -> int:
    from edge_agent.verbs.bench import bench

    config = _configure(arguments)
    return _print(arguments, bench(config, arguments.slot, arguments.seconds))


def _import(arguments: Arguments) -> int:
    from edge_agent.verbs.models import import_release

    record = import_release(
        _configure(arguments), arguments.slot, arguments.source, arguments.trust
    )
    text = f"{record.digest[:12]} waits for the agent, which tries it out"
    _answer(arguments, record.to_json(), text if record.is_ready else record.describe())
    return 0


def _infer(arguments: Arguments) -> int:
    from edge_agent.verbs.infer import infer

    return _print(arguments, infer(_load(arguments), arguments.input))


def _batch(arguments: Arguments) -> int:
    from edge_agent.verbs.batch import compute

    answer = compute(
        _load(arguments, threads=arguments.threads),
        arguments.input,
        arguments.key,
        arguments.output,
        lambda rows: print(f"batch: {rows} rows done", file=sys.stderr),
    )
    return _print(arguments, answer)


def _load(arguments: Arguments, *, threads: int = 1) -> "Model":
    from edge_agent.runtime.model import load

    return load(
        arguments.bundle,
        trust=arguments.trust,
        allow_unsigned=arguments.allow_unsigned,
        threads=threads,
        device_profile=arguments.device_profile,
        state_dir=_find_state_dir(arguments),
    )


def _find_state_dir(arguments: Arguments) -> Path | None:
    """Return where the enrolment is that may vouch for a bundle."""
    if arguments.config is None and read_variable(CONFIG_VARIABLE) is None:
        return None
    return _configure(arguments).state_dir


def _replay(arguments: Arguments) -> int:
    from edge_agent.sinks.lines import describe_result
    from edge_agent.verbs import replay

    model = _load(arguments)
    results: list[dict[str, Any]] = []

    def hear(result: Result) -> None:
        if arguments.summary:
            return
        if arguments.json:
            results.append(describe_result(result))
        else:
            print(replay.format_result(result))

    request = replay.ReplayRequest(
        path=arguments.input,
        sample_rate_hz=arguments.sample_rate_hz,
        window_us=arguments.window.us,
        order=arguments.order,
    )
    report = replay.run_replay(model, request, SystemClock(), hear)
    document = {**report.to_json(), "results": results}
    _answer(arguments, document, replay.format_replay(report))
    return 0


def _duration(text: str) -> Duration:
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _enrol(arguments: Arguments) -> int:
    from edge_agent.enrol import enrol

    config = _configure(arguments)
    device = enrol(arguments.file, config.state_dir)
    document = {"fleet": device.fleet, "device": device.device}
    text = f"enrolled as {device.device} in fleet {device.fleet}"
    _answer(arguments, document, f"{text}\nNext: edge-agent run --config …")
    return 0


def _update(arguments: Arguments) -> int:
    from edge_agent.verbs.models import update

    record = update(_configure(arguments), arguments.slot, is_now=arguments.now)
    _answer(arguments, record.to_json(), record.describe())
    return 0


def _upload(arguments: Arguments) -> int:
    from edge_agent.device import load_device
    from edge_agent.sources.recording import read_head
    from edge_agent.telemetry.upload import Samples, Upload

    config = _configure(arguments)
    slot, told = config.pick(arguments.slot)
    path: Path | None = arguments.file
    if path is None:
        if not isinstance(told.source, FileSourceConfig):
            msg = f"models.{slot}.source: expected one of type file, to take samples of"
            step = "ask a device that has recordings, or for frames with `select`"
            raise SourceError(msg, next_step=step)
        path = told.source.path
    arrays = read_head(path, _fraction(arguments.fraction))
    upload = Upload(
        config.state_dir,
        config.samples.budget.bytes,
        load_device(config.state_dir),
        SystemClock(),
    )
    result = upload.run(arguments.request, Samples.from_arrays(arrays, labels=True))
    text = f"{result.rows} rows in {result.chunks} chunks, {result.sent_bytes} bytes"
    _answer(arguments, asdict(result), text)
    return 0


def _selftest(arguments: Arguments) -> int:
    from edge_agent.probe import Limits, format_proof
    from edge_agent.verbs.models import selftest

    limits = None
    if arguments.memory_bytes is not None:
        limits = Limits(
            cpu_seconds=arguments.cpu_seconds, memory_bytes=arguments.memory_bytes
        )
    proof = selftest(
        arguments.bundle,
        device_profile=arguments.device_profile,
        threads=arguments.threads,
        limits=limits,
        trust=arguments.trust,
        enrolled=arguments.enrolled,
    )
    print(format_proof(proof))
    return 0


def _explain(arguments: Arguments) -> int:
    from edge_agent.verbs.configuration import explain

    return _print(arguments, explain(_layers(arguments)))


def _check_config(arguments: Arguments) -> int:
    from edge_agent.verbs.configuration import check

    return _print(arguments, check(_layers(arguments)))


def _layers(arguments: Arguments) -> Layers:
    from edge_agent.verbs.configuration import read_layers

    return read_layers(_config_path(arguments), arguments.set)


def _config_path(arguments: Arguments) -> Path:
    path = arguments.config or read_variable(CONFIG_VARIABLE)
    if path is None:
        msg = f"configuration: expected --config FILE, or {CONFIG_VARIABLE}"
        raise ConfigError(msg, next_step="begin with a copy of configs/agent.yaml")
    return Path(path)


def _configure(arguments: Arguments) -> AgentConfig:
    config = _layers(arguments).resolve().config
    set_up_logging(config.log.level)
    return config


def _print(arguments: Arguments, answer: Answer) -> int:
    _answer(arguments, answer.document, answer.text)
    return answer.exit_code


def _fraction(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        msg = f"--fraction: expected a number above 0 and up to 1, found {text!r}"
        raise SourceError(msg) from error


def _answer(arguments: Arguments, document: Any, text: str) -> None:
    print(json.dumps(document, indent=1) if arguments.json else text)


def _describe(error: OSError) -> tuple[str, str]:
    """Return what the system refused, in words, and what to do about it."""
    reason = (error.strerror or str(error)).lower()
    if error.filename is None:
        return reason, "run edge-agent check, which looks at disk and folders"
    step = "check the path" if isinstance(error, FileNotFoundError) else "check its use"
    return f"{error.filename}: {reason}", f"{step}, and who may read or write it"


def _complain(arguments: Arguments, code: str, message: str, next_step: str) -> None:
    if arguments.json:
        error = {"code": code, "message": message, "next_step": next_step}
        print(json.dumps({"error": error}))
    hint = f"\nNext: {next_step}" if next_step else ""
    print(f"edge-agent: {message}{hint}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
