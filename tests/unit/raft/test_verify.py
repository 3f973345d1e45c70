"""`verify`: what it says of healthy, damaged, running and foreign directories; and it changes nothing."""

import threading
from pathlib import Path
from shutil import copytree

import msgspec
import pytest

from raft.disk import Disk
from raft.entries import COMMAND, Entry, to_engine
from raft.errors import RaftError
from raft.generation import Generation, Shelf
from raft.journal import Identity, Journal
from raft.report import Report
from raft.segment import encode_entry
from raft.snapshot import Snapshot, SnapshotStore
from raft.verify import verify
from tests.unit.raft.crash import QuietDisk, lay_out
from tests.unit.raft.story import IDENTITY, Story, opened, tell

DATA = Path(__file__).parent / "data"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Three segments and a snapshot after entry 3."""
    story = Story(lay_out(tmp_path / "data", {}), QuietDisk())
    story.start()
    story.vote(2, "n2")
    story.add(1, 2, 3, 4)
    story.sync()
    story.compact(3)
    story.vote(3, "n1")
    story.cut_from(4)
    story.add(4, 5, 6, 7)
    story.sync()
    story.vote(4, "n3")
    story.add(8)
    story.sync()
    story.close()
    return tmp_path / "data"


def errors(report: Report) -> list[str]:
    return [found.text for found in report.findings if found.severity == "error"]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_healthy_directory_is_told_in_full_and_left_as_it_is(directory: Path) -> None:
    before = contents(directory)
    report = verify(directory)
    assert report.ok and report.findings == [] and report.generations == []
    assert (report.cluster, report.node, report.generation) == ("cluster", "n1", 1)
    assert (report.members, report.incarnation) == (["n1", "n2", "n3"], 1)
    assert (report.term, report.voted_for) == (4, "n3")
    assert (report.first_index, report.last_index) == (1, 8)
    first, second, third = report.segments
    assert (first.number, first.stands_alone, first.torn_bytes) == (1, True, 0)
    assert (first.first_index, first.last_index, first.records) == (1, 4, 7)
    assert (second.first_index, second.last_index, second.records) == (4, 7, 8)
    assert (third.number, third.stands_alone, third.last_index) == (3, False, 8)
    assert third.bytes == Path(third.file).stat().st_size
    assert report.snapshot is not None
    assert (report.snapshot.last_index, report.snapshot.last_term) == (3, 2)
    assert contents(directory) == before
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_a_report_is_what_a_start_finds(directory: Path) -> None:
    report = verify(directory)
    journal = opened(directory, QuietDisk())
    assert (report.first_index, report.last_index) == (journal.first_index, journal.last_index)
    assert (report.term, report.voted_for) == (journal.getCurrentTerm(), journal.getVotedForNodeId())
    assert journal.incarnation == (report.incarnation or 0) + 1
    journal.close()


def test_every_damaged_file_is_named_with_the_place_and_the_remedy(directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        damaged = bytearray(data)
        damaged[-3] ^= 1
        path.write_bytes(damaged)
        report = verify(directory)
        (found,) = [found for found in report.findings if found.severity == "error"]
        assert not report.ok and found.file == str(path)
        assert "replace the node under a new id" in found.text
        if path.name != "snapshot":
            assert 0 < found.offset < len(data) and f"byte {found.offset}" in found.text
        path.write_bytes(data)
    assert verify(directory).ok


def starts(directory: Path) -> bool:
    try:
        journal = opened(directory, QuietDisk())
    except RaftError:
        return False
    try:
        store = SnapshotStore(directory, IDENTITY.cluster, IDENTITY.generation, QuietDisk())
        store.check_beside(journal.first_index if len(journal) else None)
    except RaftError:
        return False
    finally:
        journal.close()
    return True


def test_an_error_is_reported_where_a_start_would_be_refused_and_only_there(
    directory: Path, tmp_path: Path
) -> None:
    healthy = {path.name: path.read_bytes() for path in directory.iterdir()}
    refused = 0
    for name, data in healthy.items():
        for at in range(0, len(data), 4):
            for rest in (b"", b"\xff" + data[at + 1 :], bytes(len(data) - at), data[at:] * 2):
                damaged = lay_out(tmp_path / "damaged", healthy | {name: data[:at] + rest})
                report = verify(damaged)
                assert report.ok == starts(damaged), report.findings
                refused += not report.ok
    assert refused > 500


def test_a_torn_tail_is_a_note_with_its_size(directory: Path) -> None:
    newest = max(directory.glob("journal-*.log"))
    size = newest.stat().st_size
    newest.write_bytes(newest.read_bytes() + encode_entry(Entry(COMMAND, 9, 4, b"half"))[:15])
    report = verify(directory)
    assert report.ok and report.segments[-1].torn_bytes == 15
    (note,) = report.findings
    assert (note.severity, note.file, note.offset) == ("note", str(newest), size)


def test_files_that_do_not_belong_together_are_errors(directory: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    Journal(theirs, Identity("cluster", "n2", 1, IDENTITY.members), disk=Disk()).close()
    (foreign,) = theirs.iterdir()
    (directory / "journal-0000000001.log").write_bytes(foreign.read_bytes())
    assert "by node 'n2', and the newest segment by 'n1'" in errors(verify(directory))[0]


def test_a_missing_segment_and_a_missing_snapshot_are_errors(directory: Path) -> None:
    segment = directory / "journal-0000000002.log"
    data = segment.read_bytes()
    segment.unlink()
    assert "segment 2 is missing" in errors(verify(directory))[0]
    segment.write_bytes(data)
    (directory / "journal-0000000001.log").unlink()
    assert verify(directory).ok, "the snapshot holds what is missing"
    (directory / "snapshot").unlink()
    (text,) = errors(verify(directory))
    assert "begins at entry 4, but the snapshot ends at 0" in text


def test_a_snapshot_of_another_cluster_is_an_error(directory: Path) -> None:
    entry = Entry(COMMAND, 3, 2, b"x")
    SnapshotStore(directory, "other", 1, Disk()).save(Snapshot(entry, entry, b""))
    assert "by cluster 'other', and the journal by 'cluster'" in errors(verify(directory))[0]


def test_a_snapshot_past_the_journal_is_a_note(directory: Path) -> None:
    """A node that stopped between the two steps of an install starts well."""
    SnapshotStore(directory, "cluster", 1, Disk()).save(
        Snapshot(Entry(COMMAND, 30, 4, b"x"), Entry(COMMAND, 29, 4, b"x"), b"")
    )
    report = verify(directory)
    assert report.ok and [found.severity for found in report.findings] == ["note"]


def test_an_empty_directory_and_a_missing_one_are_errors(tmp_path: Path) -> None:
    assert "there is no journal in it" in errors(verify(tmp_path))[0]
    assert "No such file or directory" in errors(verify(tmp_path / "nowhere"))[0]


def test_a_later_format_is_an_error_that_names_it(directory: Path) -> None:
    newest = max(directory.glob("journal-*.log"))
    newest.write_bytes(b"RAFTLOG7" + newest.read_bytes()[8:])
    assert "in format 7 by a later release" in errors(verify(directory))[0]


def test_a_snapshot_of_a_later_format_is_an_error_that_names_it(directory: Path) -> None:
    snapshot = directory / "snapshot"
    snapshot.write_bytes(b"RAFTSNP7" + snapshot.read_bytes()[8:])
    [error] = errors(verify(directory))
    assert f"{snapshot} was written in format 7 by a later release" in error
    assert "Start this node with the release that wrote it" in error


@pytest.mark.parametrize("name", ["journal-1", "journal-1-without-members"])
def test_the_files_of_an_older_release_are_healthy(tmp_path: Path, name: str) -> None:
    report = verify(copytree(DATA / name, tmp_path / "data"))
    assert report.ok and (report.first_index, report.last_index, report.term) == (1, 13, 5)
    assert report.members == (["c1", "c2", "c3"] if name == "journal-1" else [])


def a_later_generation(directory: Path, number: int) -> Path:
    """A generation below `directory`, with two entries."""
    generation = Generation(number, IDENTITY.members)
    shelf = Shelf(directory, IDENTITY.cluster, IDENTITY.node, QuietDisk())
    files = shelf.create(generation, learner=False)
    identity = Identity(IDENTITY.cluster, IDENTITY.node, number, IDENTITY.members)
    journal = Journal(files.directory, identity, disk=QuietDisk())
    for index in (1, 2):
        journal.add(*to_engine(Entry(COMMAND, index, 5, b"x")))
    journal.sync()
    journal.close()
    return files.directory


def test_the_newest_generation_is_the_one_that_must_be_healthy(directory: Path) -> None:
    below = a_later_generation(directory, 2)
    newest = a_later_generation(directory, 3)
    (below / "journal-0000000001.log").write_bytes(b"damaged")
    (directory / "journal-0000000002.log").unlink()
    report = verify(directory)
    assert report.ok and [part.generation for part in report.generations] == [None, 3]
    assert [part.directory for part in report.generations] == [str(below), str(newest)]
    assert {found.severity for part in (report, *report.generations) for found in part.findings} == {"note"}
    assert "older generation" in report.findings[0].text
    (newest / "journal-0000000001.log").write_bytes(b"damaged")
    report = verify(directory)
    assert not report.ok and not report.generations[-1].ok


def test_the_own_directory_may_be_empty_once_there_is_a_later_generation(tmp_path: Path) -> None:
    newest = a_later_generation(tmp_path, 2)
    report = verify(tmp_path)
    assert report.ok and report.findings == [] and report.segments == []
    (newest / "generation").write_bytes(b"damaged")
    report = verify(tmp_path)
    assert not report.ok
    assert report.generations[0].findings[0].file == str(newest / "generation")


def test_a_directory_in_use_is_healthy_at_every_moment(tmp_path: Path) -> None:
    """Between any two steps of a node's life, and while they happen."""
    story = Story(lay_out(tmp_path / "data", {}), Disk())
    for _ in tell(story):
        report = verify(story.directory)
        assert report.ok and (report.term or 0) <= story.states[-1].term, report.findings
    story.close()


def busy(directory: Path, looked: threading.Event) -> None:
    """A node that adds, rolls segments, compacts and starts again, until somebody has looked."""
    story = Story(lay_out(directory, {}), QuietDisk())
    story.start()
    story.vote(1, "n1")
    story.add(1, 2, 3)
    for index in range(4, 20_000):
        story.add(index)
        story.sync()
        if index % 40 == 0:
            story.compact(index - 2)
        if index % 100 == 0:
            story.close()
            story.start()
        del story.states[:-1]
        if looked.is_set():
            break
    story.close()


def test_a_directory_is_healthy_while_its_node_writes(tmp_path: Path) -> None:
    looked = threading.Event()
    (tmp_path / "data").mkdir()
    node = threading.Thread(target=busy, args=(tmp_path / "data", looked))
    node.start()
    try:
        rolled = 0
        while rolled < 200 and node.is_alive():
            report = verify(tmp_path / "data")
            if report.segments:
                assert report.ok, report.findings
                rolled = report.segments[-1].number
    finally:
        looked.set()
        node.join(30)
    assert rolled >= 200
