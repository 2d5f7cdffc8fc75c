"""Photos in a bucket are found, each once, whatever sorts where, and whatever is overwritten."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from samples import encoded, photo

from imgflow.bench.s3.server import Server
from imgflow.bucketuploads import BucketUploads
from imgflow.bucketwatch import Round, look_at_bucket
from imgflow.chain import Line, rescue
from imgflow.errors import BadPhoto
from imgflow.home import Home
from imgflow.ingest import ingest_paths
from imgflow.lineage.record import Verdict, Version
from imgflow.notifications import Notifications
from imgflow.refresh import plan_refresh
from imgflow.store.keys import ImageKey
from imgflow.store.place import Place
from imgflow.store.store import sha256_hex
from imgflow.watch import STABLE_S, Arrivals, Index

POLICY = {
    "upscale": {"max_scale": 1, "sharpen_below": 0.0},
    "detext": {"text": "none"},
    "renditions": [{"name": "web", "long_side": 48}],
}


class Shop:
    """A bucket that photos are put into, and the looks at it, one after the other."""

    def __init__(self, home: Home, line: Line, server: Server) -> None:
        self.home, self.line, self.server = home, replace(line, uploads=home.uploads), server
        assert isinstance(home.uploads, BucketUploads)
        self.uploads = home.uploads
        self.index, self.place, self.tick = Index(), Round(), 0
        self.known: set[str] = set()
        self.busy: set[str] = set()
        self.later = 0.0

    def put(self, *names: str, data: bytes = b"") -> None:
        for name in names:
            self.uploads.bucket.put(name, data or name.encode())

    def look(self, **limits: Any) -> Arrivals:
        """A look, a while later; what is found gets its partition, and is in a run until made."""
        self.tick, self.later = self.tick + 1, self.later + 2 * STABLE_S
        given: dict[str, Any] = {
            "max_keys": 5000, "budget_s": 60.0, "in_flight": self.busy, **limits,
        }  # fmt: skip
        found, self.place = look_at_bucket(
            self.home, self.line, self.index, self.place,
            tick=self.tick, known=self.known, now=time.time() + self.later, **given,
        )  # fmt: skip
        self.known.update(found.new)
        self.busy.update(found.new, found.changed)
        return found

    def make(self, keys: Sequence[ImageKey]) -> None:
        for key in keys:
            passage = rescue(key, self.line)
            assert not passage.stopped, passage.last and passage.last.reason
            self.busy.discard(key)


@pytest.fixture
def shop(
    tmp_path: Path,
    bucket_server: Server,
    monkeypatch: pytest.MonkeyPatch,
    make_line: Callable[..., Line],
    request: Any,
) -> Shop:
    for name, value in bucket_server.settings.items():
        monkeypatch.setenv(name, value)
    inbox = Place.parse(f"s3://shop/in-{sha256_hex(request.node.nodeid.encode())[:12]}")
    return Shop(Home(tmp_path / "data", inbox=inbox), make_line(**POLICY), bucket_server)


def png(shade: int) -> bytes:
    pixels = photo("coffee", 64).copy()
    pixels[:8, :8] = shade
    return encoded(pixels)


def test_new_photos_are_found_once_and_what_is_none_is_passed_over(shop: Shop) -> None:
    shop.put("a.jpg", "b/c d.PNG", "b/é.webp", "b/masks/x.png", "b/y.mask.png", ".hidden.png",
             "notes.txt", "z.jpg.part", "a.jpg.json", "b/")  # fmt: skip
    found = shop.look()
    assert found.new == ["a.jpg", "b/c d.PNG", "b/é.webp"]
    assert found.photos == 3
    assert shop.look().found == 0


def test_names_that_no_path_has_are_told(shop: Shop) -> None:
    odd = ["a//b.jpg", "/c.jpg", "./f.jpg", f"{'n' * 300}.jpg", "e\u0301.jpg"]
    shop.put("good.jpg", *odd)
    found = shop.look()
    assert found.new == ["good.jpg"]
    told = " ".join(found.notices)
    assert [name for name in odd if name not in told] == []


@pytest.mark.parametrize("most_files", [1, 3, 1000])
def test_a_bucket_is_gone_through_stretch_by_stretch_with_a_small_cursor(
    shop: Shop, most_files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:02}.jpg" for number in range(7)]
    shop.put(*names, "03.jpg.json", "05.json")
    pages = shop.uploads.bucket.pages
    monkeypatch.setattr(
        shop.uploads.bucket, "pages", lambda *given, **named: pages(*given, **named, size=2)
    )
    seen: list[str] = []
    for _ in range(9):
        seen += shop.look(most_files=most_files).new
        assert len(json.dumps(shop.place.as_list())) < 100
        assert Round.of({"bucket": shop.place.as_list()}) == shop.place
    assert seen == names


def test_what_sorts_earlier_and_what_is_overwritten_comes_in_the_next_round(shop: Shop) -> None:
    shop.put("m.png", data=png(1))
    shop.make(shop.look().new)
    assert shop.look().found == 0, "it is as it was made"
    shop.put("a.png", data=png(2))
    shop.put("m.png", data=png(3))
    found = shop.look()
    assert (found.new, found.changed) == (["a.png"], ["m.png"])
    shop.make([*found.new, *found.changed])
    assert shop.look().found == 0
    shop.put("m.png", data=png(3))  # the same bytes again
    assert shop.look().found == 0


def test_what_is_left_comes_next(shop: Shop) -> None:
    names = [f"{number}.jpg" for number in range(5)]
    shop.put(*names)
    assert shop.look(max_keys=2).new == names[:2]
    assert shop.place.after == "1.jpg"
    assert shop.look(max_keys=2).new == names[2:4]
    assert shop.look(max_keys=2).new == names[4:]
    assert shop.place.after == ""


def test_no_more_is_listed_than_is_taken(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:02}.jpg" for number in range(12)]
    shop.put(*names, *(f"{number:02}.txt" for number in range(12)))
    listed: list[int] = []
    pages = shop.uploads.bucket.pages

    def counted(*given: Any, **named: Any) -> Iterator[Any]:
        for page in pages(*given, **named, size=2):
            listed.append(len(page))
            yield page

    monkeypatch.setattr(shop.uploads.bucket, "pages", counted)
    seen: list[str] = []
    for at in range(4):
        listed.clear()
        seen += shop.look(max_keys=4).new
        # A photo and a text are a page; only the one can be taken.
        assert sum(listed) == 8 if at < 3 else sum(listed) == 0
    assert seen == names


def test_what_is_known_by_its_key_is_not_new(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.put("a,1.jpg", "b|1.jpg", "c.jpg", "d.jpg")
    pages = shop.uploads.bucket.pages
    monkeypatch.setattr(shop.uploads.bucket, "pages", lambda **given: pages(**given, size=1))
    assert shop.uploads.listing(most_new=1, known={"a%2C1.jpg", "b%7C1.jpg"}).upto == "c.jpg"


def test_manifests_and_masks_count_though_a_stretch_ends_before_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put("s/a.png", data=png(1))
    shop.make(shop.look().new)
    shop.look()
    holes = photo("coffee", 64)[..., 0] * 0
    holes[10:14, 10:14] = 255
    mask = encoded(holes)
    shop.put("s/a.png.json", data=json.dumps(
        {"steps": [{"op": "inpaint", "mask": "holes/x.mask.png"}]}
    ).encode())  # fmt: skip
    shop.put("s/holes/x.mask.png", data=mask)
    listing = shop.uploads.listing
    monkeypatch.setattr(shop.uploads, "listing", lambda *given, **_: _cut(listing(*given)))
    found = shop.look()
    assert found.changed == ["s/a.png"]
    rescue(found.changed[0], shop.line)
    raw = shop.line.store.get_record("main", ImageKey("s/a.png"), Version.RAW)
    assert raw is not None
    assert raw.attachments["holes/x.mask.png"] == sha256_hex(mask)


def _cut(listing: Any) -> Any:
    first = min(listing.files, default=None)
    if first is not None:
        listing.files, listing.upto = {first: listing.files[first]}, first
    return listing


def test_a_photo_that_was_deleted_and_comes_back_is_looked_at_again(shop: Shop) -> None:
    shop.put("a.png", data=png(1))
    shop.make(shop.look().new)
    shop.look()
    assert shop.index.entries[ImageKey("a.png")].state == "settled"
    shop.uploads.bucket.delete("a.png")
    shop.look()
    assert shop.index.entries == {}
    with pytest.raises(BadPhoto) as error:
        shop.uploads.path_of(ImageKey("a.png"))
    assert error.value.code == "not_found"
    assert not rescue(ImageKey("a.png"), shop.line).stopped, "the archive has it"


def test_after_a_long_round_nothing_is_listed_for_a_while(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put(*(f"{number}.jpg" for number in range(12)))
    pages = shop.uploads.bucket.pages
    monkeypatch.setattr(
        shop.uploads.bucket, "pages", lambda *given, **named: pages(*given, **named, size=2)
    )
    assert len(shop.look().new) == 12
    shop.put("00.jpg")
    assert shop.look().photos == 0
    shop.later += 600
    assert shop.look().new == ["00.jpg"]


def test_the_refresh_finds_the_same(shop: Shop) -> None:
    shop.home.root.mkdir(parents=True, exist_ok=True)
    shop.home.policy_file.write_text(json.dumps(POLICY))
    shop.put("a.png", data=png(1))
    shop.put("b.png", data=png(2))
    time.sleep(STABLE_S)
    assert plan_refresh(shop.home).new == ["a.png", "b.png"]
    shop.make([ImageKey("a.png")])
    shop.put("a.png", data=png(3))
    time.sleep(STABLE_S)
    plan = plan_refresh(shop.home)
    assert (plan.new, plan.changed or plan.stale) == (["b.png"], ["a.png"])


def test_ingest_brings_photos_into_the_bucket_and_loses_none(shop: Shop, tmp_path: Path) -> None:
    source = tmp_path / "in" / "a.png"
    source.parent.mkdir()
    source.write_bytes(png(1))
    assert [each.status for each in ingest_paths([source.parent], shop.home)] == ["new"]
    assert [each.status for each in ingest_paths([source.parent], shop.home)] == ["unchanged"]
    assert shop.uploads.path_of(ImageKey("in/a.png")).read_bytes() == png(1)
    source.write_bytes(png(2))
    assert [each.status for each in ingest_paths([source.parent], shop.home)] == ["changed"]
    assert shop.home.store.read_original(sha256_hex(png(1))) == png(1), "archived"


# ---- notifications ---------------------------------------------------------------------------


def event(bucket: str, key: str) -> dict[str, Any]:
    return {"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": key}}}]}


@pytest.fixture
def queue(bucket_server: Server, monkeypatch: pytest.MonkeyPatch, shop: Shop) -> Any:
    client = bucket_server.client("sqs")
    url = client.create_queue(QueueName=f"q-{shop.home.inbox.prefix}")["QueueUrl"]
    monkeypatch.setenv("IMGFLOW_UPLOADS_QUEUE", url)

    def send(body: Any) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        client.send_message(QueueUrl=url, MessageBody=text)

    def left() -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(map(int, told.values()))

    send.left = left  # type: ignore[attr-defined]
    return send


def test_notified_photos_come_at_once_and_nothing_else_is_believed(shop: Shop, queue: Any) -> None:
    assert shop.home.inbox is not None
    prefix = shop.home.inbox.prefix
    shop.put("z/b c+é.png", "z/other.png", "m.jpg")
    shop.put("z/d.png.json", "z/d.png")
    resting = replace(shop.place, rest_until=time.time() + 3600)
    queue(event("shop", f"{prefix}/z/b+c%2B%C3%A9.png"))
    queue({"Type": "Notification", "Message": json.dumps(event("shop", f"{prefix}/z/d.png.json"))})
    queue({"detail": {"bucket": {"name": "shop"}, "object": {"key": f"{prefix}/m.jpg"}}})
    queue(event("elsewhere", f"{prefix}/z/other.png"))
    queue(event("shop", f"{prefix}/z/gone.png"))
    queue({"Event": "s3:TestEvent"})
    for nonsense in ("", "[]", "{", '"x"', '{"Records": [1]}', "[" * 100_000):
        queue(nonsense or " ")
    shop.place = resting
    notifications = Notifications.of(shop.home.inbox)
    found = shop.look(notifications=notifications)
    assert sorted(found.new) == ["m.jpg", "z/b c+é.png", "z/d.png"]
    assert queue.left() == 0
    assert shop.place == resting
    assert shop.look(notifications=Notifications.of(shop.home.inbox)).found == 0


def test_what_was_left_stays_in_the_queue(shop: Shop, queue: Any) -> None:
    assert shop.home.inbox is not None
    shop.put("a.jpg", "b.jpg")
    shop.place = replace(shop.place, rest_until=time.time() + 3600)
    for name in ("a.jpg", "b.jpg"):
        queue(event("shop", f"{shop.home.inbox.prefix}/{name}"))
    found = shop.look(notifications=Notifications.of(shop.home.inbox), max_keys=1)
    assert (len(found.new), found.left) == (1, 1)
    assert queue.left() == 2


def test_a_queue_that_cannot_be_used_holds_nothing_up(shop: Shop) -> None:
    assert shop.home.inbox is not None
    shop.put("a.jpg")
    found = shop.look(notifications=Notifications("http://127.0.0.1:1/queue", shop.home.inbox))
    assert found.new == ["a.jpg"]
    assert "http://127.0.0.1:1/queue" in found.notices[0]


def test_made_photos_are_published_from_the_bucket(shop: Shop) -> None:
    shop.put("a.png", data=png(1))
    passage = rescue(shop.look().new[0], shop.line)
    assert passage.last is not None
    assert passage.last.verdict is Verdict.PUBLISHED
