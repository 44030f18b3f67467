"""The hello of an engine or a nanny: introduced, welcomed or refused, within a time limit.

What this file must not know: what is said after the Welcome.
"""

from __future__ import annotations

import time
from typing import Any

import zmq

from headway.errors import ConnectionLost, ProtocolError, StartError
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.endpoint import Monitor


def say_hello(
    socket: zmq.Socket[bytes],
    hello: m.EngineHello | m.NannyHello,
    decoder: codec.Decoder[Any],
    timeout_s: float,
    lifeline_fd: int | None = None,
) -> m.Welcome:
    """Send `hello`, and wait for the Welcome. The end of `lifeline_fd` ends the waiting.

    Raises:
        ConnectionLost: nobody answered within `timeout_s`, or the keys do not fit.
        StartError: the controller refused, or the parent is gone.
        ProtocolError: the answer is no answer to a hello.
    """
    monitor = Monitor(socket)
    try:
        socket.send_multipart(codec.encode(hello))
        deadline_s = time.monotonic() + timeout_s
        waited_for: list[tuple[Any, int]] = [(socket, zmq.POLLIN), (monitor.socket, zmq.POLLIN)]
        if lifeline_fd is not None:
            waited_for.append((lifeline_fd, zmq.POLLIN))
        while (left_s := deadline_s - time.monotonic()) > 0:
            ready = [which for which, _ in zmq.zmq_poll(waited_for, max(1, int(left_s * 1000)))]
            if socket in ready:
                return _check_answer(decoder.decode(socket.recv_multipart()))
            if lifeline_fd in ready:
                raise StartError("the process that started this one is gone")
            failure = monitor.handshake_failure()
            if failure is not None:
                raise ConnectionLost(f"the controller can't be reached: {failure}")
    finally:
        monitor.close()
    raise ConnectionLost(f"the controller did not answer within {timeout_s:g} s")


def _check_answer(answer: Any) -> m.Welcome:
    if isinstance(answer, m.Refused):
        raise StartError(f"the controller refused: {answer.reason}")
    if not isinstance(answer, m.Welcome):
        raise ProtocolError(f"the controller answered a hello with {type(answer).__name__}")
    return answer
