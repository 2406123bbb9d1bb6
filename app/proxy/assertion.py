"""Crossgrant-Assertion: how an upstream can know for whom the gateway calls, without asking it.

A JWT (RFC 7519) signed with EdDSA, whose key is at `/.well-known/jwks.json`. It lives 60 s and is signed once per
binding per 30 s: signing costs more than all else that a dispatch does in Python.
"""

import time
from collections import OrderedDict
from warnings import catch_warnings, simplefilter

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey

from app.proxy.attempts import Go
from app.rules.ids import BindingId

LIVES = 60  # seconds
_REUSED = 30  # seconds
_MOST = 10_000  # bindings


class Assertions:
    """Signs for the bindings most recently used."""

    def __init__(self, signing: Ed25519PrivateKey, issuer: str) -> None:
        pem = signing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        key = OKPKey.import_key(pem)
        self._kid = key.thumbprint()
        self._key = key
        self._issuer = issuer
        self._signed: OrderedDict[BindingId, tuple[float, str]] = OrderedDict()

    def jwks(self) -> bytes:
        """The public key, as a JSON Web Key Set (RFC 7517)."""
        public = self._key.as_dict(private=False)
        return orjson.dumps({"keys": [{**public, "kid": self._kid, "use": "sig", "alg": "EdDSA"}]})

    def for_binding(self, go: Go) -> str:
        """The assertion for a dispatch."""
        now = time.time()
        signed = self._signed.get(go.row.binding_id)
        if signed is None or signed[0] < now - _REUSED:
            signed = self._signed[go.row.binding_id] = (now, self._sign(go, int(now)))
            self._signed.move_to_end(go.row.binding_id)
            while len(self._signed) > _MOST:
                self._signed.popitem(last=False)
        return signed[1]

    def _sign(self, go: Go, now: int) -> str:
        claims = {
            "iss": self._issuer,
            "aud": go.row.delegator_id,
            "sub": go.agent_id,
            "iat": now,
            "exp": now + LIVES,
            "delegation": go.row.delegation_id,
            "binding": go.row.binding_id,
            "actingTenant": go.row.delegate_id,
            "targetTenant": go.row.delegator_id,
        }
        header = {"alg": "EdDSA", "kid": self._kid, "typ": "JWT"}
        with catch_warnings():
            # RFC 9864 prefers the name Ed25519, which few verifiers know yet; the signature is the same.
            simplefilter("ignore", SecurityWarning)
            return jwt.encode(header, claims, self._key, algorithms=["EdDSA"])
