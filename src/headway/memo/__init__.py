"""Results kept under a hash of the function's code and its arguments: see hashing.py, store.py."""
