"""Files of connectors: what may be named, what is read, what is written, and what a full disk does."""

import asyncio
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.poll import until
from transport.nats import Message
from vpl import ConnectorDecl, SinkBinding, SourceBinding
from worker.connectors import appender
from worker.connectors.appender import Appender
from worker.connectors.base import ConnectorError, OutputDropped, Site
from worker.connectors.below import PathRefused, open_below, parts_of
from worker.connectors.registry import ConnectorRegistry
from worker.payload import PayloadError, parse_event


def files(root: Path | None, **params: Any) -> ConnectorRegistry:
    return ConnectorRegistry.from_configs({"F": ConnectorDecl("F", "file", params)}, Site(root))


def source(path: Any, **params: Any) -> SourceBinding:
    return SourceBinding(connector="F", event_type="In", params={"path": path, **params})


def sink(path: Any, **params: Any) -> SinkBinding:
    return SinkBinding(connector="F", stream="Out", params={"path": path, **params}, kind="to")


def below(root: Path) -> list[str]:
    return [each.name for each in root.rglob("*")]


class Heard:
    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def lines(self) -> list[bytes]:
        return [message.data for message in self.messages]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "", "a\0b", "a\nb", 7, None, "x" * 513]
)
async def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, path: Any) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ConnectorError, match="path"):
        await files(tmp_path / "in").create_sink(sink(path))
    with pytest.raises(ConnectorError, match="path"):
        await files(tmp_path / "in").start_source(source(path), Heard())
    assert below(tmp_path) == ["in"]


@given(st.text(st.sampled_from("./a\0 ~\\"), max_size=12))
def test_no_accepted_path_has_a_part_that_leads_up_or_to_the_root(path: str) -> None:
    try:
        parts = parts_of(path)
    except PathRefused:
        return
    assert parts and not {"", ".", ".."} & set(parts) and not Path("/".join(parts)).is_absolute()


async def test_a_symbolic_link_a_pipe_and_a_directory_are_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("{}\n")
    (root / "link").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / "directory").mkdir()
    os.mkfifo(root / "pipe")
    for path in ("link/secret", "file", "pipe", "directory"):
        with pytest.raises(ConnectorError, match=r"link|regular|directory"):
            await files(root).start_source(source(path), Heard())
        with pytest.raises((PathRefused, OSError)):
            open_below(root, path, os.O_RDWR | os.O_APPEND | os.O_CREAT)


async def test_without_an_allowed_directory_there_are_no_files() -> None:
    with pytest.raises(ConnectorError, match="files_dir"):
        await files(None).create_sink(sink("a"))


async def test_lines_that_are_written_are_read_again_in_order(tmp_path: Path) -> None:
    connectors = files(tmp_path, sync="always")
    out = await connectors.create_sink(sink("deep/er/out.jsonl", format="flat"))
    for n in range(1000):
        await out.send("Out", {"n": n}, n)
    await connectors.flush(5)
    heard = Heard()
    await connectors.start_source(source("deep/er/out.jsonl"), heard)
    await until(lambda: len(heard.lines) == 1000, what="all lines")
    assert [json.loads(line)["n"] for line in heard.lines] == list(range(1000))
    assert heard.messages[0].subject == "out", "what an event is called that does not say it"
    assert connectors.health_reports()[0].connected
    await connectors.shutdown(1)


async def test_a_followed_file_is_read_on_and_a_half_line_waits_for_its_end(tmp_path: Path) -> None:
    path, heard = tmp_path / "a.jsonl", Heard()
    connectors = files(tmp_path)
    await connectors.start_source(source("a.jsonl", follow=True), heard)
    await until(lambda: not connectors.health_reports()[0].connected, what="a file that is not there, shown")
    path.write_bytes(b"one\ntw")
    await until(lambda: heard.lines == [b"one"], what="the first line")
    assert dict(connectors.positions) == {"file:F:a.jsonl": 4}
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    await until(lambda: heard.lines == [b"one", b"two", b"three"], what="the others")
    assert connectors.health_reports()[0].connected
    path.rename(tmp_path / "a.1")
    path.write_bytes(b"four\n")
    await until(lambda: heard.lines[3:] == [b"four"], what="the line of the new file of that name")
    path.write_bytes(b"x\n")
    await until(lambda: heard.lines[4:] == [b"x"], what="the line of the file that became shorter")
    await connectors.shutdown(1)


async def test_who_goes_on_from_a_position_loses_and_doubles_no_line(tmp_path: Path) -> None:
    lines = [str(n).encode() for n in range(5000)]
    (tmp_path / "a").write_bytes(b"\n".join(lines))
    heard: list[bytes] = []
    positions: dict[str, int] = {}
    while len(heard) < len(lines):
        connectors, before = files(tmp_path), len(heard)
        connectors.go_from(positions)
        stop = asyncio.Event()

        async def take(message: Message, before: int = before, stop: asyncio.Event = stop) -> None:
            heard.append(message.data)
            if len(heard) - before == 777 or len(heard) == len(lines):
                stop.set()
                await asyncio.sleep(0.01)

        await connectors.start_source(source("a"), take)
        await asyncio.wait_for(stop.wait(), 10)
        await connectors.drain_sources(5)
        positions = dict(connectors.positions)
        await connectors.shutdown(1)
    assert heard == lines


async def test_a_position_that_is_none_is_passed_over(tmp_path: Path) -> None:
    connectors = files(tmp_path)
    connectors.go_from({"file:F:a": "7", "file:F:b": -1, "file:F:c": True, "file:G:d": 5, "file:F:e": 5})
    assert dict(connectors.positions) == {"file:F:e": 5}


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=20))
async def test_whatever_lies_in_a_file_each_line_comes_once_and_is_an_event_or_refused(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    root, heard = tmp_path_factory.mktemp("files"), Heard()
    (root / "a").write_bytes(b"\n".join(lines))
    connectors = files(root)
    await connectors.start_source(source("a"), heard)
    wanted = [line for line in lines if line.strip()]
    await until(lambda: len(heard.lines) >= len(wanted), what="the lines")
    await connectors.shutdown(1)
    assert heard.lines == wanted
    for line in wanted:
        try:
            parse_event(line, "a", 0)
        except PayloadError as error:
            assert error.reason in ("bad_json", "not_an_object")


async def test_a_huge_line_is_cut_and_refused_and_the_next_one_comes_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5_000_000 + b"\n" + b'{"n": 1}\n' + b"y" * 3_000_000)
    connectors, heard = files(tmp_path), Heard()
    await connectors.start_source(source("a"), heard)
    await until(lambda: len(heard.lines) == 3, what="all three")
    await connectors.shutdown(1)
    assert heard.lines[1] == b'{"n": 1}'
    for line in (heard.lines[0], heard.lines[2]):
        assert len(line) < 1_100_000
        with pytest.raises(PayloadError, match="too_large"):
            parse_event(line, "a", 0)


def full_disk(room: list[int]) -> Callable[[int, bytes], int]:
    """Writes as long as there is room, then as a full disk does: a part, and then nothing."""

    def write(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = os.write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    return write


async def test_a_full_disk_is_shown_and_counted_and_leaves_no_half_line_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender, "MAX_BUFFER", 100)
    room = [25]
    descriptor = open_below(tmp_path, "a", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    writer = Appender(descriptor, "a", "always", full_disk(room))
    for _ in range(3):
        writer.put(b"123456789")
    await until(lambda: "make room" in writer.error, what="the error")
    taken = 3
    with pytest.raises(OutputDropped) as dropped:
        while taken < 20:
            writer.put(b"123456789")
            taken += 1
    assert dropped.value.reason == "disk_full"
    assert 10 <= taken <= 12, "a hundred bytes, and what was written before the disk was full"
    assert not await writer.flush(0.05), "it does not say that all is written"
    room[0] = 10_000
    assert await writer.flush(5) and not writer.error
    await writer.close(1)
    assert (tmp_path / "a").read_bytes() == b"123456789\n" * taken
    assert writer.lost == 0


async def test_what_could_not_be_written_until_the_end_is_counted_as_lost(tmp_path: Path) -> None:
    descriptor = open_below(tmp_path, "a", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    writer = Appender(descriptor, "a", "never", full_disk([0]))
    writer.put(b"1")
    writer.put(b"2")
    await writer.close(0.1)
    assert writer.lost == 2


async def test_a_line_that_a_death_cut_off_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'{"n": 1}\n{"n": ')
    connectors = files(tmp_path)
    out = await connectors.create_sink(sink("a", format="flat"))
    await out.send("Out", {"n": 3}, 5)
    await connectors.shutdown(5)
    first, torn, last = (tmp_path / "a").read_bytes().splitlines()
    assert (first, torn) == (b'{"n": 1}', b'{"n": ') and json.loads(last)["n"] == 3


async def test_a_copy_that_is_to_take_over_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="undeploy"):
        await files(tmp_path).watch_source(source("a"), lambda message: None)


@pytest.mark.parametrize(
    ("params", "text"), [({"sync": "now"}, "always, interval, never"), ({"snyc": "always"}, "unknown param")]
)
async def test_wrong_parameters_of_files_are_refused(params: dict[str, Any], text: str) -> None:
    with pytest.raises(ConnectorError, match=text):
        files(None, **params)
