"""A gateway that is none, or means ill: one line, nothing that a terminal obeys, and never a traceback."""

import orjson
import pytest

from app.egress.client import Egress
from app.listen import following
from app.listen.asking import ANYWHERE, LARGEST, Gateway, Stopped
from app.rules.entries import canonical, leaf_hash
from app.rules.ids import TenantId
from tests.upstreams import Answer, sized, upstream

#: What a gateway has no reason to answer.
_ODD: list[object] = [
    *({}, {"data": None}, {"data": {}}, {"data": {"viewer": None}}, {"errors": []}),
    *(
        {"errors": [1]},
        {"errors": "x"},
        {"errors": {"a": 1}},
        {"errors": [{"message": "x", "extensions": 7}]},
    ),
    {
        "data": {
            "viewer": {"subject": 1, "role": [], "tenant": {"id": 5, "slug": {}}},
            "auditLog": {"edges": [{}]},
        }
    },
]


async def test_whatever_a_gateway_answers_there_is_a_line_and_no_control_character() -> None:
    async with upstream() as liar:
        gateway, egress = Gateway(liar.url, "cgk_x"), Egress(ANYWHERE)
        for odd in _ODD:
            liar.play = Answer(orjson.dumps(odd))
            with pytest.raises(Stopped):
                await following.introduce(egress, gateway)
        liar.play = Answer(orjson.dumps({"errors": [{"message": "\x1b]0;x\x07\r\n\u202e"}]}))
        with pytest.raises(Stopped, match=r"says : \\x1b\]0;x\\x07\\r\\n\\u202e$"):
            await following.introduce(egress, gateway)
        viewer = {"subject": "\x1b", "role": "\r", "tenant": {"id": "ten_1", "slug": "\n"}}
        liar.play = Answer(orjson.dumps({"data": {"viewer": viewer, "auditLog": {"edges": []}}}))
        listener = await following.introduce(egress, gateway)
        assert (listener.subject, listener.role, listener.slug) == (r"\x1b", r"\r", r"\n")
        await egress.close()


def _stop(line: str) -> None:
    """Instead of trying again."""
    raise Stopped(line)


async def test_whatever_a_gateway_streams_there_is_a_line_and_no_control_character() -> None:
    def sent(data: object) -> Answer:
        frame = b"event: next\ndata: %b\n\n" % orjson.dumps(data)
        return Answer(frame, headers=[("Content-Type", "text/event-stream")])

    def edge(**node: object) -> object:
        return {"data": {"delegationEvents": {"cursor": "c", "node": node}}}

    plain = dict.fromkeys(("delegation", "actingTenant", "targetTenant", "actingAgent"))
    evil = {"id": "aud_1", "event": "\x1b[2J", "occurredAt": "now"}
    links = {f"{name}Id": None for name in plain}
    form = canonical({**evil, **links, "tenantId": "ten_1"})
    listener = following.Listener(TenantId("ten_1"), "acme", "owner", "OWNER", "c")
    odd = [
        *({"data": None}, {"data": {}}, {"data": {"delegationEvents": 5}}, {"errors": [1]}, {"errors": "x"}),
        *({"errors": [{"message": "\x1b", "extensions": None}]}, edge(), edge(**plain, **evil)),
        edge(**plain, **evil, leafHash=leaf_hash(form)),
    ]
    async with upstream() as liar:
        plays: list[Answer] = [*map(sent, odd), sized(LARGEST + 1), Answer(orjson.dumps({"errors": [1]}))]
        for play in plays:
            liar.play = play
            entries = following.follow(Gateway(liar.url, "cgk_x"), listener, "c", (), _stop)
            with pytest.raises(Stopped) as stopped:
                await anext(entries)
            assert str(stopped.value).isprintable()
