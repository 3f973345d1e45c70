"""The image and the compose file, read: every command line, variable, mounted file, port and health check
means something, and nothing needs a shell, a root user or a secret in the open. What they start is started
in `test_topology`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cli.parser import parse
from cli.resolve import Settings
from cli.settings import SETTINGS
from tests.deploy.compose import FILE, Service, document, services
from tests.deploy.credentials import DEPLOY, made, needs_openssl
from tests.deploy.dockerfile import DOCKERFILE, stages
from tests.support.cluster import ROOT

ALL = services()
OURS = {name: service for name, service in ALL.items() if service.command[:1] == ["varpulis"]}
OF_SERVERS = {"VARPULIS_NATS_NAME", "VARPULIS_NATS_STORE"}
"""Variables of nats-server's configuration files."""
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def by_name(services: dict[str, Service]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("service", services.values(), ids=list(services))


def engine() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run(
                [*command, "version"], capture_output=True, timeout=30, check=False
            ).returncode
        ):
            return command
    pytest.skip("there is no Docker Compose here: the file was checked against the specification alone")


def test_the_file_is_what_the_compose_specification_says() -> None:
    library = pytest.importorskip("compose_spec", reason="compose-spec is not installed here")
    compose = library.PyCompose.from_yaml(json.dumps(document()))  # anchors merged: it knows none
    assert set(compose.service_names()) == set(ALL)
    with pytest.raises(ValueError, match="no_such_key"):
        library.PyCompose.from_yaml("services: {a: {image: b, no_such_key: c}}")


@needs_openssl
def test_docker_compose_takes_the_file(tmp_path: Path) -> None:
    command = engine()
    own = tmp_path / "deploy" / "docker"
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    made(own / "secrets")
    done = subprocess.run(
        [*command, "-f", own / FILE.name, "config", "--quiet"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_there_are_as_many_of_each_as_survive_the_loss_of_one() -> None:
    roles = [re.sub(r"-\d$", "", name) for name in ALL]
    assert (roles.count("nats"), roles.count("coordinator"), roles.count("worker")) == (3, 3, 2)
    assert {"prepare", "prometheus", "grafana"} <= set(ALL)
    members = {name for name in ALL if name.startswith("coordinator-")}
    for name in members:
        assert set(ALL[name].environment["VARPULIS_COORDINATOR_MEMBERS"].split(",")) == members


@by_name(OURS)
def test_each_command_line_and_variable_is_one_of_ours(service: Service) -> None:
    parse(service.command[1:])
    settings = Settings(environ=service.environment)
    assert not settings.unknown_variables
    if service.command[1] in ("coordinator", "worker"):
        assert settings.required(f"{service.command[1]}.id") == service.name
        assert settings["nats.user"] == service.name
        assert all(url.startswith("tls://") for url in settings["nats.url"])
        assert settings["cluster.key_file"] and settings[f"{service.command[1]}.tls_cert"]


@by_name({name: each for name, each in ALL.items() if each.command[:1] == ["nats-server"]})
def test_each_nats_server_gets_every_variable_that_its_files_name(service: Service) -> None:
    conf = [path for path in service.mounts.values() if path is not None and path.parent.name == "nats"]
    text = "".join(path.read_text() for path in conf)
    named = set(re.findall(r"\$(VARPULIS_\w+)", text))
    assert named == set(service.environment)
    assert set(service.environment) - {f"VARPULIS_NATS_TLS_{x}" for x in ("CA", "CERT", "KEY")} == OF_SERVERS
    includes = {Path(name).name for name in re.findall(r"^include (\S+)", text, re.MULTILINE)}
    assert includes <= {Path(target).name for target in service.mounts}


@needs_openssl
def test_every_mounted_file_is_in_the_repository_or_made_by_the_script(tmp_path: Path) -> None:
    secrets = made(tmp_path)
    for service in ALL.values():
        for path in service.mounts.values():
            if path is None:
                continue
            there = secrets / path.name if path.parent.name == "secrets" else path
            assert there.exists(), f"{service.name}: {path}"
    named = {Path(secret["file"]).name for secret in document()["secrets"].values()}
    assert {path.name for path in secrets.iterdir()} >= named


@by_name(ALL)
def test_each_setting_that_names_a_file_names_one_that_is_mounted(service: Service) -> None:
    for variable, value in service.environment.items():
        if (path := value.removeprefix("file:")).startswith(("/run/", "/etc/")):
            assert path in service.mounts, f"{variable}={value}"
        elif path.startswith("/"):
            assert any(path.startswith(mount) for mount in service.mounts), f"{variable}={value}"


@by_name(ALL)
def test_no_secret_is_in_the_environment_or_on_a_command_line(service: Service) -> None:
    for setting in SETTINGS:
        value = service.environment.get(setting.variable, "")
        if setting.secret and setting.variable not in OF_SERVERS:
            assert not value or value.startswith("file:/run/secrets/"), setting.variable
    assert not any(word.startswith("--") and "password" in word for word in service.command)


@by_name(ALL)
def test_each_may_do_nothing_that_it_need_not(service: Service) -> None:
    spec = service.spec
    assert spec["read_only"] and spec["cap_drop"] == ["ALL"]
    assert spec["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r":v?\d+\.\d+\.\d+$", service.image), "the image is not pinned to a version"
    for port in spec.get("ports", []):
        assert str(port).startswith("127.0.0.1:"), "published beyond this machine"


@by_name(ALL)
def test_each_published_port_is_one_on_which_it_listens(service: Service) -> None:
    listens = {"prometheus": 9090, "grafana": 3000}
    for port in service.spec.get("ports", []):
        inside = int(str(port).rpartition(":")[2])
        own = service.environment.get("VARPULIS_COORDINATOR_HTTP_PORT", listens.get(service.name))
        assert inside == int(own or 0)


@by_name({name: each for name, each in ALL.items() if name != "prepare"})
def test_each_health_check_is_a_command_without_a_shell(service: Service) -> None:
    check = service.spec.get("healthcheck", {}).get("test", ["CMD"])
    assert check[0] == "CMD" and service.health
    if service.health[0] == "varpulis":
        parse(service.health[1:])
        if len(service.health) == 2:  # it asks the process whose settings these are
            assert Settings(environ=service.environment)[f"{service.command[1]}.http_port"]


def test_what_is_started_waits_for_what_it_needs() -> None:
    for name, service in OURS.items():
        needs = service.spec["depends_on"]
        assert {f"nats-{n}" for n in range(3)} <= set(needs), name
        assert all(needs[f"nats-{n}"]["condition"] == "service_healthy" for n in range(3))
        if name.startswith("worker"):
            assert needs["prepare"]["condition"] == "service_completed_successfully"


def test_a_stop_has_the_time_it_may_take() -> None:
    from coordinator.app import STOP_TIMEOUT
    from worker.app import STOP_WAIT

    leaving = next(setting.default for setting in SETTINGS if setting.key == "worker.leave_timeout")
    for name, service in ALL.items():
        seconds = float(str(service.spec.get("stop_grace_period", "0s")).removesuffix("s"))
        if name.startswith("coordinator"):
            assert seconds > STOP_TIMEOUT + 5
        elif name.startswith("worker"):
            assert seconds > leaving + STOP_WAIT + 5


# -- the image


def test_the_image_runs_as_nobody_in_particular_and_needs_no_shell() -> None:
    image = stages()[-1]
    (user,) = image.all("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "a number, so that it can be seen not to be root"
    assert image.words("ENTRYPOINT") == ["varpulis"]
    assert image.all("STOPSIGNAL") == ["SIGTERM"]
    program, *arguments = image.words("HEALTHCHECK")
    assert program == "varpulis" and parse(arguments)[0].name == "probe"
    assert image.words("CMD") == ["--help"]
    assert all(name != "ADD" for stage in stages() for name, _ in stage.instructions)


def test_its_bases_are_pinned_and_the_same() -> None:
    text = DOCKERFILE.read_text()
    pinned = re.search(r"^ARG PYTHON=3\.11\.\d+-slim-bookworm$", text, re.MULTILINE)
    assert pinned is not None
    assert [stage.base for stage in stages()] == ["python:${PYTHON} AS build", "python:${PYTHON}"]


def test_every_package_is_in_the_image_and_nothing_beside() -> None:
    packages = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = {text.split()[0] for text in stages()[0].all("COPY") if " " in text}
    assert packages <= copied
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    kept = {line[1:] for line in ignore if line.startswith("!")}
    assert kept == packages | {"pyproject.toml", "README.md"}
    assert {"deploy/docker/secrets", "**/__pycache__"} <= set(ignore)


def test_what_it_installs_is_what_is_tested_without_what_only_tests_need() -> None:
    entry = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)
    tested = dict(entry.findall((ROOT / "requirements.lock").read_text()))
    installed = dict(entry.findall((DEPLOY / "docker" / "requirements.lock").read_text()))
    builds = dict(entry.findall((DEPLOY / "docker" / "build.lock").read_text()))
    assert {name: tested.get(name) for name in installed} == installed
    assert "hatchling" in builds
    declared = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["otel"]
    names = {re.split(r"[\[<>=!;~ ]", each)[0].lower() for each in declared}
    assert names <= set(installed)
    assert not {"pytest", "mypy", "ruff", "hypothesis", "playwright"} & set(installed)


@pytest.mark.skipif(HADOLINT is None, reason="there is no hadolint here")
def test_hadolint_finds_nothing_wrong() -> None:
    done = subprocess.run(
        [str(HADOLINT), DOCKERFILE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
