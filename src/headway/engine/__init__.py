"""Engines, which run tasks, and the nanny, which starts and watches them."""
