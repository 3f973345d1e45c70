"""A pipeline group as a user keeps it: a JSON file, or a single VPL program.

In the JSON, which else is the body of `POST /pipeline-groups`, a pipeline may name its program with
`source_file` (relative to the file) instead of carrying it in `source`. A `.vpl` file becomes a group of
one pipeline, both named after the file.
"""

import re
from pathlib import Path
from typing import Any

import msgspec

from cli.errors import UsageError
from proto_schemas.codec import decode
from proto_schemas.errors import WireError
from proto_schemas.rest.groups import GroupSpec


def read_group(path: Path, name: str | None = None) -> dict[str, Any]:
    """The group in a file, under `name` when one is given; checked against the API's definition.

    Raises:
        UsageError: the file cannot be read, or is no group; names the field.
    """
    if path.suffix == ".vpl":
        group = single_pipeline(path, name)
    else:
        group = _inlined(path)
        if name:
            group["name"] = name
    try:
        decode(msgspec.json.encode(group), GroupSpec)
    except WireError as error:
        raise UsageError(f"{path}: {error}") from None
    return group


def single_pipeline(path: Path, name: str | None = None) -> dict[str, Any]:
    """A group of the one program in a `.vpl` file."""
    own = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)
    return {"name": name or own, "pipelines": [{"name": own, "source": _read(path)}]}


def sources(path: Path) -> dict[str, str]:
    """The programs in a file, by pipeline name; what else is wrong with a group does not matter here."""
    group = single_pipeline(path) if path.suffix == ".vpl" else _inlined(path)
    return {
        str(pipeline.get("name", "?")): str(pipeline.get("source", "")) for pipeline in group["pipelines"]
    }


def _inlined(path: Path) -> dict[str, Any]:
    try:
        group = msgspec.json.decode(_read(path))
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} is not valid JSON: {error}: a program belongs into a file named *.vpl"
        ) from None
    pipelines = group.get("pipelines") if isinstance(group, dict) else None
    if not isinstance(pipelines, list) or not all(isinstance(pipeline, dict) for pipeline in pipelines):
        raise UsageError(
            f'{path}: no list "pipelines": write {{"name": ..., "pipelines": [{{"name": ...}}]}}'
        )
    for pipeline in pipelines:
        if "source_file" in pipeline:
            if "source" in pipeline:
                raise UsageError(
                    f"{path}: pipeline {pipeline.get('name')!r} has source and source_file: keep one"
                )
            pipeline["source"] = _read(path.parent / str(pipeline.pop("source_file")))
    return dict(group)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}: give a readable text file") from None
