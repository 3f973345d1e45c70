"""Carriers: NATS (connect, request, publish, subscribe, errors, auth, TLS), an HTTP server, the event loop.

Everything a process says to another leaves through this room. It knows bytes, subjects and deadlines; what
they mean is known to the rooms above it.
"""
