"""What a cluster ran, afterwards: the record of it, and what can be read from that.

Pure: data in, data out. What this room must not know: clients, schedulers, files, clocks.
"""
