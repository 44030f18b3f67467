"""The dashboard's web server: one page, a stream of what changes, and a few questions.

Rule 1: whoever has the token may see every task, cancel and retry it, and steer engines, and nobody
else sees anything, but for `/healthz` (probes.py), which says no more than whether all is well.
The token is in the address that is printed; the first request with it sets a cookie, and leads on
to an address without it. What changes something needs a header that no form of another site sends.
Rule 2: the page asks no other host for anything, and its policy (CSP) forbids it to.

What this file must not know: how the model is made, and what the page does with it.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway import errors
from headway.client.client import Client
from headway.client.observing import cancel_task, traceback_of
from headway.client.steering import retry_task, steer_engine
from headway.core.events import EngineId, TaskId, parse_task_id
from headway.dashboard.feed import Feed
from headway.dashboard.hosts import is_local_name
from headway.dashboard.model import Model
from headway.dashboard.probes import HEALTH_PATH, METRICS_PATH, Probes, has_token
from headway.dashboard.source import Source

#: How often a page's stream looks whether there is something new; and says that it lives.
_LOOK_S = 0.1
_ALIVE_S = 10.0
#: Pages that may be open at once.
_VIEWERS_MAX = 100
#: What an engine may be told to do.
_STEERING = ("drain", "stop", "restart")
#: What a request that changes something must carry, whatever its value.
OWN_HEADER = "x-headway"

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}

STATIC = Path(str(files("headway.dashboard"))) / "static"


class Guard:
    """Lets in who has the token, and puts the headers of rule 2 onto every answer.

    Parameters:
        token: what must be shown; None lets everybody in.
        cookie: the name under which a browser keeps it.
    """

    def __init__(self, app: ASGIApp, token: str | None, cookie: str) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._choose(scope)(scope, receive, send_with_headers)

    def _choose(self, scope: Scope) -> ASGIApp:
        """The application that answers: ours, or a refusal."""
        headers = Headers(scope=scope)
        if scope["path"] == HEALTH_PATH:
            return self._app
        if self._token is not None:
            if scope["path"] == METRICS_PATH and has_token(
                headers.get("authorization", ""), self._token
            ):
                return self._app
            shown = QueryParams(scope["query_string"]).get("token")
            if shown is not None and self._fits(shown):
                return self._enter(scope["path"])
            if not self._fits(_cookie_of(headers, self._cookie)):
                text = "403: open the address that `headway dashboard` printed, with its token.\n"
                return PlainTextResponse(text, 403)
        elif not is_local_name(headers.get("host", "")):
            # Another site whose name was made to lead here.
            return PlainTextResponse("403: without a token, only by a name of this host.\n", 403)
        if scope["method"] not in ("GET", "HEAD") and OWN_HEADER not in headers:
            return PlainTextResponse(f"403: the header {OWN_HEADER} is missing.\n", 403)
        return self._app

    def _fits(self, shown: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(shown.encode(), self._token.encode())

    def _enter(self, path: str) -> Response:
        """The token is right: keep it in a cookie, and out of the address."""
        # Not `//host`, which would lead elsewhere.
        response = RedirectResponse("/" + path.lstrip("/"), 303)
        assert self._token is not None
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
        return response


def _cookie_of(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


class Pages:
    """What the server answers.

    Parameters:
        is_ending: whether the server stops, so that streams have to end.
    """

    def __init__(self, client: Client, feed: Feed, is_ending: Callable[[], bool]) -> None:
        self._client = client
        self._feed = feed
        self._is_ending = is_ending
        self._viewers = 0

    def app(self, more: Sequence[Route]) -> Starlette:
        """All of it, and `more`, without a guard."""
        return Starlette(
            routes=[
                Route("/", self._page),
                *more,
                Route("/api/stream", self._stream),
                Route("/api/graph", self._graph),
                Route("/api/explain", self._explain),
                Route("/api/task/{task}", self._task),
                Route("/api/task/{task}/cancel", self._cancel, methods=["POST"]),
                Route("/api/task/{task}/retry", self._retry, methods=["POST"]),
                Route("/api/engine/{engine}", self._engine),
                Route("/api/engine/{engine}/{what}", self._steer, methods=["POST"]),
                Mount("/static", StaticFiles(directory=STATIC)),
            ]
        )

    async def _page(self, request: Request) -> Response:
        html = (STATIC / "index.html").read_text(encoding="utf-8")
        return Response(html, media_type="text/html")

    async def _stream(self, request: Request) -> Response:
        if self._viewers >= _VIEWERS_MAX:
            return PlainTextResponse(f"503: {_VIEWERS_MAX} pages are open already.\n", 503)
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        """Server-sent events: everything at first, then what changed. A page that is slow to
        read gets more at a time, and nothing is kept for it."""
        version, shown, silent_s = 0, None, 0.0
        self._viewers += 1
        try:
            with self._feed.looked_at():
                while not self._is_ending():
                    state = self._feed.state
                    if state != shown:
                        news = await run_in_threadpool(self._feed.since, version)
                        version, shown, silent_s = news["version"], state, 0.0
                        yield b"data: " + msgspec.json.encode(news) + b"\n\n"
                    elif silent_s > _ALIVE_S:
                        silent_s = 0.0
                        yield b": alive\n\n"
                    await asyncio.sleep(_LOOK_S)
                    silent_s += _LOOK_S
        finally:
            self._viewers -= 1

    async def _graph(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._feed.graph))

    async def _explain(self, request: Request) -> Response:
        try:
            text = await run_in_threadpool(self._client.explain)
        except errors.HeadwayError as error:
            text = f"The controller can't be asked: {error}"
        return _json({"explain": text})

    async def _task(self, request: Request) -> Response:
        name = request.path_params["task"]
        try:
            task = parse_task_id(name)
            row = await run_in_threadpool(self._feed.task, task) or {"id": name}
            row["explain"] = await run_in_threadpool(self._client.explain, name)
            row["traceback"] = await run_in_threadpool(traceback_of, self._client, task)
        except ValueError as error:
            return _json({"error": str(error)}, 404)
        except errors.HeadwayError as error:
            row["explain"] = f"The controller can't be asked: {error}"
        return _json(row)

    async def _engine(self, request: Request) -> Response:
        try:
            engine = _engine_id(request.path_params["engine"])
        except ValueError as error:
            return _json({"error": str(error)}, 404)
        row = await run_in_threadpool(self._feed.engine, engine)
        if row is None:
            return _json({"error": "This engine was not seen, or it left long ago."}, 404)
        return _json(row)

    # --- what changes something ------------------------------------------------------------------

    async def _cancel(self, request: Request) -> Response:
        return await _carry_out(
            lambda: self._cancelled(parse_task_id(request.path_params["task"])), 202
        )

    def _cancelled(self, task: TaskId) -> str:
        cancel_task(self._client, task)
        return "The controller was asked to cancel it."

    async def _retry(self, request: Request) -> Response:
        return await _carry_out(
            lambda: retry_task(self._client, parse_task_id(request.path_params["task"]))
        )

    async def _steer(self, request: Request) -> Response:
        what = request.path_params["what"]
        if what not in _STEERING:
            return _json({"error": f"an engine can't be told to {what}"}, 404)
        return await _carry_out(
            lambda: steer_engine(self._client, what, _engine_id(request.path_params["engine"]))
        )


async def _carry_out(order: Callable[[], str], status: int = 200) -> Response:
    """What came of an order, in words."""
    try:
        return _json({"text": await run_in_threadpool(order)}, status)
    except ValueError as error:
        return _json({"error": str(error)}, 404)
    except errors.ConnectionLost as error:
        return _json({"error": str(error)}, 503)
    except errors.HeadwayError as error:  # the controller says why not
        return _json({"error": str(error)}, 409)


def _engine_id(name: str) -> EngineId:
    """The number of the engine that is called `name`.

    Raises:
        ValueError: it is no name of one.
    """
    number = name.removeprefix("e")
    if name == number or not (number.isdecimal() and number.isascii()) or len(number) > 15:
        raise ValueError(f"{name!r} names no engine: expected e and a number, such as e3")
    return EngineId(int(number))


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def serve(
    client: Client,
    host: str,
    port: int,
    *,
    use_token: bool,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the dashboard of `client`'s cluster until SIGINT or SIGTERM.

    Parameters:
        host, port: where to listen; port 0 is any that is free.
        use_token: whether who looks must show the token.
        on_ready: told the address to open, with the token.

    Raises:
        OSError: it can't listen there.
    """
    listener = socket.create_server((host, port), family=_family(host))
    token = secrets.token_urlsafe(24) if use_token else None
    with listener:
        port = listener.getsockname()[1]
        feed = Feed(client, Model())
        servers: list[uvicorn.Server] = []
        probes = Probes(Source(lambda: client, owns_clients=False))
        pages = Pages(client, feed, lambda: servers[0].should_exit)
        # Browsers keep one jar for all ports of a host: each dashboard has a name of its own.
        guard = Guard(pages.app(probes.routes()), token, f"headway_{port}")
        config = uvicorn.Config(
            guard, log_level="warning", lifespan="off", ws="none", timeout_graceful_shutdown=2,
            server_header=False,
        )  # fmt: skip
        servers.append(uvicorn.Server(config))
        feed.start()
        try:
            shown = f"[{host}]" if ":" in host else host
            on_ready(f"http://{shown}:{port}/" + (f"?token={token}" if token else ""))
            servers[0].run(sockets=[listener])
        finally:
            feed.stop()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
