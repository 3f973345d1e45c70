"""Subjects and headers: nothing that passes can break a frame."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import ErrorKind, NatsTransportError
from transport.frames import MAX_SUBJECT, Subjects, check_reply, header_block


@given(st.text())
def test_a_subject_that_passes_is_one_token_list_without_anything_special(subject: str) -> None:
    subjects = Subjects()
    try:
        subjects.check(subject)
    except NatsTransportError as error:
        assert error.kind is ErrorKind.BAD_SUBJECT
        assert subject not in subjects.known
        return
    assert len(subject.encode()) <= MAX_SUBJECT
    assert len(subject.split()) == 1
    assert all(token not in ("", "*", ">") for token in subject.split("."))


@given(st.text(alphabet="aZ9_-.*> \n\t\x00\x7f\u00e9\u2003", max_size=8))
def test_an_inbox_passes_whenever_the_same_tokens_elsewhere_would(tokens: str) -> None:
    assert _passes(f"_INBOX.{tokens}") == _passes(f"elsewhere.{tokens}")


def _passes(subject: str) -> bool:
    try:
        Subjects().check(subject)
    except NatsTransportError:
        return False
    return True


@given(st.text())
def test_a_reply_that_passes_has_no_space_and_no_line_end(reply: str) -> None:
    try:
        check_reply(reply)
    except NatsTransportError as error:
        assert error.kind is ErrorKind.BAD_SUBJECT
        return
    assert len(reply.split()) == 1


@given(st.dictionaries(st.text(), st.text(), min_size=1))
def test_headers_that_pass_are_one_line_each(headers: dict[str, str]) -> None:
    try:
        block = header_block(headers)
    except NatsTransportError as error:
        assert error.kind is ErrorKind.BAD_PAYLOAD
        return
    assert block.endswith(b"\r\n\r\n")
    assert block.count(b"\r\n") == len(headers) + 2
    assert block.count(b"\n") == block.count(b"\r") == len(headers) + 2


def test_subjects_that_are_remembered_are_bounded() -> None:
    subjects = Subjects()
    for number in range(10_000):
        subjects.check(f"a.{number}")
    assert len(subjects.known) <= 5_000


@pytest.mark.parametrize("value", ["", "plain", "größe 日本", "a: b"])
def test_a_header_value_of_any_language_is_carried(value: str) -> None:
    assert f"Key: {value}".encode() in header_block({"Key": value})
