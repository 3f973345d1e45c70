"""Exactly once, under faults: what comes out of a group equals what its programs put out, event by event.

`group` says what runs and what must come out, `sender` sends each event once and in order, `faults` harms
what carries them, and `trial` puts them together.
"""
