# SPDX-License-Identifier: Apache-2.0
import pytest

from edge_agent.runtime.hardware import name_device_profile

PI_4 = "CPU part\t: 0xd08"


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "is_64_bit", "expected"),
    [
        ("aarch64", PI_4, True, "aarch64-a72"),
        ("aarch64", f"CPU part\t: 0xd0b\n{PI_4}", True, "aarch64-a76"),
        ("aarch64", "", True, "default"),
        ("aarch64", PI_4, False, "armv7l-tflite214"),
        ("armv8l", PI_4, False, "armv7l-tflite214"),
        ("armv7l", "", False, "armv7l-tflite214"),
        ("armv6l", "", False, "default"),
        ("x86_64", "flags\t: avx2", True, "x86-avx2"),
        ("x86_64", "flags\t: avx2 avx_vnni", True, "x86-vnni"),
    ],
)
def test_a_machine_names_its_device_profile(
    machine: str, cpuinfo: str, *, is_64_bit: bool, expected: str
) -> None:
    assert name_device_profile(machine, cpuinfo, is_64_bit=is_64_bit) == expected
