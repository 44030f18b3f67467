"""What the scheduler asks the Hub: which engines there are. It may have to ask again.

The Hub tells of engines that come and go, on a channel to which one subscribes; of those that came
earlier, it tells when asked. Between the Hub's answer and the moment when our subscription reaches
it, an engine can come that neither speaks of; so the Hub is asked once more, a little later. It is
also asked again while it does not answer, and after a connection to it was made anew.

A Hub that is not there, or goes away, is mentioned once; tasks go on without it. What this file
must not know: what becomes of an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

from headway.ipyparallel.alarms import Alarm
from headway.ipyparallel.sockets import Channel, Watch

if TYPE_CHECKING:
    from headway.ipyparallel.desk import Desk

#: After an answer: when to ask once more. Without one: when to ask again, doubled each time. What
#: waits to be sent to a Hub that is not there is kept, hence the long pauses.
_ASK_AGAIN_S, _ASK_AGAIN_MAX_S = 1.0, 600.0
#: A Hub that has not answered for so long is mentioned.
_SILENT_S = 5.0
_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)


class Hub:
    """What is known of the Hub.

    Parameters:
        query: the channel on which it is asked.
        notifier: the one on which it tells of engines.
    """

    def __init__(self, desk: Desk, query: Channel, notifier: Channel) -> None:
        self._desk = desk
        self._query = query
        self._pause_s = _ASK_AGAIN_S
        self._waits = False
        self._asks_once_more = True
        #: Why it may not answer, for people; and whether they were told of its silence.
        self._trouble = "there is no connection"
        self._mentioned = False
        desk.alarms.on(Alarm.HUB_ASK, self._ask_again)
        desk.alarms.on(Alarm.HUB_SILENT, self._is_silent)
        loop = desk.owner.loop
        self._watches = [
            Watch(channel, loop, int(_EVENTS), self._on_event) for channel in (query, notifier)
        ]

    def close(self) -> None:
        """Watch no more."""
        for watch in self._watches:
            watch.close()

    def ask(self) -> None:
        """Ask which engines there are."""
        now, alarms = self._desk.now(), self._desk.alarms
        if self._query.writable:  # if not, many questions wait there already
            self._query.send(self._desk.frames.build("connection_request", {}))
        if not self._waits:
            self._waits = True
            self._pause_s = _ASK_AGAIN_S
            alarms.arm(0, Alarm.HUB_SILENT, now + _SILENT_S)
        alarms.arm(0, Alarm.HUB_ASK, now + self._pause_s)
        self._pause_s = min(2 * self._pause_s, _ASK_AGAIN_MAX_S)
        self._desk.wake()

    def answered(self) -> None:
        """The Hub has said which engines there are."""
        alarms = self._desk.alarms
        self._waits = False
        alarms.disarm(0, Alarm.HUB_SILENT)
        alarms.disarm(0, Alarm.HUB_ASK)
        if self._mentioned:
            self._mentioned = False
            self._desk.owner.log.info("the Hub at %s answers", self._query.address)
        if self._asks_once_more:
            self._asks_once_more = False
            alarms.arm(0, Alarm.HUB_ASK, self._desk.now() + _ASK_AGAIN_S)

    def shuts_down(self) -> None:
        """It says so: that its connections close is no news then."""
        self._mentioned = True
        self._desk.owner.log.info("the Hub shuts down")

    def _ask_again(self, number: int, now: float) -> None:
        self.ask()

    def _is_silent(self, number: int, now: float) -> None:
        self._mention("does not answer", f"not for {_SILENT_S:g} s: {self._trouble}")

    def _mention(self, what: str, why: str) -> None:
        if not self._mentioned:
            self._mentioned = True
            self._desk.complain(
                f"the Hub at {self._query.address} {what}",
                f"{why}. Tasks go on; engines that come or go are not noticed until it answers",
            )

    def _on_event(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._trouble = "it is connected, but does not understand us, or is busy"
            # What it told of while there was no connection was not heard.
            self._asks_once_more, self._pause_s = True, _ASK_AGAIN_S
            self._desk.alarms.arm(0, Alarm.HUB_ASK, self._desk.now() + _ASK_AGAIN_S)
            self._desk.wake()
        elif event == zmq.EVENT_DISCONNECTED:
            self._trouble = "it closed the connection"
            self._mention("is gone", "it closed the connection, or its host vanished")
        else:
            self._trouble = "it refused the connection: its keys are others, or it is no Hub"
