"""Flows: tasks with what they depend on, as they stand in a file, before anybody runs them."""
