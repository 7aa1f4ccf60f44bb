"""Calls of an MCP server over its streamable HTTP transport."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def with_session(address: str, work: Any, headers: dict[str, str] | None = None, local_address: str | None = None) -> Any:
    """Return the result of the coroutine ``work(session)``; requires the package ``mcp``.

    Playwright may run an event loop in the thread of the tests, so the client has one of its own.
    """
    import httpx
    import mcp
    from mcp.client.streamable_http import streamable_http_client

    async def run() -> Any:
        sender = httpx.AsyncHTTPTransport(local_address=local_address)
        http = httpx.AsyncClient(headers=headers, timeout=180, trust_env=False, transport=sender)
        transport = streamable_http_client(address, http_client=http)
        async with transport as (read, write, _), mcp.ClientSession(read, write) as session:
            await session.initialize()
            return await work(session)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, run()).result()
