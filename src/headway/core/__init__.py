"""The scheduler's core: a pure state machine. It must not know sockets, clocks or threads."""
