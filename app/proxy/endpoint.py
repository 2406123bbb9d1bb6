"""`ANY /proxy/{upstream}/{path}`: from a socket to an attempt, and from a result back to it."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from app.edge.address import client_ip
from app.edge.body import Gone, Late, TooLarge, announced, read_body, unbounded
from app.edge.budget import NoRoom
from app.edge.problem import not_found, send_problem
from app.proxy.answers import Answered, Denied, limit_headers, told
from app.proxy.attempts import Attempt, ByToken, Content, Key
from app.proxy.perform import FORWARDED, Performer
from app.proxy.uploads import SMALL, Uploads
from app.rules.admission import Ask
from app.rules.errors import Code, Unavailable
from app.rules.ids import DispatchId
from app.rules.limits import LARGEST_REQUEST
from app.rules.paths import is_query, parse_path, wire_path
from app.rules.routes import ByPath
from app.rules.tokens import TokenKind, well_formed
from app.settings import Network
from app.store.engine import Store
from app.store.keys import Keys, new_id

PREFIX = "/proxy/"
_PREFIX = PREFIX.encode()
BODY_SECONDS = 30.0
LONGEST_KEY = 255
_RECORDED = 1_024  # bytes of a path that is no plain one

_FORWARDED = {name.encode(): name for name in FORWARDED}

#: Beside our own headers, on whatever came from an upstream: a browser neither guesses its type nor runs it.
_GUARDS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox"),
    (b"cache-control", b"no-store"),
)


class Proxy:
    """The ASGI application."""

    def __init__(
        self, store: Store, performer: Performer, keys: Keys, trusted_proxies: Sequence[Network]
    ) -> None:
        self._uploads = Uploads(store)
        self._performer = performer
        self._keys = keys
        self._trusted = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["raw_path"].startswith(_PREFIX):  # `/%70roxy/…`: only the decoded path led here
            await not_found(scope, send)
            return
        headers = dict(scope["headers"])
        token = _bearer(headers)
        if token is None:
            await _refuse(send, Denied(Code.TOKEN_INVALID))
        elif b"crossgrant-dispatch-id" in headers:
            await _refuse(send, Denied(Code.LOOP_DETECTED))
        elif headers.get(b"content-encoding", b"identity").lower() != b"identity":
            await _refuse(send, Denied(Code.ENCODING_NOT_SUPPORTED))
        else:
            call = _Call(scope, headers, self._keys.hash(token), receive, send)
            if announced(scope, LARGEST_REQUEST) <= SMALL:
                await self._answer(call, await _read(call, SMALL, Code.REQUEST_TOO_LARGE))
            else:
                await self._receive(call)

    async def _receive(self, call: "_Call") -> None:
        whose = await self._uploads.whose(call.token_hash)
        if whose in (Code.TOKEN_INVALID, Code.UNAVAILABLE):
            await _refuse(call.send, Denied(Code(whose)))
            return
        if isinstance(whose, Code):
            # A small body is read all the same: then its refusal is recorded like any other.
            await self._answer(call, await _read(call, SMALL, whose))
            return
        with self._uploads.room(whose) as room:
            try:
                body = await _read(call, LARGEST_REQUEST, Code.REQUEST_TOO_LARGE, room.take)
            except NoRoom:
                body = Code.OVERLOADED
            await self._answer(call, body)

    async def _answer(self, call: "_Call", body: bytes | Code | None) -> None:
        if isinstance(body, bytes):
            await self._perform(call.scope, call.headers, call.token_hash, body, call.send)
        elif body is not None:
            await _refuse(call.send, Denied(body))

    async def _perform(
        self, scope: Scope, headers: Mapping[bytes, bytes], token_hash: str, body: bytes, send: Send
    ) -> None:
        key = headers.get(b"idempotency-key")
        if key is not None and not 1 <= len(key) <= LONGEST_KEY:
            detail = f"Idempotency-Key must have 1 to {LONGEST_KEY} characters."
            await send_problem(send, 400, Code.BAD_USER_INPUT, detail)
            return
        query: bytes = scope["query_string"]
        if not is_query(query):
            detail = "The query string holds characters that RFC 3986 does not allow: percent-encode them."
            await send_problem(send, 400, Code.BAD_USER_INPUT, detail)
            return
        attempt = self._attempt(scope, token_hash, body, key)
        content = Content(query.decode("ascii"), _forwarded(headers), body)
        try:
            result = await self._performer.perform(attempt, content)
        except Unavailable:
            result = Denied(Code.OVERLOADED)
        if isinstance(result, Answered):
            await _answer(send, result)
        else:
            await _refuse(send, result)

    def _attempt(self, scope: Scope, token_hash: str, body: bytes, key: bytes | None) -> Attempt:
        raw: bytes = scope["raw_path"][len(_PREFIX) :]
        upstream, slash, rest = raw.partition(b"/")
        upstream_name = _shown(upstream)
        segments = parse_path(slash + rest)
        method: str = scope["method"]
        path = wire_path(segments) if segments else _shown(slash + rest)
        return Attempt(
            id=DispatchId(new_id("dsp")),
            by=ByToken(token_hash),
            ask=Ask(ByPath(upstream_name, method, segments), client_ip(scope, self._trusted), len(body)),
            upstream_name=upstream_name,
            method=method,
            path=path,
            key=self._key(key, method, upstream_name, path, scope["query_string"], body) if key else None,
        )

    def _key(self, key: bytes, *request: str | bytes) -> Key:
        return idempotency_key(self._keys, key.decode("latin-1"), *request)


def idempotency_key(keys: Keys, key: str, *request: str | bytes) -> Key:
    """A key and the fingerprint of what it stands for: method, path, query, body."""
    digest = sha256()
    for part in request:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8) + raw)
    return Key(keys.hash(key), digest.hexdigest())


class _Call(NamedTuple):
    """A request before its body is read."""

    scope: Scope
    headers: Mapping[bytes, bytes]
    token_hash: str
    receive: Receive
    send: Send


async def _read(
    call: _Call, limit: int, beyond: Code, take: Callable[[int], None] = unbounded
) -> bytes | Code | None:
    """The body; or why there is none, `beyond` where it is over the limit; or None where the client has left."""
    match await read_body(call.scope, call.receive, limit=limit, seconds=BODY_SECONDS, take=take):
        case Gone():
            return None
        case Late():
            return Code.REQUEST_TIMEOUT
        case TooLarge():
            return beyond
        case body:
            return body


def _shown(raw: bytes) -> str:
    """What was asked for, where it is recorded only because it was refused."""
    text = raw[:_RECORDED].decode("ascii", "backslashreplace")
    return text if len(raw) <= _RECORDED else f"{text}..."


def _bearer(headers: Mapping[bytes, bytes]) -> str | None:
    kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    token = token.strip()
    known = any(well_formed(each, token) for each in (TokenKind.LIVE, TokenKind.TEST))
    return token if kind.lower() == "bearer" and known else None


def _forwarded(headers: Mapping[bytes, bytes]) -> list[tuple[str, str]]:
    return [(_FORWARDED[name], headers[name].decode("latin-1")) for name in headers if name in _FORWARDED]


async def _answer(send: Send, answer: Answered) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    headers += [*_GUARDS, (b"crossgrant-dispatch-id", answer.dispatch_id.encode())]
    if answer.replayed:
        headers.append((b"idempotency-replayed", b"true"))
    if answer.status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _refuse(send: Send, denied: Denied) -> None:
    status, detail = told(denied)
    extra: list[tuple[bytes, bytes]] = []
    if denied.code is Code.OVERLOADED:
        extra.append((b"retry-after", b"1"))
    if status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    if denied.cap:
        extra += [(name.encode(), value.encode()) for name, value in limit_headers(denied.cap)]
    if denied.replayed:
        extra.append((b"idempotency-replayed", b"true"))
    if denied.dispatch_id:
        extra.append((b"crossgrant-dispatch-id", denied.dispatch_id.encode()))
    outcome = denied.outcome if denied.dispatch_id else None
    await send_problem(
        send, status, denied.code, detail, headers=extra, dispatchId=denied.dispatch_id, outcome=outcome
    )
