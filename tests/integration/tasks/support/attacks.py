"""What hostile clients without credentials do to a task server, in a process of its own: attacks.py KIND PORT SIZE.

It writes a line once all its connections have been tried the first time. On SIGTERM it writes how many connections it
opened per second since then, and how much of a processor it used, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable

from tests.integration.tasks.support.api_server import token_of

PEERS = 4
"""Addresses that the attack comes from."""
POST = b"POST /v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
GET = b"GET /%s HTTP/1.1\r\nhost: x\r\n"
RESET = struct.pack("ii", 1, 0)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


async def slowloris(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    """Headers that never end."""
    writer.write(GET % b"healthz")
    while True:
        writer.write(b"x: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.5)


async def half_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    """A body that stops after a byte, of a request that is answered before and of one that is refused."""
    head = GET % b"healthz" if number % 2 else POST
    writer.write(head + b"content-length: 100000\r\n\r\n")
    if number % 2:
        await reader.read(1)
    writer.write(b"x")
    await reader.read()


async def pipelining(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    """Many requests at once, again and again. Every fourth connection reads no answer."""
    while True:
        writer.write(b"".join(GET % (b"healthz", b"metrics", b"none")[one % 3] + b"\r\n" for one in range(30)))
        await writer.drain()
        if number % 4:
            await reader.read(65_536)
        await asyncio.sleep(0.02)


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    """Connections that are reset in the middle of a request."""
    writer.write(POST)
    await writer.drain()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    """Connections that say nothing."""
    await reader.read()


async def junk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    """Credentials that are not valid: keys, tokens of others, forged tokens, and no text at all."""
    shown = (
        b"0123456789abcdef" * 2,
        token_of("texting/other", number=number).encode(),
        token_of("texting/web", forged=True, number=number).encode(),
        b"\xff[" * 1_000,
    )[number % 4]
    writer.write(POST + b"authorization: Bearer " + shown + b"\r\ncontent-length: 2\r\n\r\n{}")
    await reader.read()


async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    """No attack: a processor is used, and the server is left alone. What a sender takes beside this is its usual."""
    while True:  # noqa: ASYNC110  it is to use the processor
        await asyncio.sleep(0)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack for attack in (slowloris, half_body, pipelining, resets, idle, junk)
}

KINDS = {**ATTACKS, "busy": busy}


async def attack(kind: str, port: int, size: int) -> None:
    """Keep ``size`` connections at it; each begins again a little after it has ended."""
    left = size
    opened, began, used = 0, 0.0, 0.0
    opening = asyncio.Semaphore(50)

    def finish() -> None:
        seconds = time.monotonic() - began
        print(f"{opened / seconds:.0f} connections/s, {(time.process_time() - used) / seconds:.2f} of a processor")
        sys.stdout.flush()
        os._exit(0)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, finish)

    async def keep(number: int) -> None:
        nonlocal left, opened, began, used
        first = True
        while True:
            try:
                async with opening:
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", port, local_addr=(f"127.0.1.{1 + number % PEERS}", 0)
                    )
                    opened += 1
            except OSError:
                reader = writer = None
            if first:
                first, left = False, left - 1
                if not left:
                    opened, began, used = 0, time.monotonic(), time.process_time()
                    print("all", flush=True)
            if reader is not None and writer is not None:
                with contextlib.suppress(OSError):
                    await KINDS[kind](reader, writer, number)
                writer.close()
            number += size
            await asyncio.sleep(0.2)

    await asyncio.gather(*(keep(number) for number in range(size)))


if __name__ == "__main__":
    asyncio.run(attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
