"""The gallery shows what the records say, works alone, and runs nothing that a name says."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgflow.gallery import GalleryRow, gallery_row, passage_of, render_gallery
from imgflow.imaging.encode import encode_lossless, encode_mask
from imgflow.lineage.record import (
    EngineStamp,
    Environment,
    GateResult,
    ObjectRef,
    Operation,
    Reason,
    Record,
    TextRegion,
    Verdict,
    Version,
)
from imgflow.store.local import LocalStore

HOSTILE = "<img src=x onerror=alert(1)>'\"</script><script>alert(2)</script>{{ 7*7 }}.jpg"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def _record(version: Version, verdict: Verdict, **fields: Any) -> Record:
    given = {
        "catalog": "main",
        "key": "shop/cup.jpg",
        "fingerprint": "f",
        "policy_sha256": "p",
        "imgflow_version": "0",
        "code_version": "c",
        "run_id": "r",
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
        "seconds": 0.5,
        "environment": Environment(
            python="3", platform="x", instruction_set="x", threads=1, libraries={}
        ),
        **fields,
    }
    return Record(version=version, verdict=verdict, **given)


def _object(store: LocalStore, pixels: np.ndarray) -> ObjectRef:
    data = encode_mask(pixels) if pixels.ndim == 2 else encode_lossless(pixels)
    sha256 = store.put_object(data, "image/png")
    return ObjectRef(sha256=sha256, media_type="image/png", size=len(data))


def _grey(height: int = 60, width: int = 90, level: int = 128) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def _removal(store: LocalStore, text: str = "SALE") -> Operation:
    mask = np.zeros((60, 90), np.uint8)
    mask[10:20, 30:60] = 255
    return Operation(
        name="remove_text",
        engine=EngineStamp(name="telea", model_id="telea-2004", weights_sha256="ab" * 32),
        mask=_object(store, mask),
        regions=[TextRegion(polygon=[[0, 0], [1, 0], [1, 1]], text=text, confidence=0.9)],
    )


def _published(store: LocalStore) -> dict[Version, Record]:
    before, after = _object(store, _grey()), _object(store, _grey(120, 180, 200))
    return {
        Version.RAW: _record(Version.RAW, Verdict.PASSED_THROUGH, output=before),
        Version.DETEXTED: _record(
            Version.DETEXTED,
            Verdict.REPAIRED,
            output=after,
            operations=[_removal(store)],
            gates=[
                GateResult(name="psnr", metric="psnr", threshold=16, note="no clean ground"),
                GateResult(name="ssim", metric="ssim", value=0.81234, threshold=0.5, passed=True),
            ],
        ),
        Version.INPAINTED: _record(Version.INPAINTED, Verdict.PASSED_THROUGH, output=after),
        Version.UPSCALED: _record(Version.UPSCALED, Verdict.PASSED_THROUGH, output=after),
        Version.PUBLISHED: _record(Version.PUBLISHED, Verdict.PUBLISHED),
    }


def _quarantined(store: LocalStore) -> dict[Version, Record]:
    return {
        Version.RAW: _record(Version.RAW, Verdict.PASSED_THROUGH, output=_object(store, _grey())),
        Version.DETEXTED: _record(
            Version.DETEXTED,
            Verdict.QUARANTINED,
            rejected=_object(store, _grey(level=9)),
            reason=Reason(code="gate_failed", message="psnr 9 is below 16", hint="Paint a mask"),
        ),
    }


def _shown(source: str) -> np.ndarray:
    assert source.startswith("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


class _Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_published_photo_shows_both_pictures_and_how_they_came_about(store: LocalStore) -> None:
    row = gallery_row(store, _published(store), "A cup", figures=[("PSNR", "20 to 30")])
    assert (row.title, row.key, row.badge, row.tone) == (
        "A cup", "shop/cup.jpg", "Published", "good",
    )  # fmt: skip
    assert row.before
    assert row.before.size == "90 × 60"
    assert row.after
    assert row.after.size == "180 × 120"
    assert not row.rejected
    assert row.seconds == 2.5
    (step,) = row.steps
    assert (step.name, step.engine, step.model) == ("remove text", "telea", "telea-2004")
    assert step.weights == "weights abababababab"
    assert step.detail == "“SALE”"
    page = _Page(render_gallery([row])).text
    for expected in ("telea-2004", "20 to 30", "no clean ground", "not evaluated", "0.8123"):
        assert expected in page


def test_what_was_masked_is_shown_in_colour_and_the_rest_as_it_was(store: LocalStore) -> None:
    row = gallery_row(store, _published(store))
    assert row.marked is not None
    red, green, blue = np.moveaxis(_shown(row.marked.source)[15, 45].astype(int), 0, 0)
    assert red > green + 60
    assert blue > green + 30
    np.testing.assert_allclose(_shown(row.marked.source)[45, 45], 128, atol=4)


def test_gates_say_pass_fail_or_not_evaluated(store: LocalStore) -> None:
    unmeasured, passed = gallery_row(store, _published(store)).gates
    assert (unmeasured.state, unmeasured.value, unmeasured.threshold) == (
        "not evaluated", "–", "16",
    )  # fmt: skip
    assert (passed.state, passed.value, passed.version) == ("pass", "0.8123", "detexted")


def test_a_stopped_photo_shows_what_was_rejected_why_and_what_to_do(store: LocalStore) -> None:
    row = gallery_row(store, _quarantined(store))
    assert (row.badge, row.tone, row.stopped_at) == ("Quarantined", "bad", "detexted")
    assert row.rejected
    assert row.after is not None
    np.testing.assert_allclose(_shown(row.after.source), 9, atol=4)
    page = _Page(render_gallery([row])).text
    for expected in ("Rejected result", "psnr 9 is below 16", "Paint a mask"):
        assert expected in page


def test_an_upload_without_a_picture_still_has_a_row(store: LocalStore) -> None:
    reason = Reason(code="truncated", message="the file ends too early")
    refused = _record(Version.RAW, Verdict.QUARANTINED, reason=reason)
    row = gallery_row(store, {Version.RAW: refused})
    assert row.before is None
    assert row.after is None
    assert row.title == "cup.jpg"
    page = _Page(render_gallery([row]))
    assert page.all("img") == []
    assert "This upload shows no picture" in page.text


def test_records_of_an_earlier_run_behind_a_stop_do_not_count(store: LocalStore) -> None:
    old = _published(store)[Version.PUBLISHED]
    row = gallery_row(store, {**_quarantined(store), Version.PUBLISHED: old})
    assert row.badge == "Quarantined"


def test_records_behind_a_gap_do_not_count(store: LocalStore) -> None:
    records = _published(store)
    del records[Version.INPAINTED]
    assert gallery_row(store, records).badge == "Repaired, not published yet"


def test_an_untouched_photo_says_so(store: LocalStore) -> None:
    records = _published(store)
    for version in (Version.DETEXTED, Version.INPAINTED, Version.UPSCALED):
        same = records[Version.RAW].output
        records[version] = _record(version, Verdict.PASSED_THROUGH, output=same)
    row = gallery_row(store, records)
    assert row.badge == "Published untouched"
    assert row.steps == ()
    assert row.marked is None


def test_no_record_is_an_error() -> None:
    with pytest.raises(ValueError, match="without any record"):
        passage_of({})


def test_previews_are_small_and_keep_transparency(store: LocalStore) -> None:
    pixels = np.zeros((600, 1200, 4), np.uint8)
    pixels[:, 600:] = (200, 10, 10, 255)
    raw = _record(Version.RAW, Verdict.PASSED_THROUGH, output=_object(store, pixels))
    row = gallery_row(store, {Version.RAW: raw})
    assert row.before is not None
    assert row.before.size == "1200 × 600"
    preview = _shown(row.before.source)
    assert preview.shape == (240, 480, 4)
    assert preview[120, 10, 3] == 0
    assert preview[120, 470, 3] == 255


def test_the_header_counts_verdicts(store: LocalStore) -> None:
    rows = [gallery_row(store, records) for records in [_published(store)] * 2]
    page = _Page(render_gallery([*rows, gallery_row(store, _quarantined(store))]))
    text = " ".join(page.text.split())
    assert "3 photos, 2 worked on" in text
    assert "2 published 1 quarantined" in text


def test_a_gallery_of_nothing_is_a_page() -> None:
    assert "0 photos" in _Page(render_gallery([])).text


def test_the_page_loads_nothing_from_elsewhere(store: LocalStore) -> None:
    html = render_gallery([gallery_row(store, _published(store))])
    page = _Page(html)
    assert page.all("img")
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))
    assert not page.all("link")
    assert not page.all("iframe")
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html


def _hostile_row(store: LocalStore) -> GalleryRow:
    reason = Reason(code="x", message=HOSTILE, hint=HOSTILE)
    records = {
        Version.RAW: _record(
            Version.RAW, Verdict.PASSED_THROUGH, key=HOSTILE, output=_object(store, _grey())
        ),
        Version.DETEXTED: _record(
            Version.DETEXTED,
            Verdict.QUARANTINED,
            key=HOSTILE,
            rejected=_object(store, _grey(level=9)),
            reason=reason,
            operations=[
                _removal(store, HOSTILE).model_copy(
                    update={"prompt": HOSTILE, "requested_by": HOSTILE}
                )
            ],
            gates=[GateResult(name=HOSTILE, metric="x", passed=False, note=HOSTILE)],
            notes=[HOSTILE],
        ),
    }
    return gallery_row(store, records, HOSTILE, about=HOSTILE, figures=[(HOSTILE, HOSTILE)])


def test_hostile_names_and_texts_are_only_shown(store: LocalStore) -> None:
    html = render_gallery([_hostile_row(store)], title=HOSTILE)
    page, tame = _Page(html), _Page(render_gallery([gallery_row(store, _quarantined(store))]))
    assert len(page.all("script")) == len(tame.all("script")) == 1
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))
    handlers = [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert handlers == []
    assert HOSTILE in page.text  # as it is, and no template in it was filled in


def test_the_page_lets_only_its_own_script_run(store: LocalStore) -> None:
    html = render_gallery([_hostile_row(store)])
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [
        meta["content"] or ""
        for meta in _Page(html).all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
