"""What a webhook says, how it is signed, and when it is tried again."""

from datetime import UTC, datetime

import orjson
import pytest
from standardwebhooks import Webhook

from app.rules import entries
from app.rules.entries import Event
from app.rules.errors import Code
from app.rules.ids import SECOND, EndpointId, EntryId, Instant, prefix_of
from app.rules.retry import (
    SCHEDULE,
    Accepted,
    Delivered,
    Failed,
    GiveUp,
    Gone,
    RetryAt,
    Verdict,
    due,
    judged,
)
from app.rules.webhooks import body_of, delivery_id, matching, refuse_events, render_secret, signatures

ENTRY = EntryId("aud_01890a5d-ac96-774b-bcce-b302099a8057")
ENDPOINT = EndpointId("whk_01890a5d-ac96-774b-bcce-b302099a8058")
NOW = Instant(1_790_000_000 * SECOND)
FAILED = Failed(500, "it answered with status 500")


def test_the_globs_of_an_endpoint_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    globs = ["delegation.re*", "*.created"]
    found = matching(globs)
    monkeypatch.setattr(entries, "translate", None)  # whoever compiles them again fails
    assert matching([*globs]) == found
    assert found == [
        "delegation.resumed",
        "delegation.revoked",
        "binding.created",
        "api_key.created",
        "webhook.created",
    ]


def test_the_default_schedule_is_that_of_the_contract() -> None:
    minutes, hours = 60, 3600
    delays = 0, 5, 5 * minutes, 30 * minutes, *(each * hours for each in (2, 5, 10, 14, 20, 24))
    assert delays == SCHEDULE


@pytest.mark.parametrize("failures", range(9))
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_each_failure_but_the_last_is_tried_again_after_its_delay_or_a_tenth_more(
    failures: int, chance: float
) -> None:
    verdict = judged(FAILED, failures, SCHEDULE, NOW, chance)
    assert isinstance(verdict, RetryAt)
    delay = (verdict.at - NOW) / SECOND
    assert SCHEDULE[failures + 1] <= delay <= SCHEDULE[failures + 1] * 1.1


@pytest.mark.parametrize(
    ("result", "failures", "verdict"),
    [
        (Accepted(200), 0, Delivered()),
        (Accepted(204), 9, Delivered()),
        (Gone(), 0, GiveUp("it answered 410 Gone")),
        (FAILED, 9, GiveUp("10 attempts failed; the last: it answered with status 500")),
        (FAILED, 50, GiveUp("51 attempts failed; the last: it answered with status 500")),
    ],
)
def test_everything_else_ends_it(result: Accepted | Gone | Failed, failures: int, verdict: Verdict) -> None:
    assert judged(result, failures, SCHEDULE, NOW, 0.5) == verdict


def test_what_failed_together_does_not_come_back_together() -> None:
    assert len({due(NOW, 300.0, chance / 10) for chance in range(10)}) == 10


def test_an_entrys_delivery_to_an_endpoint_has_one_id() -> None:
    id = delivery_id(ENTRY, ENDPOINT)
    assert id == delivery_id(ENTRY, ENDPOINT)
    assert prefix_of(id) == "whd"
    assert id.startswith("whd_01890a5d-ac96-8"), (
        "an instant, and a version that says nothing of how it goes on"
    )
    other = EndpointId(ENDPOINT[:-1] + "9"), EntryId(ENTRY[:-1] + "8")
    assert len({id, delivery_id(ENTRY, other[0]), delivery_id(other[1], ENDPOINT)}) == 3


def test_each_signature_is_the_reference_librarys() -> None:
    texts = [render_secret(bytes([n]) * 32) for n in (1, 2)]
    secrets = [bytes([n]) * 32 for n in (1, 2)]
    body = '{"name":"Zoë"}'.encode()
    at = datetime.fromtimestamp(NOW / SECOND, UTC)
    expected = [Webhook(text).sign("whd_x", at, body.decode()) for text in texts]
    assert signatures(secrets, "whd_x", NOW // SECOND, body) == " ".join(expected)


def test_the_body_is_json_with_the_entry_as_it_is() -> None:
    entry = '{"actor":null,"event":"agent.updated","seq":9007199254740991}'
    body = body_of("https://gateway.example", ENTRY, "agent.updated", "2026-01-01T00:00:00.000000Z", entry)
    assert entry.encode() in body
    assert orjson.loads(body) == {
        "data": orjson.loads(entry),
        "id": ENTRY,
        "source": "https://gateway.example",
        "specversion": "1.0",
        "time": "2026-01-01T00:00:00.000000Z",
        "type": "agent.updated",
    }


def test_globs_stand_for_events() -> None:
    assert matching(["*"]) == [event.value for event in Event]
    assert matching(["token.*", "delegation.offered"]) == [
        "delegation.offered",
        "token.issued",
        "token.rotated",
    ]


@pytest.mark.parametrize("globs", [["*"], ["delegation.*"], ["webhook.test"], ["*"] * 50])
def test_what_means_events_is_taken(globs: list[str]) -> None:
    assert refuse_events(globs) is None


@pytest.mark.parametrize(
    "globs", [[], ["x"], ["delegation.*", ""], ["delegation"], ["*"] * 51, ["*" * 101], ["["]]
)
def test_what_means_no_event_is_refused(globs: list[str]) -> None:
    refusal = refuse_events(globs)
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.INVALID, ("events",))
