"""The client: what a user's program holds. See client.py for the facade.

A task's way through these files: options.py, dependency.py and view.py check what the user
wrote, functions.py and wire/payload.py make it bytes, session.py numbers and batches it under
the lock of link.py, io.py sends the batches and hears the ends, and futures.py gives them to
whoever waits. cluster.py and spawn.py start a cluster where none runs yet.
"""
