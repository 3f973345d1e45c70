"""The outside world of a pipeline: sources that bring events, sinks that take them.

A further type is one class (`base.Connector`) and one line (`registry.TYPES`).
"""
