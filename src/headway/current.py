"""The task that this engine runs now, for functions that want to know.

Written by the engine's runner. What this file must not know: anything else.
"""

from __future__ import annotations

#: The id of the task as a number, and which attempt at it this is; 0 outside of any.
task: int = 0
attempt: int = 0
