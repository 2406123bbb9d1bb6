"""Crossgrant-Assertion: how an upstream can know for whom the gateway calls, without asking it.

A JWT (RFC 7519) signed with EdDSA, whose key is at `/.well-known/jwks.json`. It lives 60 s and is signed once per
binding per 30 s: signing costs more than all else that a dispatch does in Python.
"""

import time
from collections import OrderedDict

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
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
        signed = self._signed.get(go.binding_id)
        if signed is None or signed[0] < now - _REUSED:
            signed = self._signed[go.binding_id] = (now, self._sign(go, int(now)))
            self._signed.move_to_end(go.binding_id)
            while len(self._signed) > _MOST:
                self._signed.popitem(last=False)
        return signed[1]

    def _sign(self, go: Go, now: int) -> str:
        claims = {
            "iss": self._issuer,
            "aud": go.delegator_id,
            "sub": go.agent_id,
            "iat": now,
            "exp": now + LIVES,
            "delegation": go.delegation_id,
            "binding": go.binding_id,
            "actingTenant": go.delegate_id,
            "targetTenant": go.delegator_id,
        }
        header = {"alg": "EdDSA", "kid": self._kid, "typ": "JWT"}
        return jwt.encode(header, claims, self._key, algorithms=["EdDSA"])
