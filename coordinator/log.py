"""One line per decision: what happened, then `key=value` pairs, the same keys everywhere.

Keys: group, pipeline, worker, epoch, session, term, request_id, reason. A value with spaces is quoted, so a
line can be cut into fields again; control characters are escaped, so no foreign text makes a second line.
"""

import json
import logging
import sys


def line(what: str, **fields: object) -> str:
    """`what key=value ...`; fields that are None or empty are left out."""
    pairs = [f"{key}={_value(value)}" for key, value in fields.items() if value not in (None, "")]
    return " ".join([what, *pairs])


def _value(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not any(character in text for character in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)


def to_stderr(node_id: str, level: int = logging.INFO) -> None:
    """Send this process's log to stderr, unless somebody has configured logging already."""
    if logging.getLogger().handlers:
        return
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format=f"%(asctime)s %(levelname)s {node_id} %(name)s %(message)s",
    )
    for noisy in ("httpx", "httpcore", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
