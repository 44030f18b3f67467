"""joblib on headway's engines: `headway.register_joblib()`, then `parallel_config("headway")`.

What this file must not know: joblib's backend, which can be imported only where joblib is.
"""

from __future__ import annotations

from typing import Any

from headway.doors.shared import needed


def register_joblib() -> None:
    """Let joblib know of the backend "headway"; it may be called again.

    Then `with joblib.parallel_config(backend="headway"):` has joblib, and what is built on it, such
    as scikit-learn, run on headway. `parallel_config(backend="headway", client=client)` names the
    client; by default it is that of the innermost `with headway.Client()` that is open, else one
    that is started once, and closed at the end of the program.

    Raises:
        ImportError: joblib is not installed.
    """
    needed("joblib", "joblib").register_parallel_backend("headway", _backend)


def _backend(**settings: Any) -> Any:
    """The backend, which imports joblib."""
    from headway.doors.joblib_backend import HeadwayBackend

    return HeadwayBackend(**settings)
