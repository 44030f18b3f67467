"""`/metrics` for Prometheus and `/healthz` for whoever restarts what does not answer.

Both are here once, and served by the dashboard and by `headway metrics`. `/healthz` says whether
the *controller* answers, which is not whether this server does: 200 or 503, and some words of JSON.
It says nothing that a stranger may not know, and needs no token, as probes have none.

What this file must not know: how the controller is asked.
"""

from __future__ import annotations

import hmac

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from headway.dashboard.metrics import exposition
from headway.dashboard.source import Source
from headway.errors import HeadwayError

METRICS_PATH = "/metrics"
HEALTH_PATH = "/healthz"

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Probes:
    """What is answered at these two paths; who may ask for the first, others decide."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def routes(self) -> list[Route]:
        """Both paths."""
        return [Route(METRICS_PATH, self._metrics), Route(HEALTH_PATH, self._health)]

    async def _metrics(self, request: Request) -> Response:
        metrics = await run_in_threadpool(self._source.metrics)
        try:
            content_type, body = exposition(metrics, request.headers.get("accept", ""))
        except HeadwayError as error:
            return PlainTextResponse(f"501: {error}\n", 501)
        # Its own header, since Starlette would add a second charset.
        return Response(body, headers={**_HEADERS, "Content-Type": content_type})

    async def _health(self, request: Request) -> Response:
        engines = await run_in_threadpool(self._source.engines)
        if engines is None:
            return _json({"status": "unreachable"}, 503)
        return _json({"status": "ok", "engines": engines}, 200)


def has_token(authorization: str, token: str) -> bool:
    """Whether the header `Authorization` shows the token: `Bearer TOKEN`."""
    scheme, _, shown = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        shown.strip().encode(), token.encode()
    )


def _json(body: object, status: int) -> Response:
    data = msgspec.json.encode(body)
    return Response(data, status, headers=_HEADERS, media_type="application/json")
