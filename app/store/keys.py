"""What is secret at rest: tokens as keyed hashes, credentials sealed, and the key that signs assertions.

Every key is derived from the one secret with HKDF-SHA-256 (RFC 5869). Tokens: HMAC-SHA-256 under a pepper; they are
256 random bits, so a slow hash would protect nothing. Credentials: AES-256-GCM with the owner's ids as associated
data, so that a sealed value moved to another row does not open.
"""

import hmac
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, field

import uuid_utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.rules.tokens import TokenKind, render, shown

_NONCE = 12  # bytes, as NIST SP 800-38D recommends


def new_id(prefix: str) -> str:
    """A new id: ids made later sort later."""
    return f"{prefix}_{uuid_utils.uuid7()}"


@dataclass(frozen=True, slots=True)
class Minted:
    """A new secret: `text` is shown once and never stored."""

    text: str = field(repr=False)
    hash: str
    prefix: str


class Keys:
    """The keys of one installation."""

    def __init__(self, secret: bytes) -> None:
        self._pepper = _derive(secret, b"crossgrant token pepper")
        self._sealing = AESGCM(_derive(secret, b"crossgrant sealing"))
        self.signing = Ed25519PrivateKey.from_private_bytes(_derive(secret, b"crossgrant assertions"))
        #: Tells two secrets apart without telling either.
        self.check = self.hash("crossgrant key check")

    def hash(self, token: str) -> str:
        """The keyed hash of a token, in hex: what the store knows it by."""
        return hmac.digest(self._pepper, token.encode("utf-8", "replace"), "sha256").hex()

    def mint(self, kind: TokenKind) -> Minted:
        """A new secret of this kind."""
        text = render(kind, secrets.token_bytes(32))
        return Minted(text, self.hash(text), shown(kind, text))

    def seal(self, plain: bytes, *owner: str) -> str:
        """Encrypts; only the same `owner` ids open it."""
        nonce = secrets.token_bytes(_NONCE)
        return b64encode(nonce + self._sealing.encrypt(nonce, plain, "|".join(owner).encode())).decode()

    def open(self, sealed: str, *owner: str) -> bytes:
        """The inverse of `seal`. Raises cryptography's InvalidTag for another owner or a changed value."""
        raw = b64decode(sealed)
        return self._sealing.decrypt(raw[:_NONCE], raw[_NONCE:], "|".join(owner).encode())


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=purpose).derive(secret)
