"""One line per decision: what happened, then `key=value` pairs, the same keys everywhere.

Keys: group, pipeline, worker, epoch, session, term, request_id, reason. A value with spaces is quoted, so a
line can be cut into fields again; control characters are escaped, so no foreign text makes a second line.
"""

import json


def line(what: str, **fields: object) -> str:
    """`what key=value ...`; fields that are None or empty are left out."""
    pairs = [f"{key}={_value(value)}" for key, value in fields.items() if value not in (None, "")]
    return " ".join([what, *pairs])


def _value(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not any(character in text for character in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)
