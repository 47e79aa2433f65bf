"""Forms: multipart/form-data, read strictly, and URL-encoded ones.

Starlette's own form parser accepts a body that stops in the middle and turns text that is not
UTF-8 into Latin-1; here both are errors. Which parts are files is decided by their names: a
part's content type and file name are whatever the client's library made of them.
"""

from collections import defaultdict
from collections.abc import Container
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from deployments.errors import InvalidRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 64
"""No route takes more than about thirty fields."""


class Form:
    """The parts of a form, by name and in order."""

    def __init__(self) -> None:
        self._parts: defaultdict[str, list[bytes]] = defaultdict(list)

    def add(self, name: str, content: bytes) -> None:
        """Keep one part."""
        self._parts[name].append(content)

    def names(self) -> list[str]:
        """The names of all parts, each once."""
        return list(self._parts)

    def files(self, *names: str) -> list[bytes]:
        """The contents of all parts with one of these names."""
        return [content for name in names for content in self._parts.get(name, [])]

    def texts(self, *, but: Container[str]) -> dict[str, str]:
        """Every part whose name is not in `but`, as text; none may come twice."""
        return {
            name: _text(name, contents) for name, contents in self._parts.items() if name not in but
        }


def parse_form(body: bytes, content_type: str) -> Form:
    """The form that a multipart body holds."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _malformed("its content-type names no boundary")
    collector = _Collector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(body)
    except FormParserError as error:
        raise _malformed(str(error)) from None
    if not collector.ended:
        raise _malformed("it ends before its closing boundary")
    return collector.form


def parse_urlencoded(body: bytes) -> Form:
    """The form that an application/x-www-form-urlencoded body holds."""
    form = Form()
    try:
        # Latin-1 has all 256 bytes: what they mean is seen when a field is read.
        pairs = parse_qsl(
            body.decode("latin-1"),
            keep_blank_values=True,
            strict_parsing=True,
            encoding="latin-1",
            max_num_fields=MAX_PARTS,
        )
    except ValueError as error:
        raise InvalidRequest(
            f"the form is malformed: {error}; let an HTTP library build it",
            code="invalid_form",
        ) from None
    for name, value in pairs:
        form.add(name, value.encode("latin-1"))
    return form


class _Collector:
    """What the parser found so far; its methods are the parser's callbacks."""

    def __init__(self) -> None:
        self.form = Form()
        self.ended = False
        self._num_parts = 0
        self._name: str | None = None
        self._content = bytearray()
        self._header_name = bytearray()
        self._header_value = bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_data,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._num_parts += 1
        if self._num_parts > MAX_PARTS:
            raise _malformed(f"it has more than {MAX_PARTS} parts")
        self._name = None
        self._content = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            name = parse_options_header(self._header_value.decode("latin-1"))[1].get(b"name")
            self._name = None if name is None else name.decode("utf-8", errors="replace")
        self._header_name.clear()
        self._header_value.clear()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _part_end(self) -> None:
        if self._name is None:
            raise _malformed("one of its parts has no name")
        self.form.add(self._name, bytes(self._content))

    def _end(self) -> None:
        self.ended = True


def _text(name: str, contents: list[bytes]) -> str:
    if len(contents) > 1:
        raise InvalidRequest(f"{name} was sent {len(contents)} times; send it once", param=name)
    try:
        return contents[0].decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name} is not UTF-8 text; encode it as UTF-8", param=name) from None


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"the multipart body is malformed: {why}; let an HTTP library build it",
        code="invalid_multipart",
    )
