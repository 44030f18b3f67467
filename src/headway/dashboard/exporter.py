"""A server of `/metrics` and `/healthz` alone: for services, where nobody opens a browser.

It is a client of the cluster, like the dashboard, and asks it only when it is asked itself.

What this file must not know: what is answered: see probes.py.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from headway.client.client import Client
from headway.dashboard.hosts import is_local_name
from headway.dashboard.probes import HEALTH_PATH, METRICS_PATH, Probes, has_token
from headway.dashboard.source import Source


class _Guard:
    """Lets in who has the token; without one, whoever can reach us, if `is_open`, and else only
    who calls us by a name of this host. `/healthz` is for all."""

    def __init__(self, app: ASGIApp, token: str | None, is_open: bool) -> None:
        self._app = app
        self._token = token
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self._choose(scope)(scope, receive, send)

    def _choose(self, scope: Scope) -> ASGIApp:
        headers = Headers(scope=scope)
        if scope["path"] == HEALTH_PATH:
            return self._app
        if self._token is not None:
            if has_token(headers.get("authorization", ""), self._token):
                return self._app
            text = "401: the header `Authorization: Bearer TOKEN` is missing or wrong.\n"
            return PlainTextResponse(text, 401, {"WWW-Authenticate": "Bearer"})
        if self._is_open or is_local_name(headers.get("host", "")):
            return self._app
        return PlainTextResponse("403: without a token, only by a name of this host.\n", 403)


def serve(
    connect: Callable[[], Client],
    host: str,
    port: int,
    *,
    token: str | None,
    is_open: bool,
    on_ready: Callable[[str], None],
    say: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM, whether the cluster is there or not.

    Parameters:
        connect: makes a client of the cluster.
        host, port: where to listen; port 0 is any that is free.
        token: what who scrapes must show; None for nothing.
        is_open: without a token, answer under every name.
        on_ready: told the address of the metrics.
        say: told when the controller can be asked no more, and again.

    Raises:
        OSError: it can't listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    source = Source(connect, owns_clients=True, say=say)
    with listener:
        config = uvicorn.Config(
            _Guard(Starlette(routes=Probes(source).routes()), token, is_open),
            log_level="warning", access_log=False, lifespan="off", ws="none",
            timeout_graceful_shutdown=2, server_header=False,
        )  # fmt: skip
        try:
            shown = f"[{host}]" if ":" in host else host
            on_ready(f"http://{shown}:{listener.getsockname()[1]}{METRICS_PATH}")
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            source.close()
