"""Lets schemathesis make requests from the OpenAPI document, valid and not, and keeps what does not hold.

Its checks hold each answer against the document: status, media type, headers, body; that what the document
forbids is refused, that a key is asked for, that other methods are 405. On top of them, of every answer:

- A healthy cluster answers 500, 502 and 504 never, and 503 only for want of a worker that could do it
  (`_WANTING`).
- A role that may not do something is not let in, whatever it asks.
- What the document allows to be asked for is not 400. (A body can be well formed and wrong.)

Nothing is left out because it is dangerous. `Care` changes single values on their way instead, so that the
cluster lives on and nobody waits: the members and the key that the run needs are spared, a `wait` is short.
"""

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import schemathesis
from schemathesis import GenerationMode
from schemathesis.engine import Status, events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder

from coordinator.security import roles
from coordinator.state.records import KeyRole
from proto_schemas.rest.base import API_BASE

WAIT: Final = 0.1
"""Seconds that a valid request says it waits, so that it is over soon."""
COPY_WAIT: Final = 10.0
"""The same where the answer is what it waits for."""
NOBODY: Final = "never-was"
PROGRAM: Final = "stream Out = In.where(x > 0).emit(x: x)"
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "ignored_auth",
    "unsupported_method",
    "missing_required_header",
)
_NOT_LET_IN: Final = frozenset({401, 403, 404, 405})
"""The last two: a changed path can lead elsewhere."""
_WANTING: Final = re.compile(r"no worker (can|is)|no room|pipeline \S+ is |does not lead")


@dataclass(frozen=True, kw_only=True)
class Care:
    """What must not be hit. `cluster_id`: to be named now and then where that is dangerous."""

    members: frozenset[str]
    keys: frozenset[str]
    cluster_id: str

    def take(self, case: Any) -> None:
        """Change a request that would end the run."""
        _sense(case)
        query, path, body = case.query or {}, case.path_parameters or {}, case.body
        waits = any(parameter.name == "wait" for parameter in case.operation.iter_parameters())
        if waits and _seconds(query.get("wait", WAIT)):
            query["wait"] = COPY_WAIT if case.method == "GET" else WAIT
            case.query = query
        if case.method != "GET" and path.get("key_id") in self.keys:
            path["key_id"] = NOBODY
        if case.method == "DELETE" and path.get("member_id") in self.members:
            path["member_id"] = NOBODY
        if isinstance(body, dict) and body.get("replaces") in list(self.members):
            body["replaces"] = NOBODY
        if case.path.endswith("/snapshot") and "confirm" in query and len(str(query["confirm"])) % 2:
            query["confirm"] = self.cluster_id


@dataclass
class Found:
    """What a run saw. `answers`: how often each operation gave each status; `faults`: one text of each."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    wanting: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def operations(self) -> set[str]:
        """As `METHOD path`."""
        return {label for label, _ in self.answers}

    @property
    def requests(self) -> int:
        """How many were sent."""
        return self.answers.total()

    def __str__(self) -> str:
        statuses: Counter[int] = Counter()
        for (_, status), count in self.answers.items():
            statuses[status] += count
        told = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        head = f"{len(self.operations)} operations, {self.requests} requests, {self.seconds:.0f} s: {told}"
        return "\n\n".join([head, *self.faults.values()])


def fuzz(
    url: str,
    *,
    key: str = "",
    role: KeyRole = KeyRole.ADMIN,
    care: Care,
    seed: int = 0,
    examples: int = 5,
    seconds: int | None = None,
    phases: Iterable[str] = ("coverage", "fuzzing", "stateful"),
) -> Found:
    """One run against the coordinator at `url`, under `key`, which has `role`.

    Args:
        examples: of each operation in `fuzzing`; chains of calls in `stateful`.
        seconds: go on with new ones for that long; None: the same ones each time, once.
    """
    schema = schemathesis.openapi.from_url(
        f"{url}/openapi.json", config=_config(key, seed, examples, seconds, set(phases))
    )

    def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
        care.take(case)

    found, began = Found(), time.monotonic()
    schemathesis.hook(before_call)
    try:
        for event in from_schema(schema).execute():
            if isinstance(event, events.ScenarioFinished):
                _look(event.recorder, role, found)
            elif isinstance(event, events.NonFatalError):
                found.faults.setdefault(f"{event.label} {event.info.title}", f"{event.label}: {event.value}")
            elif isinstance(event, events.FatalError):
                raise event.exception
    finally:
        schemathesis.hooks.unregister(before_call)
    found.seconds = time.monotonic() - began
    return found


def _config(
    key: str, seed: int, examples: int, seconds: int | None, phases: set[str]
) -> "schemathesis.Config":
    generation = {"max-examples": examples, "deterministic": seconds is None, "database": "none"}
    return schemathesis.Config.from_dict(
        {
            "seed": seed,
            **({"max-time": seconds} if seconds is not None else {}),
            **({"headers": {"x-api-key": key}} if key else {}),
            "request-timeout": 30,
            "max-stream-events": 1,
            "continue-on-failure": True,
            "generation": {**generation, "no-shrink": True, "with-security-parameters": False},
            "phases": {
                "examples": {"enabled": False},
                **{
                    name: {"enabled": name in phases} for name in ("coverage", "fuzzing", "stateful")
                },
            },
            "checks": {
                "enabled": False,
                **{name: {"enabled": True} for name in CHECKS},
                "not_a_server_error": {"enabled": True, "expected-statuses": ["2xx", "3xx", "4xx", "503"]},
                "negative_data_rejection": {"enabled": True, "expected-statuses": ["4xx", "503"]},
            },
        }
    )  # fmt: skip


def _look(recorder: ScenarioRecorder, role: KeyRole, found: Found) -> None:
    for case_id, interaction in recorder.interactions.items():
        response, case = interaction.response, recorder.cases[case_id].value
        if response is None:
            found.faults.setdefault(f"{case.operation.label} lost", f"{case.operation.label}: no answer")
            continue
        label, status = case.operation.label, response.status_code
        found.answers[label, status] += 1
        if status >= 500:
            found.wanting.setdefault(f"{label} {response.text[:40]}", response.text[:300])
        if fault := _fault(case, role, status, response):
            request = f"{interaction.request.method} {interaction.request.uri}"
            found.faults.setdefault(f"{label} {fault}", f"{request}: {fault}: {response.text[:500]}")
        for check in recorder.checks.get(case_id, ()):
            if check.status is Status.FAILURE and check.failure_info is not None:
                failure = check.failure_info.failure
                if check.name == "ignored_auth" and "`429 " in failure.message:
                    continue  # after too many wrong keys nobody is let in either
                text = f"{label}: {check.name}: {failure.title}: {failure.message}\n"
                text += f"  {check.failure_info.code_sample}\n  {status} {response.text[:500]}"
                found.faults.setdefault(f"{label} {check.name} {failure.title} {status}", text)


def _fault(case: Any, role: KeyRole, status: int, response: Any) -> str:
    """What is wrong with an answer, beside what schemathesis finds."""
    if status >= 500 and not (status == 503 and _WANTING.search(response.text)):
        return f"{status} of a healthy cluster"
    method, mode = case.operation.method.upper(), case.meta.generation.mode if case.meta else None
    route = roles.route_of(method, case.operation.path)
    below = case.operation.path.startswith(API_BASE)
    if case.method == method and below and not roles.may(role, route) and status not in _NOT_LET_IN:
        return f"{status} for a {role}"
    if case.method == method == "GET" and status == 400 and mode is GenerationMode.POSITIVE:
        return "400 for what the document allows"
    return ""


def _sense(case: Any) -> None:
    """Every other body that fits the document, made one that is carried out as well."""
    body = case.body
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if not isinstance(body, dict) or len(str(body)) % 2:
        return
    if isinstance(body.get("pipelines"), list):
        for number, pipeline in enumerate(body["pipelines"]):
            pipeline |= {"name": f"p{number}", "source": PROGRAM, "constraints": None, "replicas": 1}
            pipeline["worker_affinity"] = None
        body |= {"routes": [], "delivery": "at_most_once"}
        if case.method == "PUT":
            case.path_parameters["group_id"] = body["name"]
    if "connector_type" in body:
        body |= {"name": f"c{len(body['name'])}", "connector_type": "nats"}
        body["params"] = {"servers": "nats://127.0.0.1:1"}
    if "event_type" in body:
        body["event_type"] = "In"
        case.path_parameters["group_id"] = "demo"


def _seconds(value: Any) -> bool:
    """Whether a `wait` is a valid one; of several the last counts."""
    if isinstance(value, list) and value:
        value = value[-1]
    try:
        return 0 <= float(value) <= 60
    except (TypeError, ValueError, OverflowError):
        return False
