"""What programs read: the same data as JSON or as YAML, by the same rules.

Where a command shows its result once, stdout is one document. Where it goes on (`--watch`, `--follow`) it is
a stream: JSON has a document on each line, YAML a line `---` between two documents.
"""

import sys
from typing import Any, Final

import msgspec

FORMS: Final = ("json", "yaml")
"""What `-o` calls them."""


def to_json(document: Any) -> str:
    """Readable JSON."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def written(document: Any, form: str) -> str:
    """One document in one of `FORMS`, with the end of its last line."""
    if form == "yaml":
        from cli.yaml import to_yaml

        return to_yaml(msgspec.json.decode(msgspec.json.encode(document)))
    return to_json(document) + "\n"


class Stream:
    """Documents one after the other on stdout, each out before the next is known."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._begun = False

    def write(self, document: Any) -> None:
        """Add one."""
        if self._form == "yaml":
            text = ("---\n" if self._begun else "") + written(document, self._form)
        else:
            text = msgspec.json.encode(document).decode() + "\n"
        self._begun = True
        sys.stdout.write(text)
        sys.stdout.flush()
