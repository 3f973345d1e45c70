"""Carriers: NATS (connect, request, publish, subscribe, errors, auth, TLS), an HTTP server, the event loop;
and what every process tells alike: how long things take, the form of its log, its part of a trace.

Everything a process says to another leaves through this room. It knows bytes, subjects and deadlines; what
they mean is known to the rooms above it.
"""
