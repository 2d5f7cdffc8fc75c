"""Content credentials, read back by the library's own reader and by exiftool."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificate, make_certificate
from samples import photo
from two_photos import A, record, the_stamp, two_engines, two_line

from imgflow.chain import Line, rescue
from imgflow.errors import EngineUnavailable
from imgflow.home import CATALOG, Home
from imgflow.imaging.credentials import Credentials, Signing, credentials_of, sign
from imgflow.imaging.encode import RenditionFormat, encode_rendition
from imgflow.imaging.photo import Rights
from imgflow.imaging.xmp import Provenance, ProvenanceStep, read_provenance, xmp_packet
from imgflow.lineage.audit import audit
from imgflow.lineage.record import Verdict, Version
from imgflow.lineage.whoami import identify
from imgflow.policy.policy import Policy, ProvenanceSettings
from imgflow.replay import Replay, replay_image
from imgflow.store.store import sha256_hex

PROVENANCE = Provenance(
    source_type="compositeWithTrainedAlgorithmicMedia",
    catalog="main",
    key="rot é.jpg",
    rendition="web",
    original_sha256="ab" * 32,
    steps=(
        ProvenanceStep("inpaint", "lama-1", "01" * 32, 7, "a lawn"),
        ProvenanceStep("enlarge", "lanczos"),
    ),
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def signing(certificate: Certificate) -> Signing:
    return Signing(certificate.chain, certificate.key, "es256")


def rendition(format: RenditionFormat) -> bytes:
    return encode_rendition(
        photo("coffee", 60),
        format=format,
        quality=88,
        dpi=None,
        background=(255, 255, 255),
        rights=Rights("© Zoë"),
        xmp=xmp_packet(Rights("© Zoë"), PROVENANCE),
    )


def actions(found: Credentials) -> list[dict[str, Any]]:
    labelled = {each["label"]: each["data"] for each in found.manifest["assertions"]}
    return list(labelled["c2pa.actions.v2"]["actions"])


@pytest.mark.parametrize("format", ["jpeg", "webp", "png", "avif"])
def test_signed_files_are_read_back(
    format: RenditionFormat, signing: Signing, certificate: Certificate, tmp_path: Path
) -> None:
    original = rendition("png"), "image/png"
    signed = sign(rendition(format), f"image/{format}", signing, PROVENANCE, original, "0.1.0")
    found = credentials_of(signed, certificate.issuer)
    assert found is not None
    assert (found.state, found.problems) == ("Trusted", ())
    assert found.signer == "Photo desk, Shop"
    assert found.manifest["title"] == "web"
    (ingredient,) = found.manifest["ingredients"]
    assert (ingredient["title"], ingredient["relationship"]) == ("rot é.jpg", "parentOf")
    opened, inpaint, enlarge, published = actions(found)
    assert opened["action"] == "c2pa.opened"
    assert inpaint["action"] == "c2pa.edited"
    assert inpaint["softwareAgent"]["name"] == "lama-1"
    assert inpaint["digitalSourceType"].endswith(PROVENANCE.source_type)
    assert inpaint["parameters"] == {"weights": "01" * 32, "seed": 7, "prompt": "a lawn"}
    assert enlarge["action"] == "c2pa.resized"
    assert published["action"] == "c2pa.published"
    # By somebody who is not named as trusted; and changed since.
    unknown = credentials_of(signed)
    assert unknown is not None
    assert unknown.state == "Valid"
    changed = bytearray(signed)
    changed[-30] ^= 1
    broken = credentials_of(bytes(changed), certificate.issuer)
    assert broken is None or broken.state == "Invalid"
    assert read_provenance(signed) == PROVENANCE
    if shutil.which("exiftool") and format in ("jpeg", "png"):  # Debian's reads no others
        path = tmp_path / f"signed.{format}"
        path.write_bytes(signed)
        told = subprocess.run(["exiftool", "-json", "-n", str(path)], capture_output=True).stdout
        (said,) = json.loads(told)
        assert "c2pa.edited" in json.dumps(said)


def test_what_a_model_made_up_was_created_and_not_opened(
    signing: Signing, certificate: Certificate
) -> None:
    made = replace(PROVENANCE, source_type="trainedAlgorithmicMedia", steps=())
    signed = sign(rendition("png"), "image/png", signing, made, (b"", ""), "0.1.0")
    found = credentials_of(signed, certificate.issuer)
    assert found is not None
    assert found.state == "Trusted"
    assert not found.manifest.get("ingredients")
    created = actions(found)[0]
    assert created["action"] == "c2pa.created"
    assert created["digitalSourceType"].endswith("/trainedAlgorithmicMedia")


@pytest.mark.parametrize("data", [b"", b"?", b"\xff\xd8\xff", b"RIFFxxxx"])
def test_files_without_credentials(data: bytes) -> None:
    found = credentials_of(data)
    assert found is None or found.state == "Invalid"
    assert credentials_of(rendition("jpeg")) is None


@pytest.mark.parametrize("broken", ["no certificate", "no key", "another's key", "algorithm"])
def test_what_cannot_be_signed_is_an_error_for_people(
    broken: str, signing: Signing, tmp_path: Path
) -> None:
    other = make_certificate(tmp_path)
    changed = {
        "no certificate": replace(signing, certificate=tmp_path / "none.pem"),
        "no key": replace(signing, key=tmp_path / "none.pem"),
        "another's key": replace(signing, key=other.key),
        "algorithm": replace(signing, algorithm="ps256"),
    }[broken]
    original = rendition("png"), "image/png"
    with pytest.raises(EngineUnavailable) as error:
        sign(rendition("png"), "image/png", changed, PROVENANCE, original, "0.1.0")
    assert error.value.code == "credentials_unavailable"
    assert "certificate" in error.value.hint


# -- in the line -----------------------------------------------------------------------


def signing_line(home: Home, certificate: Certificate) -> Line:
    line = two_line(home, the_stamp())
    provenance = ProvenanceSettings(certificate=str(certificate.chain))
    policy = Policy.model_validate({**line.policy.as_dict(), "provenance": provenance.as_dict()})
    return replace(line, policy=policy)


def test_published_files_are_signed_audited_replayed_and_known(
    home: Home, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGFLOW_C2PA_KEY", str(certificate.key))
    rescue(A, signing_line(home, certificate))
    published = record(home, Version.PUBLISHED)
    assert published.verdict is Verdict.PUBLISHED
    for each in published.renditions:
        data = (home.root / "store/published" / CATALOG / each.path).read_bytes()
        assert sha256_hex(data) == each.object.sha256 != each.unsigned_sha256
        found = credentials_of(data, certificate.issuer)
        assert found is not None
        assert (found.state, found.problems) == ("Trusted", ())
        assert found.manifest["ingredients"][0]["title"] == "a.png"
        assert identify(data, home.store, CATALOG).match == "published"
    (image,) = audit(home.store, CATALOG, None, [A])
    assert image.problems == []
    # A replay has no key to sign with, and needs none.
    monkeypatch.delenv("IMGFLOW_C2PA_KEY")
    replay = Replay(home.store, CATALOG, home.root / "again", (Version.PUBLISHED,))
    (again,) = replay_image(A, replay, two_engines(the_stamp()))
    assert again.status == "same"
    assert "content credentials" in again.notes[0]


def test_without_its_key_a_photo_waits_and_nothing_unsigned_is_published(
    home: Home, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMGFLOW_C2PA_KEY", raising=False)
    before = record(home, Version.PUBLISHED)
    last = rescue(A, signing_line(home, certificate)).last
    assert last is not None
    assert last.verdict is Verdict.NEEDS_REVIEW
    assert last.reason is not None
    assert "IMGFLOW_C2PA_KEY" in last.reason.message
    assert last.renditions == before.renditions  # what was published before is still there
