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
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

import edge_agent
from edge_agent.clock import SystemClock
from edge_agent.config import AgentConfig, FileSourceConfig, Layers
from edge_agent.config.environment import read_variable
from edge_agent.config.layers import CONFIG_VARIABLE
from edge_agent.errors import SourceError
from edge_agent.flow import Float32
from edge_agent.logs import set_up_logging
from edge_agent.verbs.answer import Answer
from edge_contract.errors import EXIT_FAILED, ConfigError, EdgeError

EPILOG: Final = """example:
  edge-agent enrol watch-3.json --config agent.yaml
  edge-agent check --config agent.yaml
  edge-agent run --config agent.yaml
"""
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
        _complain(arguments, "os", str(error), "")
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
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON document")
    told = argparse.ArgumentParser(add_help=False, parents=[common])
    told.add_argument(
        "--config",
        type=Path,
        help=f"configuration file; {CONFIG_VARIABLE} if left out",
    )
    told.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set one key, above file and environment",
    )

    nouns = {"": verbs}

    def group(name: str, text: str) -> None:
        noun = verbs.add_parser(name, help=text, description=text)
        nouns[name] = noun.add_subparsers(metavar="VERB", required=True)

    def add(
        name: str,
        body: Callable[[Arguments], int],
        text: str,
        *,
        config: bool = True,
        under: str = "",
    ) -> argparse.ArgumentParser:
        verb = nouns[under].add_parser(
            name, help=text, description=text, parents=[told if config else common]
        )
        verb.set_defaults(verb=body)
        return verb

    add("run", _run, "infer, count and report until stopped")
    add("check", _check, "say whether this device could run, part by part")
    add("status", _status, "show what the agent said last")
    _add_infer(add("infer", _infer, "run a bundle on a file of data", config=False))
    _add_batch(add("batch", _batch, "compute predictions ahead", config=False))
    enrol = add("enrol", _enrol, "install an enrolment file, and delete it")
    enrol.add_argument("file", type=Path, help="from `edge-fleet device add`")
    update = add("update", _update, "look for an update, fetch and test it")
    update.add_argument("--slot", help="which model's; the first one if left out")
    upload = add("upload", _upload, "send samples that the server asked for")
    upload.add_argument("--request", required=True, help="the server's request")
    upload.add_argument("--slot", help="whose source; the first one's if left out")
    upload.add_argument("--fraction", default="1", help="of each recording, 0 to 1")
    group("config", "what the agent was told, and by whom")
    text = "show each value and where it came from"
    add("explain", _explain, text, under="config")
    text = "read the configuration, and say what is wrong"
    add("check", _check_config, text, under="config")
    selftest = add("selftest", _selftest, "run a bundle's golden vectors", config=False)
    selftest.add_argument("bundle", type=Path)
    selftest.add_argument("--device-profile", default="auto")
    selftest.add_argument("--threads", type=int, default=1)
    return parser


def _add_bundle(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("bundle", type=Path, help="a bundle file")
    verb.add_argument(
        "--trust", type=Path, action="append", default=[], help="a public key file"
    )
    verb.add_argument(
        "--allow-unsigned", action="store_true", help="do not ask who made it"
    )
    verb.add_argument("--device-profile", default="auto", help="which variant to take")


def _add_infer(verb: argparse.ArgumentParser) -> None:
    _add_bundle(verb)
    verb.add_argument("--input", type=Path, required=True, help=".npz or .npy file")


def _add_batch(verb: argparse.ArgumentParser) -> None:
    _add_bundle(verb)
    verb.add_argument("--input", type=Path, required=True, help=".npz, .npy or .csv")
    verb.add_argument("--key", default="", help="column or array of the keys")
    verb.add_argument("--threads", type=int, default=1)
    verb.add_argument(
        *("-o", "--output"), type=Path, required=True, help=".sqlite or .parquet"
    )


def _run(arguments: Arguments) -> int:
    from edge_agent.daemon.agent import Agent

    layers = _layers(arguments)
    set_up_logging(layers.resolve().config.log.level)
    path = _config_path(arguments).resolve()
    with ExitStack() as stack:
        agent = Agent(layers, path, SystemClock(), stack)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        agent.run()
    return 0


def _check(arguments: Arguments) -> int:
    from edge_agent.daemon.check import run_checks

    results = run_checks(_configure(arguments))
    lines = [
        f"{'ok    ' if one.ok else 'FAILED'} {one.name}: {one.detail}"
        for one in results
    ]
    _answer(arguments, [asdict(one) for one in results], "\n".join(lines))
    return 0 if all(one.ok for one in results) else EXIT_FAILED


def _status(arguments: Arguments) -> int:
    from edge_agent.daemon.status import read_status

    status = read_status(_configure(arguments).state_dir)
    lines = [f"{name}: {value}" for name, value in status.items()]
    _answer(arguments, status, "\n".join(lines))
    return 0


def _infer(arguments: Arguments) -> int:
    from edge_agent.runtime.model import load

    model = load(
        arguments.bundle,
        trust=arguments.trust,
        allow_unsigned=arguments.allow_unsigned,
        device_profile=arguments.device_profile,
    )
    frames = _load_frames(arguments.input, model.manifest.input.shape[1:])
    outputs = [model.infer(one) for one in frames]
    results = [_describe_output(model.labels, one) for one in outputs]
    document = {
        "model": model.manifest.name,
        "digest": model.digest,
        "variant": model.variant.id,
        "results": results,
    }
    lines = [
        f"{number}: {one['label']} {max(one['output']):.3f}"
        if "label" in one
        else f"{number}: {' '.join(f'{value:.6g}' for value in one['output'])}"
        for number, one in enumerate(results)
    ]
    _answer(arguments, document, "\n".join(lines))
    return 0


def _batch(arguments: Arguments) -> int:
    from edge_agent.runtime.model import load
    from edge_agent.verbs.batch import compute

    model = load(
        arguments.bundle,
        trust=arguments.trust,
        allow_unsigned=arguments.allow_unsigned,
        threads=arguments.threads,
        device_profile=arguments.device_profile,
    )
    answer = compute(
        model,
        arguments.input,
        arguments.key,
        arguments.output,
        lambda rows: print(f"batch: {rows} rows done", file=sys.stderr),
    )
    return _print(arguments, answer)


def _describe_output(labels: Sequence[str], output: Float32) -> dict[str, Any]:
    described: dict[str, Any] = {"output": [round(float(one), 6) for one in output]}
    if labels:
        described["label_index"] = int(output.argmax())
        described["label"] = labels[int(output.argmax())]
    return described


def _enrol(arguments: Arguments) -> int:
    from edge_agent.enrol import enrol

    config = _configure(arguments)
    device = enrol(arguments.file, config.state_dir)
    document = {"fleet": device.fleet, "device": device.device}
    text = f"enrolled as {device.device} in fleet {device.fleet}"
    _answer(arguments, document, f"{text}\nNext: edge-agent run --config …")
    return 0


def _update(arguments: Arguments) -> int:
    from edge_agent.enrol import load_device
    from edge_agent.ota.update import UpdateSettings, run_update
    from edge_agent.runtime.hardware import find_device_profile

    config = _configure(arguments)
    slot, told = config.pick(arguments.slot)
    hardware = find_device_profile(told.device_profile)
    program = [sys.executable, "-m", "edge_agent.cli", "selftest"]
    limits = [f"--device-profile={hardware}", f"--threads={told.threads}"]
    settings = UpdateSettings(
        state_dir=config.state_dir,
        slot=slot,
        hardware=hardware,
        selftest_command=lambda path: [*program, str(path), *limits],
    )
    record = run_update(settings, load_device(config.state_dir))
    text = f"{record.state}: {record.target or 'nothing to do'}"
    _answer(arguments, record.to_json(), text)
    return 0


def _upload(arguments: Arguments) -> int:
    from edge_agent.enrol import load_device
    from edge_agent.sources.recording import read_head
    from edge_agent.telemetry.upload import Samples, Upload

    config = _configure(arguments)
    slot, told = config.pick(arguments.slot)
    if not isinstance(told.source, FileSourceConfig):
        msg = f"models.{slot}.source: expected one of type file, to take samples from"
        raise SourceError(msg, next_step="ask a device that has recordings")
    arrays = read_head(told.source.path, _fraction(arguments.fraction))
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
    from edge_agent.ota.selftest import format_result
    from edge_agent.runtime.model import load_bundle, run_golden
    from edge_contract.bundle import Bundle

    with Bundle.open(arguments.bundle) as bundle:
        model = load_bundle(
            bundle,
            threads=arguments.threads,
            device_profile=arguments.device_profile,
        )
        print(format_result(run_golden(model, bundle)))
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


def _load_frames(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read one frame, or several, from an array file."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            found = found["x"]
        frames = np.asarray(found, dtype=np.float32)
    except (OSError, ValueError, KeyError, EOFError) as error:
        msg = f"{path}: expected an array x in an .npz or .npy file: {error}"
        raise SourceError(msg) from error
    if frames.shape == shape:
        frames = frames[np.newaxis]
    if frames.shape[1:] != shape:
        msg = (
            f"{path}: expected frames of shape {list(shape)}, "
            f"found {list(frames.shape)}"
        )
        raise SourceError(msg, next_step="save frames [n, ...] under the name x")
    return frames


def _answer(arguments: Arguments, document: Any, text: str) -> None:
    print(json.dumps(document, indent=1) if arguments.json else text)


def _complain(arguments: Arguments, code: str, message: str, next_step: str) -> None:
    if arguments.json:
        error = {"code": code, "message": message, "next_step": next_step}
        print(json.dumps({"error": error}))
    hint = f"\nNext: {next_step}" if next_step else ""
    print(f"edge-agent: {message}{hint}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
