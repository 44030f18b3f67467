"""Rules of the house that a machine can hold: each failure says what to do."""
