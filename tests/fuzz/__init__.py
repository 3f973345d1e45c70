"""Requests made from the served OpenAPI document, against real processes: what the API promises is what it
does, whatever comes in.

`stage` is the cluster with a little of everything in it, `driver` lets schemathesis make requests and holds
every answer against the document, `python -m tests.fuzz --minutes 10` does so for as long as one likes.
"""
