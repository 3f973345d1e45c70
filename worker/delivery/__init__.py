"""Delivery through a stream: at least once, or exactly once.

A group with such a delivery has one JetStream stream, which holds all events that enter it, pass between its
pipelines, or leave it, in one order. `reader` brings a copy its inputs from a position on; `feed` runs them
through the engine, by the stream's clock; `writer` stores what comes out, and `marks` says how far that is.
"""
