"""Short ways to write a history down."""

from tests.linearizability.history import Operation


def write(process: int, value: object, invoked: float, returned: float | None) -> Operation:
    return Operation(process, "x", "write", value, invoked=invoked, returned=returned)


def read(process: int, value: object, invoked: float, returned: float) -> Operation:
    return Operation(process, "x", "read", value, invoked=invoked, returned=returned)


def cas(process: int, expected: object, value: object, invoked: float, returned: float | None) -> Operation:
    return Operation(process, "x", "cas", value, expected=expected, invoked=invoked, returned=returned)


def mismatch(process: int, expected: object, invoked: float, returned: float) -> Operation:
    return Operation(process, "x", "mismatch", None, expected=expected, invoked=invoked, returned=returned)


def append(process: int, value: object, invoked: float, returned: float | None) -> Operation:
    return Operation(process, "x", "append", value, invoked=invoked, returned=returned)
