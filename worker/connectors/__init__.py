"""The outside world of a pipeline: sources that bring events, sinks that take them.

A further type is one file here, with a class derived from `base.Connector` (docs/connectors.md shows one).
"""
