"""Promise: the cluster is observed while a page is open, and only then."""

from __future__ import annotations

import asyncio
import json

import headway
from headway.dashboard.feed import Feed
from headway.dashboard.model import Model
from headway.dashboard.server import Pages
from tests.dashboard.conftest import wait_until


def test_a_stream_that_is_closed_leaves_nobody_who_looks(client: headway.Client):
    feed = Feed(client, Model())
    pages = Pages(client, feed, is_ending=lambda: False)
    feed.start()
    assert feed.state == (0, "")

    async def look() -> dict:
        events = pages._events()
        said: dict = {}
        while not said.get("engines"):
            event = await anext(events)
            said = json.loads(event.removeprefix(b"data: "))
        assert feed._viewers == pages._viewers == 1
        await events.aclose()
        return said

    assert {engine["id"] for engine in asyncio.run(look())["engines"]} == {"e0", "e1"}
    assert feed._viewers == pages._viewers == 0
    # The last question is answered, and no other is put.
    wait_until(lambda: not client._link.session.statistics().questions, "the last answer")
    feed.stop()
    feed._thread.join(10)
    assert not feed._thread.is_alive()


def test_a_feed_whose_cluster_has_gone_says_why_and_ends():
    client = headway.Client(engines=1)
    feed = Feed(client, Model())
    feed.start()
    with feed.looked_at():
        wait_until(lambda: feed.since(0).get("engines") is not None, "the first look")
        client.close()
        wait_until(lambda: feed.state[1], "the trouble to be told")
        assert "closed" in feed.state[1]
    feed._thread.join(10)
    assert not feed._thread.is_alive()
