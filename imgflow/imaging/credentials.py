"""C2PA content credentials: a signed statement, inside a file, of how its picture came to be.

The library is loaded when first used. It is kept off the network, but for the time stamp
authority that the policy names.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgflow.errors import EngineUnavailable
from imgflow.imaging.xmp import SOURCE_TYPES, Provenance

_SETTINGS: dict[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
_ACTIONS = {"enlarge": "c2pa.resized", "sharpen": "c2pa.filtered", "denoise": "c2pa.filtered"}
_ORIGINAL = "original"
_MADE = "trainedAlgorithmicMedia"  # of nothing: there is no original that it was made from


@dataclass(frozen=True, slots=True)
class Signing:
    """Who signs. certificate: PEM file of the certificate and its issuers, the signer's first.
    key: PEM file of its private key. algorithm: of C2PA, such as es256. timestamp_url: of a time
    stamp authority, so that signatures outlive the certificate; empty for none.
    """

    certificate: Path
    key: Path
    algorithm: str
    timestamp_url: str = ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What was read of a file's credentials.

    state: "Trusted" (signed by somebody that was named as trusted), "Valid" (signed, unchanged
    since, by somebody unknown) or "Invalid". problems: codes of C2PA. manifest: what is stated.
    """

    state: str
    signer: str
    problems: tuple[str, ...]
    manifest: dict[str, Any]


def sign(
    data: bytes,
    media_type: str,
    signing: Signing,
    provenance: Provenance,
    ingredient: tuple[bytes, str],
    version: str,
) -> bytes:
    """The file with credentials added. No two signings give the same bytes.

    ingredient: bytes and media type of what the picture was made from. version: imgflow's.
    Raises EngineUnavailable (code credentials_unavailable) where that cannot be done.
    """
    import c2pa

    created = provenance.source_type == _MADE
    manifest = {
        "claim_generator_info": [{"name": "imgflow", "version": version}],
        "title": provenance.rendition or "picture",
        "format": media_type,
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": list(_actions(provenance, created=created))},
            }
        ],
    }
    signed = io.BytesIO()
    try:
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Builder(json.dumps(manifest), context=context) as builder,
        ):
            if not created:
                stated = {"title": provenance.key or _ORIGINAL, "relationship": "parentOf"}
                source, kind = ingredient
                builder.add_ingredient_from_stream(
                    json.dumps({**stated, "label": _ORIGINAL}), kind, io.BytesIO(source)
                )
            with c2pa.Signer.from_info(_info(signing)) as signer:
                builder.sign(signer, media_type, io.BytesIO(data), signed)
    except (c2pa.C2paError, OSError) as error:
        raise EngineUnavailable(
            "credentials_unavailable",
            f"content credentials could not be made: {error}",
            hint="Check provenance.certificate of the policy, and the private key that its "
            "key_env names; or take the certificate out of the policy",
        ) from error
    return signed.getvalue()


def _info(signing: Signing) -> Any:
    import c2pa

    return c2pa.C2paSignerInfo(
        c2pa.C2paSigningAlg[signing.algorithm.upper()],
        signing.certificate.read_bytes(),
        signing.key.read_bytes(),
        signing.timestamp_url.encode() or None,
    )


def _actions(provenance: Provenance, *, created: bool) -> Iterator[dict[str, Any]]:
    source_type = SOURCE_TYPES + provenance.source_type
    if created:
        yield {"action": "c2pa.created", "digitalSourceType": source_type}
    else:
        yield {"action": "c2pa.opened", "parameters": {"ingredientIds": [_ORIGINAL]}}
    for step in provenance.steps:
        action: dict[str, Any] = {
            "action": _ACTIONS.get(step.name, "c2pa.edited"),
            "description": step.name.replace("_", " "),
        }
        if step.model:
            action["softwareAgent"] = {"name": step.model}
        if step.weights:
            action["digitalSourceType"] = source_type
        said = {"weights": step.weights, "seed": step.seed, "prompt": step.prompt}
        if stated := {name: value for name, value in said.items() if value not in ("", None)}:
            action["parameters"] = stated
        yield action
    yield {"action": "c2pa.published"}


def media_types() -> frozenset[str]:
    """Types of files that may be an ingredient."""
    import c2pa

    return frozenset(c2pa.Builder.get_supported_mime_types())


def read_credentials(data: bytes, media_type: str, trusted: str = "") -> Credentials | None:
    """What a file's credentials state, and whether that holds; None where it has none.

    trusted: certificates of those who are trusted, as PEM.
    """
    import c2pa

    trust = {"trust": {"trust_anchors": trusted}} if trusted else {}
    try:
        with c2pa.Context.from_dict({**_SETTINGS, **trust}) as context:
            reader = c2pa.Reader.try_create(media_type, io.BytesIO(data), context=context)
            if reader is None:
                return None
            with reader:
                found = json.loads(reader.json())
    except c2pa.C2paError as error:
        return Credentials("Invalid", "", (str(error),), {})
    manifest = found["manifests"].get(found.get("active_manifest"), {})
    results = found.get("validation_results", {}).get("activeManifest", {})
    signature = manifest.get("signature_info") or {}
    signer = ", ".join(filter(None, (signature.get("common_name"), signature.get("issuer"))))
    problems = tuple(each.get("code", "") for each in results.get("failure", ()))
    return Credentials(found.get("validation_state", "Invalid"), signer, problems, manifest)


_MAGIC = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"RIFF": "image/webp",
    b"\x00\x00\x00": "image/avif",
}


def credentials_of(data: bytes, trusted: str = "") -> Credentials | None:
    """The credentials of a file of any type that is published."""
    for magic, media_type in _MAGIC.items():
        if data.startswith(magic):
            return read_credentials(data, media_type, trusted)
    return None
