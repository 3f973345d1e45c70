"""Groups as users keep them in files."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.commands.groups import fields
from cli.errors import UsageError
from cli.group_file import read_group, sources

PROGRAM = "stream A = B.where(x > 1).emit(x: x)\n"


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_program_becomes_a_group_of_one_pipeline_named_after_its_file(tmp_path: Path) -> None:
    group = read_group(write(tmp_path / "my doors.v2.vpl", PROGRAM))
    assert group == {"name": "my-doors-v2", "pipelines": [{"name": "my-doors-v2", "source": PROGRAM}]}


def test_a_program_can_be_deployed_under_another_name(tmp_path: Path) -> None:
    assert read_group(write(tmp_path / "doors.vpl", PROGRAM), "hq")["name"] == "hq"


def test_programs_in_files_of_their_own_are_found_beside_the_group(tmp_path: Path) -> None:
    write(tmp_path / "a.vpl", PROGRAM)
    path = write(tmp_path / "g.json", {"name": "g", "pipelines": [{"name": "a", "source_file": "a.vpl"}]})
    assert read_group(path)["pipelines"] == [{"name": "a", "source": PROGRAM}]
    assert sources(path) == {"a": PROGRAM}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not valid JSON"),
        ([], 'no list "pipelines"'),
        ({"name": "g"}, 'no list "pipelines"'),
        ({"name": "g", "pipelines": [1]}, 'no list "pipelines"'),
        ({"name": "g", "pipelines": []}, r"\$\.pipelines"),
        ({"name": "a.b", "pipelines": [{"name": "a", "source": ""}]}, r"\$\.name"),
        ({"name": "g", "pipelines": [{"name": "a", "source": 1}]}, r"\$\.pipelines\[0\]\.source"),
        ({"name": "g", "pipelines": [{"name": "a", "source_file": "no.vpl"}]}, r"no\.vpl cannot be read"),
        ({"name": "g", "pipelines": [{"name": "a", "source": "", "source_file": "b"}]}, "keep one"),
    ],
)
def test_a_mistake_in_a_group_is_told_with_its_place(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_group(write(tmp_path / "g.json", content))


def test_fields_are_typed_as_they_read() -> None:
    words = [
        "i=45000",
        "f=0.5",
        "t=true",
        "n=null",
        'j={"a":[1]}',
        "s=hq",
        "e=",
        "x=a=b",
        "big=18446744073709551617",
    ]
    assert fields(words) == {
        "i": 45000,
        "f": 0.5,
        "t": True,
        "n": None,
        "j": {"a": [1]},
        "s": "hq",
        "e": "",
        "x": "a=b",
        "big": 18446744073709551617,
    }
