# SPDX-License-Identifier: Apache-2.0
"""The messages of ``inference.proto``, made when they are needed.

Owns reading that file, which keeps to a part of the language: one declaration a line.
Generated code would pin protobuf's version; descriptors built at run time do not, and a
pool of their own keeps them apart from a client's in the same process.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE: Final = "inference"
SERVICE: Final = f"{PACKAGE}.GRPCInferenceService"
_BLOCK = re.compile(r"(message|enum|oneof|service) (\w+) \{")
_FIELD = re.compile(r"(repeated )?([\w.]+) (\w+) = (\d+);")
_MAP = re.compile(r"map<string, (\w+)> (\w+) = (\d+);")
_VALUE = re.compile(r"(\w+) = (\d+);")
_RPC = re.compile(r"rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);")
_Field = descriptor_pb2.FieldDescriptorProto


@dataclass(frozen=True, slots=True)
class Method:
    """One call of the service, and the classes of its messages."""

    name: str
    request: Any
    response: Any
    is_stream: bool


def load_methods() -> Mapping[str, Method]:
    """Return the service's methods by name."""
    text = resources.files(__package__).joinpath("inference.proto").read_text()
    file = parse_file(text)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)

    def find(name: str) -> Any:
        found = pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
        return message_factory.GetMessageClass(found)

    return {
        found[1]: Method(found[1], find(found[3]), find(found[5]), bool(found[2]))
        for found in _RPC.finditer(text)
    }


def parse_file(text: str) -> Any:
    """Return the ``FileDescriptorProto`` of ``inference.proto``."""
    file = descriptor_pb2.FileDescriptorProto(
        name="edge_agent/inference.proto", package=PACKAGE, syntax="proto3"
    )
    stack: list[Any] = [file]
    for line in _statements(text):
        _read_line(line, stack)
    enums = {one.name for one in file.enum_type}
    for message in file.message_type:
        _resolve(message, (), enums)
    return file


def _statements(text: str) -> Iterator[str]:
    for line in text.splitlines():
        statement = line.partition("//")[0].strip()
        if statement and not statement.startswith(("syntax", "package", "rpc")):
            yield statement


def _read_line(line: str, stack: list[Any]) -> None:
    top = stack[-1]
    block = _BLOCK.fullmatch(line)
    if line == "}":
        stack.pop()
    elif block:
        stack.append(_open(block[1], block[2], stack))
    elif isinstance(top, descriptor_pb2.EnumDescriptorProto):
        found = _VALUE.fullmatch(line)
        assert found is not None, line  # noqa: S101 - our own file, and tested
        top.value.add(name=found[1], number=int(found[2]))
    else:
        _add_field(line, stack)


def _open(kind: str, name: str, stack: list[Any]) -> Any:
    top = stack[-1]
    if kind == "enum":
        return top.enum_type.add(name=name)
    if kind == "message":
        nested = top.message_type if len(stack) == 1 else top.nested_type
        return nested.add(name=name)
    return top.oneof_decl.add(name=name) if kind == "oneof" else None


def _add_field(line: str, stack: list[Any]) -> None:
    is_choice = isinstance(stack[-1], descriptor_pb2.OneofDescriptorProto)
    message = stack[-2] if is_choice else stack[-1]
    found = _MAP.fullmatch(line)
    if found:
        _add_map(message, found[1], found[2], int(found[3]))
        return
    plain = _FIELD.fullmatch(line)
    assert plain is not None, line  # noqa: S101 - our own file, and tested
    field = message.field.add(name=plain[3], number=int(plain[4]))
    field.label = _Field.LABEL_REPEATED if plain[1] else _Field.LABEL_OPTIONAL
    _set_type(field, plain[2])
    if is_choice:
        field.oneof_index = len(message.oneof_decl) - 1


def _add_map(message: Any, kind: str, name: str, number: int) -> None:
    entry = message.nested_type.add(
        name="".join(part.title() for part in name.split("_")) + "Entry"
    )
    entry.options.map_entry = True
    for number_inside, inner, inner_kind in ((1, "key", "string"), (2, "value", kind)):
        field = entry.field.add(name=inner, number=number_inside)
        field.label = _Field.LABEL_OPTIONAL
        _set_type(field, inner_kind)
    field = message.field.add(name=name, number=number)
    field.label = _Field.LABEL_REPEATED
    _set_type(field, entry.name)


def _set_type(field: Any, kind: str) -> None:
    scalar = getattr(_Field, f"TYPE_{kind.upper()}", None)
    if scalar is None:
        field.type_name = kind
    else:
        field.type = scalar


def _resolve(message: Any, scope: tuple[str, ...], enums: set[str]) -> None:
    """Give every field of a named type its full name."""
    inside = (*scope, message.name)
    nested = {one.name for one in message.nested_type}
    for field in message.field:
        if not field.type_name:
            continue
        name = field.type_name
        is_enum = name in enums
        field.type = _Field.TYPE_ENUM if is_enum else _Field.TYPE_MESSAGE
        path = (*inside, name) if name in nested else (name,)
        field.type_name = f".{PACKAGE}." + ".".join(path)
    for one in message.nested_type:
        _resolve(one, inside, enums)
