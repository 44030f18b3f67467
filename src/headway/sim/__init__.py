"""A cluster in one thread, under a seeded clock and network: the same seed, the same run."""
