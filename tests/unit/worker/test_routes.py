"""Where outputs go, and what a pipeline hears."""

import pytest

from proto_schemas.messages.deploys import Instance, Partition, Route
from proto_schemas.partition import Owners
from proto_schemas.subjects import Subjects
from worker.intake import Intake
from worker.routes import OutputRoutes, input_subjects, lines_of

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


# -- instances ----------------------------------------------------------------------------------------------


def instance(number: int, key: str | None = None) -> Instance:
    return Instance(of="b", number=number, count=3, key=key)


def test_a_sender_publishes_to_the_owner_of_the_key_and_a_route_s_own_subject_to_all() -> None:
    routes = [route("b", "*"), route("d", "*"), route("b", "Own", subject="my.own")]
    table = OutputRoutes(SUBJECTS, "g", "a", routes, {"b": Partition(key="k", count=3)})
    for key in ("x", "y", 1, None):
        owner = f"c.pipeline.g.a.b-{Owners(3).of(key)}"
        assert table.subjects_of("X", {"k": key}) == ("c.pipeline.g.a.d", owner)
    assert table.subjects_of("X", {}) == table.subjects_of("X", {"k": None})
    assert set(table.subjects_of("Own", {})) >= {"my.own", "c.pipeline.g.a.d"}


def test_an_instance_hears_its_pipeline_s_subjects_and_by_key_also_its_own() -> None:
    own = route("b", "*", subject="my.own")
    assert input_subjects(SUBJECTS, "g", "b-1", [own], instance(1)) == ("c.pipeline.g.*.b", "my.own")
    assert input_subjects(SUBJECTS, "g", "b-1", [own], instance(1, "k")) == (
        "c.pipeline.g.*.b",
        "c.pipeline.g.*.b-1",
        "my.own",
    )


# -- what a copy keeps --------------------------------------------------------------------------------------


def external(to: str, *types: str, subject: str | None = None) -> Route:
    return route(to, *types, sender="_external", subject=subject)


def intake(*routes: Route, of: Instance | None = None, name: str = "b") -> Intake:
    return Intake(SUBJECTS, "g", name, routes, of)


def test_a_copy_that_no_rule_concerns_has_no_intake() -> None:
    assert not intake(route("b", "*"))
    assert not intake(of=instance(0), name="b-0")
    assert intake(of=instance(0, "k"), name="b-0")


@pytest.mark.parametrize(
    ("subject", "event_type", "taken"),
    [
        ("c.pipeline.g._external.b", "Door", True),
        ("c.pipeline.g._external.b", "Window", False),
        ("c.pipeline.g.a.b", "Window", True),
        ("my.own", "Lift", True),
        ("my.own", "Door", False),
        ("a.connectors.topic", "Window", True),
    ],
)
def test_from_outside_only_what_a_route_leads_here(subject: str, event_type: str, taken: bool) -> None:
    rules = intake(external("b", "Door*"), external("b", "Lift", subject="my.own"))
    assert (rules.owner(subject, event_type, {}) is not None) is taken
    assert rules.no_route == (not taken)


def test_routes_from_outside_to_others_close_the_way_from_outside_to_this_one() -> None:
    rules = intake(external("d", "*"))
    assert rules.owner("c.pipeline.g._external.b", "Door", {}) is None
    assert rules.owner("c.pipeline.g.a.b", "Door", {}) is not None


def test_each_key_is_kept_by_one_instance_and_what_was_sent_to_it_by_name_always() -> None:
    instances = [intake(of=instance(number, "k"), name=f"b-{number}") for number in range(3)]
    for key in ("x", "y", "z", 1, 2, 3):
        kept = [rules.owner("c.pipeline.g.a.b", "X", {"k": key}) is not None for rules in instances]
        assert kept.count(True) == 1
        assert kept.index(True) == Owners(3).of(key)
        assert all(
            rules.owner(f"c.pipeline.g.a.b-{number}", "X", {"k": key}) is not None
            for number, rules in enumerate(instances)
        )
    assert sum(rules.others for rules in instances) == 12
    assert sum(rules.without_key for rules in instances) == 0


def test_an_event_without_the_key_is_kept_once_and_counted() -> None:
    instances = [intake(of=instance(number, "k"), name=f"b-{number}") for number in range(3)]
    kept = [rules.owner("c.pipeline.g.a.b", "X", {}) is not None for rules in instances]
    assert kept.index(True) == Owners(3).of(None) and kept.count(True) == 1
    assert [rules.without_key for rules in instances] == [int(each) for each in kept]
    instances[0].owner("c.pipeline.g.a.b-0", "X", {"k": None})
    assert sum(rules.without_key for rules in instances) == 1, "null is a key"


@pytest.mark.parametrize(("shares", "count"), [(2, 3), (3, 2), (4, 2), (2, 5), (5, 3)])
def test_where_shares_stayed_one_instance_takes_an_event_and_knows_whose_it_is(
    shares: int, count: int
) -> None:
    subjects, owners, cut = Subjects("c"), Owners(count), Owners(shares)
    taken_by = {number: range(number, shares, count) for number in range(count)}
    instances = [
        Instance(
            of="b",
            number=number,
            count=count,
            key="k",
            shares=shares,
            lines={str(share): f"line-{share}" for share in taken if share != number},
        )
        for number, taken in taken_by.items()
    ]
    rules = [Intake(subjects, "g", f"b-{each.number}", [], each) for each in instances]
    lines = [lines_of(subjects, "g", f"b-{each.number}", [], each, "own") for each in instances]
    heard = sorted(line.share or 0 for of_one in lines for line in of_one if line.sources)
    assert heard == list(range(shares)), "each share is heard by one"
    for key in [f"c-{number}" for number in range(60)]:
        told = [
            rule.owner("c.pipeline.g._external.b", "X", {"k": key}, line.share)
            for rule, of_one in zip(rules, lines, strict=True)
            for line in of_one
            if line.sources
        ]
        assert [each for each in told if each is not None] == [owners.of(key)]
        share, owner = cut.of(key), owners.of(key)
        direct = rules[share % count].owner(f"c.pipeline.g.a.b-{share}", "X", {"k": key}, share)
        assert direct == owner, "also of what its sender sorted out"
        passed_on = rules[owner].owner(f"c.pipeline.g._relayed.b-{owner}", "X", {"k": key}, owner)
        assert passed_on == owner, "and what was passed on stays"
