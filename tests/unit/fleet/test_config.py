# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from pathlib import Path

import pytest

from edge_contract.errors import ConfigError
from fleet.config import (
    AlertsConfig,
    EmailConfig,
    FleetConfig,
    PipelineConfig,
    WebhookConfig,
    load_config,
    parse_config,
)

SAMPLE = Path(__file__).parents[3] / "configs" / "fleet.yaml"


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


def test_the_sample_says_the_defaults() -> None:
    assert load_config(SAMPLE) == FleetConfig()


def test_what_the_sample_has_in_comments_is_read_too() -> None:
    lines = SAMPLE.read_text().splitlines()
    optional = [
        index for index, one in enumerate(lines) if one.lstrip().startswith("# ")
    ]
    text = "\n".join(
        one.replace("# ", "", 1) if index in optional[4:] else one
        for index, one in enumerate(lines)
    )

    config = parse_config(text, name="fleet.yaml")

    assert config == replace(
        FleetConfig(),
        pipelines={"retrain": PipelineConfig(("python", "retrain.py"))},
        alerts=AlertsConfig(
            budgets_seconds={"watch": 0.02},
            webhooks={
                "ops": WebhookConfig(
                    "https://ops.example.org/edgeloop", "/etc/edgeloop/ops.key"
                )
            },
            email=EmailConfig(
                host="mail.example.org",
                username="fleet",
                password_file="/etc/edgeloop/mail.password",  # noqa: S106 - a path
                sender="fleet@example.org",
                recipients=("ops@example.org",),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ingest: {delay: soon}", 'ingest.delay: expected a duration like 60s, got "s'),
        ("listen: {prot: 1}", "listen.prot: expected one of group, host, port, socket"),
        ("listen: {port: true}", "listen.port: expected a whole number"),
        ("pipelines: {x: {timeout: 1s}}", "pipelines.x: expected also command"),
        ("fleets: one", 'fleets: expected a list, got "one"'),
        ("samples: {max_chunk: 5}", "samples.max_chunk: expected a size like 64MiB"),
        ("broker: {mode: none}", "broker.mode: expected embedded or external"),
        (
            "alerts: {webhooks: {x: {url: ftp://a, secret_file: f}}}",
            'alerts.webhooks.x.url: expected an https or http address, got "ftp://a"',
        ),
        (
            "alerts: {email: {security: ssl}}",
            "alerts.email.security: expected starttls, tls or none",
        ),
        (
            "alerts: {email: {host: a}}",
            "alerts.email: expected also sender and recipients",
        ),
        (
            "alerts: {email: {username: u}}",
            "alerts.email.password_file: expected the file with the password",
        ),
        (
            "alerts: {email: {username: u, password_file: f, security: none}}",
            "alerts.email.security: expected starttls or tls where a password is sent",
        ),
        ("alerts: {budgets: {watch: 3}}", "alerts.budgets.watch: expected a duration"),
        ("[", "expected YAML"),
        ("- 1", "the document: expected a mapping"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, name="fleet.yaml")

    assert f"fleet.yaml: {message}" in str(caught.value)
    assert caught.value.next_step
