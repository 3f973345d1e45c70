"""What comes with PySyncObj and must not stay."""

import socket

import raft  # noqa: F401 - the import is what is looked at


def test_the_socket_module_is_as_it_was_after_pysyncobj_was_imported() -> None:
    assert socket.inet_ntop(socket.AF_INET, b"\x7f\x00\x00\x01") == "127.0.0.1"
