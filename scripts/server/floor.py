"""The least that answers HTTP: what the client measures here is what the client itself costs.

`python -m server.floor PORT BYTES` answers every request with so many bytes.
"""

from __future__ import annotations

import asyncio
import re
import sys

from .child import end_with_parent
from .client import HOST

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)")


async def serve(port: int, size: int) -> None:
    """Answers until the process ends."""
    answer = f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode() + bytes(size)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(connected, HOST, port)
    await server.serve_forever()


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Empty when the client is gone."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(serve(*map(int, sys.argv[1:])))
