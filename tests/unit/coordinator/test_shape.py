"""What is refused of a group before any program is looked at, and with which words."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.api.shape import MAX_INSTANCES, check_shape, cycle_in
from proto_schemas.codec import decode, encode
from proto_schemas.errors import WireError
from proto_schemas.rest.groups import GroupSpec


def spec(*pipelines: dict[str, Any], routes: list[tuple[str, str]] | None = None, **more: Any) -> GroupSpec:
    """A group as it comes over the wire; routes as (from, to)."""
    arrows = [
        {"from_pipeline": start, "to_pipeline": end, "event_types": ["*"]} for start, end in routes or []
    ]
    body = {"name": "g", "pipelines": [{"source": "-", **each} for each in pipelines], "routes": arrows}
    return decode(encode({**body, **more}), GroupSpec)


def named(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


def refusal(group: GroupSpec) -> str:
    with pytest.raises(WireError) as caught:
        check_shape(group, "varpulis.cluster")
    assert caught.value.status == 400
    return caught.value.error


def constraint(**fields: Any) -> dict[str, Any]:
    return {"name": "p", "constraints": [fields]}


@pytest.mark.parametrize(
    ("pipelines", "text"),
    [
        ([{"name": "a", "replicas": 2}, {"name": "a-1"}], "$.pipelines[1].name: an instance of 'a'"),
        ([{"name": "a-1"}, {"name": "a", "replicas": 2}], "$.pipelines[0].name: an instance of 'a'"),
        ([{"name": "a", "replicas": 11}, {"name": "a-1", "replicas": 2}], "is called 'a-1'"),
        ([{"name": "x" * 62, "replicas": 11}], "$.pipelines[0].name: 62 characters, at most 61"),
        ([{"name": f"p{n}", "replicas": 1000} for n in range(11)], f"at most {MAX_INSTANCES}"),
    ],
)
def test_no_two_instances_are_called_the_same_and_every_name_fits(
    pipelines: list[dict[str, Any]], text: str
) -> None:
    assert text in refusal(spec(*pipelines))


def test_a_name_that_only_looks_like_an_instance_is_a_name() -> None:
    check_shape(spec({"name": "a", "replicas": 2}, {"name": "a-2"}, {"name": "a-01"}), "c")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"op": "="}, "[0]: give a label and an op"),
        ({"label": "zone"}, "[0].op: missing: use one of =, !="),
        ({"label": "zone", "op": "="}, "[0].value: op = needs one"),
        ({"label": "zone", "op": "exists", "value": "a"}, "[0].value: op exists takes none"),
        ({"label": "zone", "op": "in"}, "[0].values: op in needs a list"),
        ({"label": "zone", "op": "in", "values": []}, "[0].values: op in needs a list"),
        ({"label": "zone", "op": "=", "value": "a", "values": ["b"]}, "[0].values: op = takes none"),
        ({"distinct_workers": "hard", "label": "zone"}, "[0]: distinct_workers and label are two"),
        ({"distinct_workers": "soft", "weight": 5}, "[0].distinct_workers: "),
        ({"distinct_workers": "soft", "hard": False}, "[0].distinct_workers: "),
        ({"label": "zone", "op": "exists", "weight": 5}, "[0].weight: only a soft"),
    ],
)
def test_a_constraint_that_says_nothing_clear_is_refused_with_its_path(
    fields: dict[str, Any], text: str
) -> None:
    assert f"$.pipelines[0].constraints{text}" in refusal(spec(constraint(**fields)))


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"label": "zone", "op": "~"}, "$.pipelines[0].constraints[0].op"),
        ({"distinct_workers": "perhaps"}, "$.pipelines[0].constraints[0].distinct_workers"),
        ({"label": "zone", "op": "exists", "weight": 0}, "$.pipelines[0].constraints[0].weight"),
        ({"label": 7, "op": "exists"}, "$.pipelines[0].constraints[0].label"),
    ],
)
def test_a_constraint_of_another_type_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(WireError) as caught:
        spec(constraint(**fields))
    assert path in caught.value.error


@pytest.mark.parametrize(
    "fields",
    [
        {"label": "zone", "op": "=", "value": "eu"},
        {"label": "zone", "op": "not_in", "values": ["eu"], "hard": False, "weight": 100},
        {"label": "gpu", "op": "not_exists"},
        {"distinct_workers": "hard"},
    ],
)
def test_sound_constraints_are_taken(fields: dict[str, Any]) -> None:
    check_shape(spec(constraint(**fields)), "c")


@pytest.mark.parametrize("strategy", ["best", "spread:", "spread:a:b", "binpack:zone", ""])
def test_an_unknown_strategy_is_refused_with_its_path(strategy: str) -> None:
    with pytest.raises(WireError, match=r"\$\.strategy"):
        spec(*named("a"), strategy=strategy)


# -- routes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (
            ("a", "filtr"),
            "$.routes[0].to_pipeline: there is no pipeline 'filtr' in this group: did you mean 'filter'?",
        ),
        (
            ("extern", "a"),
            "$.routes[0].from_pipeline: there is no pipeline 'extern' in this group: did you mean '_ext",
        ),
        (("a", "many-1"), "routes name the pipeline, 'many', and not one of its instances"),
        (("a", "zzz"), "there are a, filter, many"),
        (("a", "_external"), "$.routes[0].to_pipeline: there is no pipeline '_external'"),
    ],
)
def test_a_route_that_names_nobody_is_refused_with_the_name_that_was_meant(
    route: tuple[str, str], text: str
) -> None:
    pipelines = [*named("a", "filter"), {"name": "many", "replicas": 2}]
    assert text in refusal(spec(*pipelines, routes=[route]))


@pytest.mark.parametrize("pattern", ["", "*Door", "Do*or", "**"])
def test_a_pattern_that_would_never_match_is_refused(pattern: str) -> None:
    routes = [{"from_pipeline": "_external", "to_pipeline": "a", "event_types": ["In", pattern]}]
    group = decode(
        encode({"name": "g", "pipelines": [{"name": "a", "source": "-"}], "routes": routes}), GroupSpec
    )
    assert "$.routes[0].event_types[1]" in refusal(group)


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ([("a", "a")], "a -> a"),
        ([("a", "b"), ("b", "a")], "a -> b -> a"),
        ([("_external", "a"), ("a", "b"), ("b", "c"), ("c", "b")], "b -> c -> b"),
    ],
)
def test_a_circle_of_routes_is_named_and_only_allowed_when_declared(
    routes: list[tuple[str, str]], words: str
) -> None:
    names = named("a", "b", "c")
    assert f"in a circle: {words}:" in refusal(spec(*names, routes=routes))
    check_shape(spec(*names, routes=routes, allow_cycles=True), "c")


def test_ways_that_meet_again_are_no_circle() -> None:
    check_shape(
        spec(*named("a", "b", "c", "d"), routes=[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]), "c"
    )


@given(arrows=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=12))
def test_a_circle_is_found_exactly_when_there_is_one(arrows: list[tuple[str, str]]) -> None:
    reach = {name: {end for start, end in arrows if start == name} for name in "abcdef"}
    for _ in "abcdef":
        for name in reach:
            reach[name] |= set().union(*(reach[end] for end in reach[name]), set())
    cycle = cycle_in(arrows)
    assert bool(cycle) == any(name in reach[name] for name in reach)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert all(step in arrows for step in pairwise(cycle))
