"""How one process of headway starts another: `python -m MODULE`, out of reach of the user's files.

`-P` keeps the working directory out of the module path: there may be an `argparse.py` or a
`random.py` of the user's, which would pass for that of the standard library.

What this file must not know: what the modules are, and what becomes of the process.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def module_command(
    module: str, interpreter: Sequence[str] | None = None, cwd: Path | None = None
) -> list[str]:
    """The command that runs `module` of headway.

    Parameters:
        interpreter: its command; None is that of this process.
        cwd: where it will run; None is the current directory.
    """
    safe_path = [] if _is_run_from_source(cwd) else ["-P"]
    return [*(interpreter or [sys.executable]), *safe_path, "-m", module]


def _is_run_from_source(cwd: Path | None) -> bool:
    """Whether headway is imported from that directory, and not from where it is installed: then
    it would not be found without it."""
    try:
        return Path(__file__).resolve().parents[1] == (cwd or Path.cwd()).resolve()
    except OSError:  # the current directory was removed
        return False
