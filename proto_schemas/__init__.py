"""The wire: every subject, message, error and body that crosses a process boundary, and nothing else.

Ground floor of the house: no I/O, no event loop, no clock. Both ends of every exchange import the same
definitions from here, so a message cannot mean one thing to its sender and another to its receiver.
What the seed fixed is required; what is ours is optional, so that older peers stay full members.
"""
