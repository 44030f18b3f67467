"""Whether an engine can still come, where none is here.

A cluster without engines is no error: tasks wait until one joins. It is hopeless once those who
start engines have given up, or ended, and nobody is left who might: then whoever waits is told.
It is looked at anew each time, so that an engine or a nanny that joins is hope again.

What this file must not know: sockets, messages, tasks.
"""

from __future__ import annotations

from headway.controller.peers import NannyPeer, Peers


class Outlook:
    """What nannies gave up."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        #: How the controller's own nanny ended; "" while it has not, or where there is none.
        self.own_nanny_ended = ""

    def gave_up(self, nanny: NannyPeer, text: str) -> str:
        """`nanny` starts no more engines, for the reason `text`. Returns it in a sentence."""
        is_alone = len(self._peers.nannies) == 1 and not self._peers.engines
        where = "" if is_alone else f" on {nanny.hello.host}"
        when = " any more" if nanny.has_started else ""
        nanny.failure = f"engines{where} do not start{when}: {text}"
        return nanny.failure

    def why_hopeless(self) -> str:
        """Why no engine is here and none will come; "" while one is, or may."""
        if self._peers.engines:
            return ""
        failures = [nanny.failure for nanny in self._peers.nannies.values()]
        if not all(failures):
            return ""
        return "; ".join(filter(None, [*failures, self.own_nanny_ended]))
