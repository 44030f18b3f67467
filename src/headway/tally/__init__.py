"""Progress: counting tasks by label and state (`model`, pure), and showing the counts in a
terminal, as lines, or in a notebook. What it must not know: clients, futures, the scheduler.
"""
