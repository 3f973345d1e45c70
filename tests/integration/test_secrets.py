"""The hunt for secrets: each is a word that stands nowhere else, and every way out is searched for it.

Ways out: every GET route of the OpenAPI document for every role and from every node, what the other routes
refuse with, the stream, the logs and files of all processes but those that are said to hold a key, their
command lines, and the commands of the CLI that show something.
"""

import contextlib
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest

from cli.catalog import COMMANDS
from proto_schemas.rest.base import API_BASE
from tests.support.cluster import Cluster, varpulis

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]
KEY_FILES: Final = {"admin.key", "worker.key", "cluster.key"}
"""What docs/security.md says to be secret itself."""
NAMES: Final = {
    "group_id": "g",
    "pipeline": "p",
    "worker_id": "worker-0",
    "name": "Bus",
}
SHOWN: Final = (
    *("status", "workers", "groups", "events", "raft status", "key list"),
    *("connector list", "connector show Bus", "pipeline status g", "group history g"),
)

Output = tuple[str, str | bytes]
"""Where something came out, and what."""


class Hunt:
    """A cluster in which everything secret is a known word."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.words: dict[str, str] = {}
        self.keys: dict[str, str] = {}

    def word(self, what: str) -> str:
        """A secret, of which every letter is known."""
        return self.words.setdefault(what, f"canary{secrets.token_hex(8)}")

    def found(self, text: str | bytes) -> list[str]:
        """The secrets in a text."""
        data = text if isinstance(text, bytes) else text.encode()
        return [what for what, word in self.words.items() if word.encode() in data]

    def ask(
        self, method: str, path: str, body: Any = None, *, key: str, node: int = 0, **headers: str
    ) -> httpx.Response:
        base = API_BASE if not path.startswith("//") else ""
        sent = {"x-api-key": key, "idempotency-key": secrets.token_hex(8), **headers}
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if content is not None:
            sent["content-type"] = "application/json"
        url = self.cluster.urls[node] + base + path.replace("//", "/")
        return httpx.request(method, url, content=content, headers=sent, trust_env=False, timeout=20)

    def furnish(self) -> None:
        """Put secrets wherever they may be."""
        directory = self.cluster.data_dir / "keys"
        for path in directory.iterdir():
            self.words[path.name] = secret_of(path.read_text().split()[-1])
        admin = self.keys["admin"] = (directory / "admin.key").read_text().strip()
        password = {"user": "me", "password": self.word("password of a connector")}
        token = {"token": self.word("token of a connector")}
        key = {"nkey_seed": self.word("key of a connector")}
        for name, params in (("Bus", password), ("Tok", token), ("Key", key)):
            body = {
                "name": name,
                "connector_type": "nats",
                "params": {"servers": "nats://127.0.0.1:1", **params},
            }
            assert self.ask("POST", "/connectors", body, key=admin).status_code == 201
        programs = {
            "p": 'stream Out = In.from(Bus, topic: "a").emit(n: n)',
            "q": 'stream Out = In.emit(n: n).to(Tok, topic: "b")',
            "r": "stream Out = In.window(2).aggregate(n: count()).emit(n: n)",
        }
        pipelines = [{"name": name, "source": source} for name, source in programs.items()]
        made = self.ask("POST", "/pipeline-groups?wait=0", {"name": "g", "pipelines": pipelines}, key=admin)
        assert made.status_code in (201, 202), made.text
        for role in ("viewer", "operator"):
            answer = self.ask("POST", "/keys", {"role": role}, key=admin)
            self.keys[role] = answer.json()["key"]
            self.words[f"key of a {role}"] = secret_of(self.keys[role])


def secret_of(key: str) -> str:
    """Of an API key `vk_<id>_<secret>` the secret; a cluster key is one as it is."""
    return key.split("_", 2)[2] if key.startswith("vk_") else key


@pytest.fixture(scope="module")
def hunt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hunt]:
    """With API keys, signatures and seals; a webhook whose URL holds a token; connectors with passwords."""
    cluster = Cluster(tmp_path_factory.mktemp("hunt"))
    made = Hunt(cluster)
    hook = f"http://127.0.0.1:1/hook?token={made.word('token of the webhook')}"
    cluster._env |= {"VARPULIS_SCALING_WEBHOOK": hook}
    try:
        cluster.up("--require-keys")
        made.furnish()
        yield made
    finally:
        cluster.remove()


def test_nothing_that_is_shown_or_refused_or_written_has_a_secret(hunt: Hunt) -> None:
    """What is written is looked at last: it may tell of what was refused and shown."""
    outputs: dict[str, str | bytes] = {}
    for way_out in (refused, shown, streamed, printed, written):
        found = dict(way_out(hunt))
        assert len(found) >= 1, way_out
        outputs |= found
    leaks = {where: names for where, text in outputs.items() if (names := hunt.found(text))}
    assert leaks == {}
    assert len(outputs) > 250


def routes(hunt: Hunt) -> Iterator[tuple[str, str]]:
    """Method and path of every operation there is."""
    document = hunt.ask("GET", "//openapi.json", key="").json()
    for path, methods in document["paths"].items():
        for method in methods:
            if method in ("get", "post", "put", "delete"):
                yield method.upper(), path.removeprefix(API_BASE)


def refused(hunt: Hunt) -> Iterator[Output]:
    """Keys that are wrong, and bodies that hold secrets and are no good, at every route that takes one. A
    viewer sends them too: what he may not do has no effect."""
    wrong = f"vk_0123456789ab_{hunt.word('wrong key')}"
    yield "a wrong key", hunt.ask("GET", "/workers", key=wrong).text
    bearer = f"Bearer {hunt.word('bearer token')}"
    yield "a bearer token", hunt.ask("GET", "/workers", key="", authorization=bearer).text
    word = hunt.word("password in what is refused")
    bodies: dict[str, Any] = {
        "an unknown type": {"name": "X", "connector_type": "natz", "params": {"password": word}},
        "no text": {"name": "X", "connector_type": "nats", "params": {"password": {"a": word}}},
        "an unknown parameter": {"name": "X", "connector_type": "nats", "params": {"pasword": word}},
        "a URL": {"name": "X", "connector_type": "nats", "params": {"servers": f"nats://u:{word}@h:4222"}},
        "two identities": {
            "name": "X",
            "connector_type": "nats",
            "params": {"token": word, "password": word},
        },
        "half a body": f'{{"name": "X", "connector_type": "nats", "params": {{"password": "{word}'.encode(),
        "a registration": {
            "worker_id": "w w",
            "address": "",
            "api_key": word,
            "capacity": {"cpu_cores": "x"},
        },
        "a restore": {"password": word, "params": [{"token": word}]},
    }
    harmless = (
        "/connectors",
        "/workers/register",
        "/pipeline-groups",
        "/keys",
        "/check",
        "/connectors/{name}",
    )
    for method, path in routes(hunt):
        if method in ("GET", "DELETE"):
            continue
        for role in ("admin", "viewer") if path in harmless else ("viewer",):
            for name, body in bodies.items():
                answer = hunt.ask(method, filled(path, "Nothing"), body, key=hunt.keys[role])
                assert answer.status_code >= 400 or role == "viewer", (method, path, name)
                assert answer.status_code != 500, (method, path, name)
                yield f"{method} {path} with {name} by a {role}", answer.text
    declared = f'connector C = nats(servers: "nats://127.0.0.1:1", password: "{word}")\n'
    program = f'{declared}stream A = B.from(C, topic: "x")'
    user = f'connector C = nats(servers: "nats://me:{word}@h:4222")\nstream A = B.from(C, topic: "x")'
    for text in (program, user, f"{program}.emt()", declared[:-2], declared):
        body = {"name": "i", "pipelines": [{"name": "p", "source": text}]}
        answer = hunt.ask("POST", "/pipeline-groups", body, key=hunt.keys["admin"])
        assert answer.status_code == 422, answer.text
        yield f"refused: {text.replace(word, '...')}", answer.text


def shown(hunt: Hunt) -> Iterator[Output]:
    paths = [path for method, path in routes(hunt) if method == "GET" and not path.endswith("/stream")]
    assert len(paths) > 20
    for role, key in hunt.keys.items():
        for node in range(len(hunt.cluster.urls)):
            for path in paths:
                answer = hunt.ask("GET", filled(path, "g"), key=key, node=node)
                assert answer.status_code < 500 or answer.status_code == 503, (path, answer.text)
                yield f"GET {path} at {node} by {role}", answer.content
    for page in ("//metrics", "//health", "//livez", "//readyz", "//openapi.json"):
        yield page, hunt.ask("GET", page, key="").text


def streamed(hunt: Hunt) -> Iterator[Output]:
    url, headers, text = hunt.cluster.urls[0] + API_BASE + "/stream", {"x-api-key": hunt.keys["admin"]}, ""
    with (
        httpx.stream("GET", url, headers=headers, timeout=1.0, trust_env=False) as stream,
        contextlib.suppress(httpx.ReadTimeout),
    ):
        for part in stream.iter_text():
            text += part
    assert text
    yield "the stream", text


def printed(hunt: Hunt) -> Iterator[Output]:
    """By the CLI; its settings hold secrets as well."""
    words = {command.name for command in COMMANDS}
    env = {"VARPULIS_NATS_USER": "me", "VARPULIS_NATS_PASSWORD": hunt.word("password in the environment")}
    env["VARPULIS_SCALING_WEBHOOK"] = f"http://127.0.0.1:1/{hunt.word('path of a webhook')}"
    done = varpulis("config", "show", "-o", "json", cwd=hunt.cluster.cwd, env=env)
    assert done.returncode == 0 and "password" in done.stdout
    yield "config show", done.stdout + done.stderr
    for command in SHOWN:
        assert command in words or command.rpartition(" ")[0] in words, command
        own = ("--data-dir", str(hunt.cluster.data_dir))
        done = varpulis(*command.split(), "-o", "json", *own, cwd=hunt.cluster.cwd, env=env)
        assert json.loads(done.stdout), done.stderr
        yield command, done.stdout + done.stderr


def written(hunt: Hunt) -> Iterator[Output]:
    directory: Path = hunt.cluster.data_dir
    files = [path for path in directory.rglob("*") if path.is_file() and path.name not in KEY_FILES]
    assert any("journal" in str(path) or path.suffix == ".seg" for path in files), files
    for path in files:
        yield f"file {path.relative_to(directory)}", path.read_bytes()
    for name in hunt.cluster.processes:
        yield f"command line of {name}", " ".join(psutil.Process(hunt.cluster.pid(name)).cmdline())


def filled(path: str, otherwise: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: NAMES.get(match[1], otherwise), path)
