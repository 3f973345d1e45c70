"""The replicated state: pure, so that every coordinator computes the same from the same log.

`apply(state, command)` is the only way it changes. No clock, no random number, no I/O: the time and the ids
come inside the command, stamped by who proposed it.
"""
