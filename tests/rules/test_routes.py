"""Which action a request is: a literal before a parameter, and never two."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.errors import Code, Refusal
from app.rules.ids import ActionId
from app.rules.routes import ByPath, ByScope, Route, RouteTable, Unroutable, clash, fill, fits, parse_template


def route(
    template: str, *, id: str = "", method: str = "GET", upstream: str = "api", scope: str = "a:b"
) -> Route:
    """An action; its id is its template unless told."""
    return Route(
        ActionId(id or template),
        upstream,
        scope,
        method,
        template,
        parse_template(template),
        idempotent=False,
        cost_units=1,
        schema=None,
        has_sandbox=False,
    )


def found(templates: Sequence[str], path: str) -> str | None:
    """The template that a path of the one upstream leads to."""
    table = RouteTable(route(each) for each in templates)
    routes = table.find(ByPath("api", "GET", tuple(path[1:].split("/"))))
    assert len(routes) <= 1
    return routes[0].template if routes else None


@pytest.mark.parametrize(
    ("templates", "path", "template"),
    [
        (["/a"], "/a", "/a"),
        (["/a"], "/b", None),
        (["/a"], "/a/b", None),
        (["/a/b"], "/a", None),
        (["/{x}"], "/anything", "/{x}"),
        (["/r/{id}"], "/r/42", "/r/{id}"),
        (["/r/{id}"], "/r", None),
        # a literal wins over a parameter, in whatever order they were defined
        (["/r/{id}", "/r/latest"], "/r/latest", "/r/latest"),
        (["/r/latest", "/r/{id}"], "/r/latest", "/r/latest"),
        (["/r/latest", "/r/{id}"], "/r/7", "/r/{id}"),
        # the first segment where they differ decides
        (["/{x}/b", "/a/{y}"], "/a/b", "/a/{y}"),
        (["/{x}/b", "/a/{y}"], "/z/b", "/{x}/b"),
        # a literal that leads nowhere is given up again
        (["/a/{y}/c", "/{x}/b/d"], "/a/b/d", "/{x}/b/d"),
        (["/a/b/c", "/{x}/{y}/{z}"], "/a/b/x", "/{x}/{y}/{z}"),
        (["/a/b/c", "/a/{y}/d", "/{x}/b/e"], "/a/b/e", "/{x}/b/e"),
    ],
)
def test_a_path_leads_to_the_most_literal_template_that_fits(
    templates: list[str], path: str, template: str | None
) -> None:
    assert found(templates, path) == template


@pytest.mark.parametrize(
    "target",
    [
        ByPath("api", "POST", ("a",)),
        ByPath("other", "GET", ("a",)),
        ByPath("api", "get", ("a",)),
        ByPath("api", "GET", ("A",)),
        ByPath("api", "GET", None),
        ByPath("api", "GET", ()),
        ByScope("a:c", None),
        ByScope("a:b", ActionId("another")),
    ],
)
def test_another_method_upstream_spelling_or_scope_leads_nowhere(target: ByPath | ByScope) -> None:
    assert RouteTable([route("/a")]).find(target) == []


def test_one_path_can_be_two_actions_by_its_method() -> None:
    table = RouteTable([route("/a", id="read"), route("/a", id="write", method="POST")])
    assert [each.action_id for each in table.find(ByPath("api", "POST", ("a",)))] == ["write"]


def test_a_scope_leads_to_all_its_actions_until_one_is_named() -> None:
    table = RouteTable(
        [route("/a", id="1"), route("/b", id="2", upstream="other"), route("/c", id="3", scope="x:y")]
    )
    assert [each.action_id for each in table.find(ByScope("a:b", None))] == ["1", "2"]
    assert [each.action_id for each in table.find(ByScope("a:b", ActionId("2")))] == ["2"]


@pytest.mark.parametrize(
    "template",
    [
        *("", "a", "/", "//", "/a/", "/a//b", "/..", "/a/./b", "/a/../b"),
        *("/a?b", "/a#b", "/a;b", "/a%20b", "/a\\b", "/a\nb", "/a\0"),
        *("/{}", "/{1a}", "/{a-b}", "/{a", "/a}", "/x{a}", "/{a}x", "/{a}{b}", "/{{a}}", "/{a}/{a}"),
    ],
)
def test_a_template_that_is_none_says_why(template: str) -> None:
    with pytest.raises(Unroutable) as raised:
        parse_template(template)
    assert str(raised.value)


def test_a_parameter_with_a_colon_is_told_how_it_is_written_here() -> None:
    with pytest.raises(Unroutable, match=r"':id'.*\{id\}"):
        parse_template("/v1/books/:id")
    assert parse_template("/v1/books:batch") == ("v1", "books:batch")
    assert parse_template("/v1/:7") == ("v1", ":7")


def test_two_templates_that_differ_in_names_alone_clash() -> None:
    refusal = clash(parse_template("/r/{key}"), [route("/r/{id}", id="act_1")], "GET")
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.TAKEN, ("path",))
    assert "act_1" in refusal.message


@pytest.mark.parametrize(
    ("template", "method"), [("/r/latest", "GET"), ("/r/{id}", "POST"), ("/r/{id}/x", "GET")]
)
def test_a_literal_another_method_or_another_length_does_not_clash(template: str, method: str) -> None:
    assert clash(parse_template(template), [route("/r/{id}")], method) is None


some_segments = some.lists(some.sampled_from(["a", "b", "{x}", "{y}", "{z}"]), min_size=1, max_size=3)
some_templates = some_segments.filter(lambda parts: len({*parts}) == len(parts)).map(
    lambda parts: "/" + "/".join(parts)
)


@given(some.lists(some_templates, max_size=8), some.lists(some.sampled_from("abc"), min_size=1, max_size=3))
def test_of_templates_that_may_stand_together_no_two_fit_a_request_alike(
    templates: list[str], path: list[str]
) -> None:
    routes: list[Route] = []
    for template in templates:
        if clash(parse_template(template), routes, "GET") is None:
            routes.append(route(template))
    fitting = [each.segments for each in routes if _fits(each.segments, path)]
    best = min(fitting, key=lambda parts: [part is None for part in parts], default=None)
    answer = RouteTable(routes).find(ByPath("api", "GET", tuple(path)))
    assert [each.segments for each in answer] == ([best] if best else [])


def _fits(segments: Sequence[str | None], path: list[str]) -> bool:
    return len(segments) == len(path) and all(
        part in (None, given) for part, given in zip(segments, path, strict=True)
    )


@given(some.lists(some_templates, max_size=8), some.lists(some.sampled_from("abc"), min_size=1, max_size=3))
def test_what_a_request_leads_to_is_among_what_it_fits(templates: list[str], path: list[str]) -> None:
    target = ByPath("api", "GET", tuple(path))
    routes = [route(each) for each in templates]
    assert [fits(each, target) for each in routes] == [_fits(each.segments, path) for each in routes]
    assert all(fits(each, target) for each in RouteTable(routes).find(target))


@pytest.mark.parametrize(
    ("target", "fitting"),
    [
        (ByPath("api", "GET", ("r", "7")), True),
        (ByPath("api", "GET", ("r",)), False),
        (ByPath("api", "GET", ("r", "7", "x")), False),
        (ByPath("api", "GET", ("q", "7")), False),
        (ByPath("api", "POST", ("r", "7")), False),
        (ByPath("other", "GET", ("r", "7")), False),
        (ByPath("api", "GET", None), False),
        (ByScope("a:b", None), True),
        (ByScope("a:b", ActionId("act_1")), True),
        (ByScope("a:b", ActionId("act_2")), False),
        (ByScope("a:c", None), False),
        (ByScope("a:c", ActionId("act_1")), False),
    ],
)
def test_a_request_fits_an_action_by_all_that_it_says(target: ByPath | ByScope, fitting: bool) -> None:
    action = route("/r/{id}", id="act_1")
    assert fits(action, target) == fitting
    assert (RouteTable([action]).find(target) == [action]) == fitting


def test_parameters_are_filled_in_by_name() -> None:
    assert fill(route("/a/{x}/b/{y}"), {"y": "2", "x": "1 é"}) == ("a", "1 é", "b", "2")
    assert fill(route("/a"), {}) == ("a",)


@pytest.mark.parametrize("given", [{}, {"x": "1"}, {"x": "1", "y": "2", "z": "3"}, {"X": "1", "y": "2"}])
def test_missing_or_unknown_parameters_are_refused(given: dict[str, str]) -> None:
    refusal = fill(route("/{x}/{y}"), given)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.path) == (Code.INVALID, ("pathParameters",))


@pytest.mark.parametrize(
    "value", ["", ".", "..", "..;x", "a/b", "a\\b", "a\0", "%2e%2e", "a%2fb", "\uff0e\uff0e", "a\n"]
)
def test_a_parameter_cannot_leave_its_segment(value: str) -> None:
    refusal = fill(route("/r/{id}"), {"id": value})
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.path) == (Code.INVALID, ("pathParameters", "id"))
