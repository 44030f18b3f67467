"""The dashboard: a web server in a process of its own, which observes a cluster as a client."""
