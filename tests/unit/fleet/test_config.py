# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from edge_contract.errors import ConfigError
from fleet.config import FleetConfig, PipelineConfig, load_config, parse_config


def test_an_absent_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_config(tmp_path / "fleet.yaml") == FleetConfig()


def test_durations_and_sizes_carry_their_units() -> None:
    text = """
    ingest: {ack_interval: 2s, delay: 20ms}
    samples: {max_chunk: 64KiB}
    pipelines: {retrain: {command: [python, train.py], timeout: 10m}}
    """

    config = parse_config(text, name="fleet.yaml")

    assert config.ingest.ack_interval_seconds == 2.0
    assert config.ingest.delay_seconds == 0.02
    assert config.samples.max_chunk_bytes == 65536
    assert config.pipelines == {"retrain": PipelineConfig(("python", "train.py"), 600)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ingest: {delay: soon}", 'ingest.delay: expected a duration like 60s, got "s'),
        ("listen: {prot: 1}", "listen.prot: expected one of host, port, got"),
        ("listen: {port: true}", "listen.port: expected a whole number"),
        ("pipelines: {x: {timeout: 1s}}", "pipelines.x: expected also command"),
        ("fleets: one", 'fleets: expected a list, got "one"'),
        ("samples: {max_chunk: 5}", "samples.max_chunk: expected a size like 64MiB"),
        ("broker: {mode: none}", "broker.mode: expected embedded or external"),
        ("[", "expected YAML"),
        ("- 1", "the document: expected a mapping"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, name="fleet.yaml")

    assert f"fleet.yaml: {message}" in str(caught.value)
    assert caught.value.next_step
