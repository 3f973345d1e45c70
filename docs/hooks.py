"""For the site: blocks that tests type (`sh test=NAME`) are shown as what they are, shell."""

import re
from typing import Any, Final

_MARKED: Final = re.compile(r"^(\s*```sh) test=\w+$", re.MULTILINE)


def on_page_markdown(markdown: str, **context: Any) -> str:
    """The page as MkDocs is to read it."""
    return _MARKED.sub(r"\1", markdown)
