"""A whole cluster on one machine: started, completed, watched and stopped.

`record` is what a data directory remembers, `plan` decides what is missing (no I/O), `processes` starts
and ends, `readiness` waits, `cluster` puts them together, `screen` shows a running cluster until Ctrl-C.
"""
