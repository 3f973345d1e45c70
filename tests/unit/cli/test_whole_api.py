"""The command line is complete: each operation of the REST API has a command, or a reason to have none.

The API is not served here: a stand-in answers each operation with the least that its description allows, and
the commands of the table run against it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar

from cli.catalog import COMMANDS
from cli.main import main
from coordinator.api import schema
from proto_schemas.rest.base import API_BASE
from raft.backup import pack
from raft.generation import Generation
from tests.unit.cli.stand_in import Coordinator, served
from tests.unit.coordinator.test_roles import app as app
from tests.unit.coordinator.test_roles import whole as whole

PROGRAM = "stream Out = In.where(x > 0).emit(x: x)\n"

COMMAND_OF = {
    "GET /workers": "workers",
    "GET /workers/{}": "worker show w1",
    "DELETE /workers/{}": "worker remove w1 --yes",
    "POST /workers/{}/drain": "worker drain w1",
    "GET /workers/{}/drain": "worker drain w1",
    "DELETE /workers/{}/drain": "worker drain w1 --cancel",
    "POST /workers/{}/cordon": "worker cordon w1",
    "POST /workers/{}/uncordon": "worker uncordon w1",
    "POST /pipelines/{}/{}/migrate": "migrate g/p",
    "GET /migrations": "migrations",
    "GET /migrations/{}": "migration show m1",
    "POST /pipeline-groups": "deploy p.vpl",
    "GET /pipeline-groups": "groups",
    "GET /pipeline-groups/{}": "group show g",
    "PUT /pipeline-groups/{}": "update g p.vpl",
    "DELETE /pipeline-groups/{}": "undeploy g",
    "GET /pipeline-groups/{}/history": "group history g",
    "POST /pipeline-groups/{}/rollback": "group rollback g",
    "POST /pipeline-groups/{}/scale": "group scale g/p 2",
    "POST /pipeline-groups/{}/inject": "inject g In x=1",
    "POST /pipeline-groups/{}/inject-batch": "inject-batch g events.jsonl",
    "GET /topology": "topology",
    "GET /summary": "status",
    "GET /scaling": "scaling",
    "GET /events": "events",
    "GET /raft": "raft status",
    "POST /raft/transfer": "raft transfer c2",
    "POST /raft/members": "raft add c4",
    "DELETE /raft/members/{}": "raft remove c3 --yes",
    "GET /snapshot": "raft snapshot save copy",
    "POST /snapshot": "raft snapshot restore tests.backup --into c --yes",
    "POST /validate": "check p.vpl --cluster",
    "POST /rebalance": "rebalance",
    "GET /connectors": "connector list",
    "POST /connectors": "connector create Bus nats",
    "GET /connectors/{}": "connector show Bus",
    "PUT /connectors/{}": "connector update Bus",
    "DELETE /connectors/{}": "connector delete Bus",
    "GET /whoami": "whoami",
    "GET /keys": "key list",
    "POST /keys": "key create viewer",
    "GET /keys/{}": "key show k1",
    "DELETE /keys/{}": "key revoke k1",
    "POST /keys/{}/rotate": "key rotate k1",
    "GET //livez": "probe --live",
    "GET //readyz": "probe",
    "GET //health": "doctor coordinators",
}
"""By operation, a command that uses it; `//` begins what is outside the base of the API."""

NO_COMMAND = {
    "POST /workers/register": "a worker says this of itself",
    "POST /workers/{}/heartbeat": "a worker says this of itself",
    "GET /stream": "for the page in a browser, which cannot wait; `events --follow` asks again and again",
    "GET /raft/leader": "for the page; `raft status` asks the leader itself, and works without one",
    "GET //metrics": "for Prometheus",
    "GET //openapi.json": "for programs that make clients of it, and they take its URL",
}


class Described(Coordinator):
    """Answers each operation of a document with the least that is valid."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.document = document
        self.operations = [
            (method.upper(), path, re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)), operation)
            for path, item in document["paths"].items()
            for method, operation in item.items()
        ]
        self.used: set[str] = set()

    def tell(self, method: str, path: str) -> tuple[int, bytes]:
        for wanted, template, pattern, operation in self.operations:
            if wanted == method and pattern.fullmatch(path):
                self.used.add(named(method, template))
                status, answer = next(iter(operation["responses"].items()))
                (kind, content), *_ = answer["content"].items()
                if "json" not in kind:
                    return int(status), b"ok"
                return int(status), json.dumps(self.least(content["schema"])).encode()
        return 404, json.dumps({"error": f"{method} {path}", "code": "not_found"}).encode()

    def least(self, schema: dict[str, Any]) -> Any:
        """The smallest value that a schema takes, as far as the answers of this API go."""
        if "$ref" in schema:
            return self.least(self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        if "anyOf" in schema:
            nothing = any(one.get("type") == "null" for one in schema["anyOf"])
            return None if nothing else self.least(schema["anyOf"][0])
        match schema.get("type"):
            case "object":
                wanted = schema.get("properties", {})
                return {name: self.least(each) for name, each in wanted.items()}
            case "array":
                return [self.least(schema["items"])] * schema.get("minItems", 0)
            case "integer" | "number":
                return schema.get("minimum", 0)
            case "boolean":
                return False
            case "string":
                return "x"
        return None


def named(method: str, template: str) -> str:
    below = template.startswith(API_BASE)
    return (
        f"{method} {re.sub(r'{[^}]*}', '{}', template.removeprefix(API_BASE) if below else '/' + template)}"
    )


@pytest.fixture
def document(app: Litestar) -> dict[str, Any]:
    return schema.document(app, title="t", version="1", keys=True)


@pytest.fixture
def described(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Described]:
    monkeypatch.chdir(tmp_path)
    for name, text in (("p.vpl", PROGRAM), ("events.jsonl", '{"event_type": "In"}\n')):
        (tmp_path / name).write_text(text)
    with served(Described(document)) as server:
        monkeypatch.setenv("VARPULIS_URL", server.url)
        yield server


def test_every_operation_has_a_command_or_a_reason_to_have_none(document: dict[str, Any]) -> None:
    told = {named(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert COMMAND_OF.keys() | NO_COMMAND.keys() == told
    assert not COMMAND_OF.keys() & NO_COMMAND.keys()


@pytest.mark.parametrize("operation", COMMAND_OF)
def test_the_command_of_an_operation_uses_it(
    operation: str, described: Described, capsys: pytest.CaptureFixture[str]
) -> None:
    words = COMMAND_OF[operation].split()
    if words[0] == "probe":
        words = ["probe", f"{described.url}/{'livez' if '--live' in words else 'readyz'}"]
    if "tests.backup" in words:
        copy = pack(Generation(1, ("c1",), ()), [b"x"], cluster="c", last_index=1, last_term=1, taken_at_ms=0)
        Path("tests.backup").write_bytes(copy)
    main(words)
    assert operation in described.used, capsys.readouterr().err


def test_a_row_of_the_table_calls_a_command_that_is_there() -> None:
    names = {command.name for command in COMMANDS}
    for line in COMMAND_OF.values():
        words = line.split()
        assert any(" ".join(words[:count]) in names for count in (1, 2, 3)), line
