"""`fmt`: programs written the one way."""

import difflib
import sys
from pathlib import Path

from cli.errors import FAILED, OK, CliError, UsageError
from cli.invocation import Invocation
from vpl import VplError
from vpl.style import styled


def fmt(call: Invocation) -> int:
    """Write programs the one way; with `--check` only say which are not, and fail."""
    paths = call.arguments["files"]
    differing, broken = [], []
    for name in paths:
        try:
            source = sys.stdin.read() if name == "-" else _read(Path(name))
            made = styled(source)
        except VplError as error:
            broken.append(name)
            call.note(f"varpulis: {name} is left as it is: {error}")
            continue
        if made != source:
            differing.append(name)
        if call.arguments["diff"]:
            sys.stdout.writelines(
                difflib.unified_diff(
                    source.splitlines(keepends=True),
                    made.splitlines(keepends=True),
                    name,
                    f"{name}, formatted",
                )
            )
        elif name == "-" and not call.arguments["check"]:
            sys.stdout.write(made)
        elif made != source and not call.arguments["check"]:
            _replace(Path(name), made)
    only_looks = call.arguments["check"] or call.arguments["diff"]
    for name in differing:
        if name != "-" or only_looks:
            call.note(f"varpulis: {name} {'is not formatted' if only_looks else 'is formatted now'}")
    return FAILED if broken or (call.arguments["check"] and differing) else OK


def _read(path: Path) -> str:
    if path.suffix == ".json":
        raise UsageError(f"{path} is a group file: give the files of its programs, *.vpl")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}: give a readable text file") from None


def _replace(path: Path, text: str) -> None:
    """All of it or nothing: a program is never half written."""
    made = path.with_name(f".{path.name}.formatted")
    try:
        made.write_text(text, encoding="utf-8")
        made.chmod(path.stat().st_mode)
        made.replace(path)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise CliError(f"{path} cannot be written: {error.strerror}") from None
