# SPDX-License-Identifier: Apache-2.0
"""The verbs of the noun ``keys`` as processes, with keys in files and in a module."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_agent.access import HttpAccess
from edge_agent.ota.tuf_client import TufClient
from edge_contract.enrolment import Enrolment
from fleet.registry.key_reference import find_key
from fleet.registry.site import Site
from tests.support.faulty_server import serve_files
from tests.support.fleet_process import FLEET, ask_fleet, run_fleet

PIN = "1234"
MAKE_KEY = """
import sys
import pkcs11
from pkcs11.util.ec import encode_named_curve_parameters
module, label, pin = sys.argv[1:]
token = pkcs11.lib(module).get_token(token_label=label)
curve = encode_named_curve_parameters("secp256r1")
with token.open(user_pin=pin, rw=True) as session:
    for number in (1, 2, 3):
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: curve}, local=True
        )
        parameters.generate_keypair(id=bytes([number]), label=str(number), store=True)
"""


@pytest.fixture
def token(softhsm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of keys 1 to 3 on a token; put the number for ``{}``."""
    (tmp_path / "tokens").mkdir()
    config = tmp_path / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    (tmp_path / "pin").write_text(PIN)
    words = ["--init-token", "--free", "--label", "edgeloop"]
    pins = ["--pin", PIN, "--so-pin", PIN]
    subprocess.run(["softhsm2-util", *words, *pins], check=True, capture_output=True)
    make = [sys.executable, "-c", MAKE_KEY, str(softhsm), "edgeloop", PIN]
    subprocess.run(make, check=True)
    pin = tmp_path / "pin"
    monkeypatch.delenv("PYKCS11LIB", raising=False)  # and what the test sets goes
    return f"hsm:{{}}?label=edgeloop&module={softhsm}&pin-file={pin}"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


class Device:
    """A device with the agent's own client."""

    def __init__(self, folder: Path, url: str, root: Path) -> None:
        enrolment = Enrolment(
            fleet="default",
            device="watch-1",
            key=bytes(32),
            epoch=1,
            tuf_root=root.read_bytes(),
            broker_host="127.0.0.1",
            broker_port=1,
            api_url=url,
        )
        self._folder, self._enrolment = folder, enrolment

    def read(self) -> bytes | None:
        access = HttpAccess.of(self._enrolment)
        client = TufClient(self._folder, self._enrolment, access)
        client.refresh()
        return client.fetch_desired()


def keys(*words: str, state: Path) -> dict[str, Any]:
    found: dict[str, Any] = ask_fleet("keys", *words, state=state)
    return found


def sign(path: Path, uri: str) -> dict[str, Any]:
    """Sign on another machine: with no state folder."""
    command = [*FLEET, "keys", "sign-root", str(path), "--key", uri, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    signed: dict[str, Any] = json.loads(done.stdout)
    return signed


@pytest.mark.slow
@pytest.mark.softhsm
def test_a_fleet_whose_keys_are_in_a_module(
    token: str, state: Path, tmp_path: Path
) -> None:
    made = keys(
        "init",
        *("--root-key", token.format(1)),
        *("--key", f"models={token.format(2)}", "--key", f"targets={token.format(2)}"),
        *("--key", f"timestamp={token.format(3)}"),
        state=state,
    )
    assert made == {"root": 1, "in_force": True, "proposal": None, "missing": []}
    ask_fleet("init", state=state)
    root = tmp_path / "root.json"
    exported = keys("export-root", str(root), state=state)
    assert exported["version"] == 1
    Site(state).open().publish_desired("default", b'{"n":0}')
    with serve_files(state) as server:
        device = Device(tmp_path / "device", server.url, root)
        assert device.read() == b'{"n":0}'

        rotated = keys("rotate", "timestamp", "--to", token.format(1), state=state)

        assert rotated["in_force"]
        assert device.read() == b'{"n":0}'
    assert Site(state).keyring.places("timestamp") == ["hsm"]
    assert {one.public.scheme for one in Site(state).keyring.references("root")} == {
        "ecdsa-sha2-nistp256"
    }

    (tmp_path / "pin").write_text("wrong")
    refused = run_fleet("keys", "renew", "root", "--json", state=state)
    assert refused.returncode == 1
    error = json.loads(refused.stderr)["error"]
    assert error["code"] == "fleet.registry.key"
    assert "PinIncorrect" in error["message"]


def make_by_two_of_three(state: Path, tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Make a fleet whose root three people hold; return address and id of each key."""
    people = {}
    for name in ("anna", "ben", "cy"):
        uri = f"file:{tmp_path / name}.pem"
        done = keys("public", str(tmp_path / f"{name}.pub"), "--key", uri, state=state)
        people[name] = (uri, done["key_id"])
    named = [f"--root-key=public:{tmp_path / name}.pub" for name in people]

    made = keys("init", *named, "--root-threshold", "2", state=state)
    assert [one["count"] for one in made["missing"]] == [2]
    early = run_fleet("init", "--json", state=state)
    assert json.loads(early.stderr)["error"]["code"] == "fleet.registry.ceremony"
    copies = []
    for name in ("anna", "cy"):
        copy = tmp_path / f"{name}.root.json"
        copy.write_bytes(Path(made["proposal"]).read_bytes())
        signed = sign(copy, people[name][0])
        assert signed["signed_with"] == people[name][1]
        copies.append(str(copy))
    assert keys("collect", copies[0], state=state)["in_force"] is False
    assert keys("collect", copies[1], state=state)["in_force"] is True
    ask_fleet("init", state=state)
    return people


@pytest.mark.slow
def test_two_of_three_people_and_a_device_that_follows(
    state: Path, tmp_path: Path
) -> None:
    people = make_by_two_of_three(state, tmp_path)
    root = tmp_path / "root.json"
    keys("export-root", str(root), state=state)
    Site(state).open().publish_desired("default", b'{"n":0}')

    with serve_files(state) as server:
        device = Device(tmp_path / "device", server.url, root)
        assert device.read() == b'{"n":0}'
        # Ben has left: his key is replaced by Dora's, who signs with the other two.
        dora = f"file:{tmp_path / 'dora.pem'}"
        keys("public", str(tmp_path / "dora.pub"), "--key", dora, state=state)
        public = f"public:{tmp_path / 'dora.pub'}"
        no_drop = run_fleet("keys", "rotate", "root", "--to", public, state=state)
        assert no_drop.returncode == 2
        assert "--drop" in no_drop.stderr
        words = ("rotate", "root", "--to", public, "--drop", people["ben"][1][:8])
        proposed = keys(*words, state=state)
        copy = Path(proposed["proposal"])
        carried = tmp_path / "carried.json"
        carried.write_bytes(copy.read_bytes())
        for name in ("anna", "cy"):
            sign(carried, people[name][0])
        assert keys("collect", str(carried), state=state)["in_force"] is True
        assert device.read() == b'{"n":0}'
        for role in ("snapshot", "fleet-default", "timestamp", "models"):
            # Each needs root or targets: targets is here, root's people are not.
            done = keys("rotate", role, state=state)
            if "proposal" in done:
                carried.write_bytes(Path(done["proposal"]).read_bytes())
                for uri in (people["anna"][0], dora):
                    sign(carried, uri)
                keys("collect", str(carried), state=state)
            assert device.read() == b'{"n":0}'
    assert Site(state).open().root.version == 4


@pytest.mark.parametrize(
    ("uri", "exit_code", "told"),
    [
        ("gcpkms:projects/p/keys/k", 1, "securesystemslib[gcpkms]"),
        ("awskms:alias/k", 1, "securesystemslib[awskms]"),
        ("azurekms://v.vault.azure.net/keys/k/1", 1, "securesystemslib[azurekms]"),
        ("file2:key.pem", 1, "expected file:, public:, hsm, gcpkms"),
        ("key.pem", 1, "expected file:, public:"),
        ("public:key.pem", 1, "expected a public key in PEM"),
        ("hsm:1?label=none&module=/nowhere.so", 1, "cannot be used"),
    ],
)
def test_a_key_that_cannot_be_used_is_said_with_what_to_do(
    tmp_path: Path, uri: str, exit_code: int, told: str
) -> None:
    target = str(tmp_path / "key.pub")
    done = run_fleet("keys", "public", target, "--key", uri, state=tmp_path)

    assert done.returncode == exit_code
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path(target).exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nothing",), "role nothing: expected one of root"),
        (("snapshot", "--keep"), "only root has several keys"),
        (("snapshot", "--compromised"), "says something about bundles"),
        (("snapshot", "--to", "public:x"), "expected a key that signs"),
    ],
)
def test_a_rotation_that_makes_no_sense_changes_nothing(
    state: Path, words: tuple[str, ...], told: str
) -> None:
    ask_fleet("init", state=state)
    before = sorted(state.rglob("*.p*"))

    done = run_fleet("keys", "rotate", *words, state=state)

    assert done.returncode == 2
    assert told in done.stderr
    assert sorted(state.rglob("*.p*")) == before


def test_a_key_found_by_its_file_keeps_its_id(tmp_path: Path) -> None:
    first = keys(
        "public",
        str(tmp_path / "a.pub"),
        "--key",
        f"file:{tmp_path}/a.pem",
        state=tmp_path,
    )
    assert find_key(f"file:{tmp_path}/a.pem").public.keyid == first["key_id"]
    assert find_key(f"public:{tmp_path}/a.pub").public.keyid == first["key_id"]
