# SPDX-License-Identifier: Apache-2.0
"""Queries over tags: ``site=berlin and not hw=pi3``.

Owns docs/spec/updates.md (UPD-13): the grammar, its bounds, and what a query says of a
device. Server and device compute it alike, so that nobody needs a list of names. Pure;
it knows no device.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from edge_contract.errors import SelectionError

MAX_CHARACTERS: Final = 500
MAX_DEPTH: Final = 16
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<sign>!=|[=()])|"(?P<quoted>[^"\\]{0,200})"|(?P<word>[\w.:@+-]{1,200}))""",
    re.ASCII,
)
_KEYWORDS: Final = ("and", "or", "not")
_EXAMPLE: Final = "write it as in site=berlin and not hw=pi3"


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag is there; with a value, it has that value."""

    key: str
    value: str | None

    def matches(self, tags: Mapping[str, str]) -> bool:
        """Return whether a device with ``tags`` is meant."""
        found = tags.get(self.key)
        return found is not None if self.value is None else found == self.value


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    part: "Query"

    def matches(self, tags: Mapping[str, str]) -> bool:
        """Return whether a device with ``tags`` is meant."""
        return not self.part.matches(tags)


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold."""

    parts: tuple["Query", ...]

    def matches(self, tags: Mapping[str, str]) -> bool:
        """Return whether a device with ``tags`` is meant."""
        return all(part.matches(tags) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Either:
    """At least one part holds."""

    parts: tuple["Query", ...]

    def matches(self, tags: Mapping[str, str]) -> bool:
        """Return whether a device with ``tags`` is meant."""
        return any(part.matches(tags) for part in self.parts)


Query: TypeAlias = Tag | Not | Every | Either
_Token: TypeAlias = tuple[str, str]  # kind, text
_END: Final[_Token] = ("end", "")


def parse_query(text: str) -> Query:
    """Parse a query.

    ``key`` asks for a tag with any value, ``key=value`` and ``key!=value`` compare it
    (a missing tag differs from every value); ``not``, ``and``, ``or`` bind in this
    order, parentheses group. Keys and values are words of letters, digits and
    ``_.:@+-``, or stand in double quotes.

    Raises:
        SelectionError: The text is none, or too long or too deep.

    >>> query = parse_query("site=berlin and not (hw=pi3 or beta)")
    >>> query.matches({"site": "berlin"})
    True
    >>> query.matches({"site": "berlin", "beta": "1"})
    False
    """
    if len(text) > MAX_CHARACTERS:
        raise SelectionError(
            f"query: expected at most {MAX_CHARACTERS} characters, found {len(text)}",
            next_step="give the devices a tag of their own",
        )
    parser = _Parser(_tokens(text))
    query = parser.either(0)
    if parser.token is not _END:
        raise parser.refuse("and, or, or the end")
    return query


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    place, end = 0, len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            raise SelectionError(
                f"query: expected a tag, and, or, not or a parenthesis at character"
                f" {place + 1}, found {text[place : place + 20]!r}",
                next_step=_EXAMPLE,
            )
        if match["sign"]:
            found.append((match["sign"], match["sign"]))
        elif match["quoted"] is not None:
            found.append(("text", match["quoted"]))
        elif match["word"] in _KEYWORDS:
            found.append((match["word"], match["word"]))
        else:
            found.append(("text", match["word"]))
        place = match.end()
    return [*found, _END]


class _Parser:
    """Recursive descent, one method a rule of the grammar."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0

    @property
    def token(self) -> _Token:
        return self._tokens[self._place]

    def either(self, depth: int) -> Query:
        parts = [self.every(depth)]
        while self._take("or"):
            parts.append(self.every(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def every(self, depth: int) -> Query:
        parts = [self.part(depth)]
        while self._take("and"):
            parts.append(self.part(depth))
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def part(self, depth: int) -> Query:
        if depth >= MAX_DEPTH:
            raise self.refuse(f"at most {MAX_DEPTH} levels of not and parentheses")
        if self._take("not"):
            return Not(self.part(depth + 1))
        if self._take("("):
            inner = self.either(depth + 1)
            if not self._take(")"):
                raise self.refuse("a closing parenthesis")
            return inner
        key = self._text("a tag")
        if self._take("="):
            return Tag(key, self._text("a value"))
        if self._take("!="):
            return Not(Tag(key, self._text("a value")))
        return Tag(key, None)

    def refuse(self, expected: str) -> SelectionError:
        """Return the error for what stands here."""
        found = repr(self.token[1]) if self.token is not _END else "the end"
        return SelectionError(
            f"query: expected {expected}, found {found}", next_step=_EXAMPLE
        )

    def _take(self, kind: str) -> bool:
        if self.token[0] != kind:
            return False
        self._place += 1
        return True

    def _text(self, expected: str) -> str:
        kind, text = self.token
        if kind != "text":
            raise self.refuse(expected)
        self._place += 1
        return text
