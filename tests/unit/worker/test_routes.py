"""Where outputs go, and what a pipeline hears."""

import pytest

from proto_schemas.messages import Route
from proto_schemas.subjects import Subjects
from worker.routes import OutputRoutes, input_subjects

SUBJECTS = Subjects("c")


def route(to: str, *types: str, sender: str = "a", subject: str | None = None) -> Route:
    return Route(from_pipeline=sender, to_pipeline=to, event_types=list(types), nats_subject=subject)


def outputs(*routes: Route) -> OutputRoutes:
    return OutputRoutes(SUBJECTS, "g", "a", routes)


@pytest.mark.parametrize(
    ("wanted", "event_type", "goes"),
    [
        ("Door", "Door", True),
        ("Door", "Doors", False),
        ("Do*", "Door", True),
        ("Do*", "do", False),
        ("*", "anything", True),
        ("", "Door", False),
    ],
)
def test_a_type_of_a_route_is_exact_or_a_prefix_or_all(wanted: str, event_type: str, goes: bool) -> None:
    assert outputs(route("b", wanted)).subjects_of(event_type, {}) == (("c.pipeline.g.a.b",) if goes else ())


def test_two_routes_to_one_subject_publish_once() -> None:
    table = outputs(route("b", "X"), route("b", "*"), route("d", "X"))
    assert table.subjects_of("X", {}) == ("c.pipeline.g.a.b", "c.pipeline.g.a.d")


def test_routes_of_other_pipelines_do_not_concern_this_one() -> None:
    assert (
        outputs(route("a", "*", sender="z"), route("b", "*", sender="_external")).subjects_of("X", {}) == ()
    )


def test_a_route_may_name_a_subject_of_its_own() -> None:
    own = route("b", "*", subject="my.own")
    assert outputs(own).subjects_of("X", {}) == ("my.own",)
    assert input_subjects(SUBJECTS, "g", "b", [own]) == ("c.pipeline.g.*.b", "my.own")


def test_a_subject_heard_through_the_wildcard_is_not_subscribed_twice() -> None:
    routes = [route("b", "*", subject="c.pipeline.g.a.b"), route("b", "*", subject="c.pipeline.g.a.x.b")]
    assert input_subjects(SUBJECTS, "g", "b", routes) == ("c.pipeline.g.*.b", "c.pipeline.g.a.x.b")


@pytest.mark.parametrize("subject", ["", "a b", "a.*", "a.>", "a..b"])
def test_a_subject_nobody_could_publish_on_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="nats_subject"):
        input_subjects(SUBJECTS, "g", "b", [route("b", "*", subject=subject)])


@pytest.mark.parametrize("name", ["a.b", "*", ">", "", "a b"])
def test_a_name_that_would_reach_other_subjects_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not valid"):
        input_subjects(SUBJECTS, "g", name, [])
