"""Checkpoints that outlive the worker that took them.

base       what a store must do, what it keeps, how it fails archive    the rules, over any store: whole or
not at all, the newest epoch alone writes, the last 3 stay directory  files, on a disk that workers may
share jetstream  a JetStream object store, replicated as its NATS cluster is memory     a store for tests,
with faults to switch on
"""
