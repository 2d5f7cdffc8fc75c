"""The list of catalogs: what it may say, and how people are told what it may not."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from imgflow.errors import BadCatalog
from imgflow.home import CATALOG, Home
from imgflow.policy.catalogs import CatalogSpec
from imgflow.store.keys import ImageKey
from imgflow.store.place import Place


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def listed(home: Home, text: str) -> tuple[Home, ...]:
    (home.root / "catalogs.yaml").write_text(text)
    return home.all()


def refused(home: Home, text: str) -> str:
    with pytest.raises(BadCatalog) as raised:
        listed(home, text)
    assert raised.value.code == "catalogs_invalid"
    return raised.value.what


def test_without_a_list_there_is_one_catalog_in_the_old_places(home: Home) -> None:
    (only,) = home.all()
    assert only == home == home.of("")
    assert only.name == CATALOG
    assert only.uploads.root == home.root / "uploads"
    assert only.policy_file == home.root / "policy.yaml"
    assert only.catalog_file == home.root / "catalog.csv"
    assert only.watch == home.root / "sensor"
    assert only.quality_report == home.root / "reports" / "quality.html"


def test_each_catalog_has_a_folder_of_its_own(home: Home) -> None:
    main, shoes, bags = listed(
        home,
        "catalogs:\n"
        "  - {name: main}\n"
        "  - {name: shoes, title: Shoes}\n"
        "  - {name: bags, uploads: /drops/bags, policy: rules/bags.yaml, table: bags.csv}\n",
    )
    assert main.uploads.root == home.root / "uploads"
    assert shoes.uploads.root == home.root / "catalogs/shoes/uploads"
    assert shoes.watch == home.root / "catalogs/shoes/sensor"
    assert shoes.policy_file == home.root / "policy.yaml"  # it has none of its own yet
    shoes.folder.mkdir(parents=True)
    (shoes.folder / "policy.yaml").write_text("run: {batch_size: 7}\n")
    assert shoes.policy().run.batch_size == 7
    assert main.policy().run.batch_size == 64
    assert bags.uploads.root == Path("/drops/bags")
    assert bags.catalog_file == home.root / "bags.csv"
    assert {each.store.root for each in (main, shoes, bags)} == {home.root / "store"}


def test_a_policy_that_is_named_must_be_there(home: Home) -> None:
    (bags,) = listed(home, "catalogs: [{name: bags, policy: rules/bags.yaml}]\n")
    with pytest.raises(Exception, match=r"rules/bags\.yaml cannot be read"):
        bags.policy()


def test_one_of_several_must_be_named(home: Home) -> None:
    listed(home, "catalogs: [{name: shoes}, {name: bags}]\n")
    assert home.of("bags").name == "bags"
    for name, code in (("", "catalog_unnamed"), ("hats", "catalog_unknown")):
        with pytest.raises(BadCatalog) as raised:
            home.of(name)
        assert raised.value.code == code
        assert "shoes" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("catalogs: [{name: Shoes}]", "catalogs[0].name (line 1)"),
        ("catalogs: [{name: shoes__a}]", "name"),
        ("catalogs: [{name: published}]", "means something else"),
        ("catalogs: [{name: shoes_shard_1}]", "means something else"),
        ("catalogs: [{name: shoes, shards: 0}]", "shards"),
        ("catalogs: [{name: shoes, shards: 501}]", "shards"),
        ("catalogs: [{name: shoes, shard: 2}]", "did you mean 'shards'?"),
        ("catalogs: [{name: shoes, refresh: daily}]", "five cron fields"),
        ("catalogs: [{name: shoes, folder: ../other}]", "without '..'"),
        ("catalogs: [{name: shoes, folder: /other}]", "installation's folder"),
        ("catalogs: [{name: shoes}, {name: shoes}]", "stands twice"),
        ("catalogs: [{name: a, folder: x}, {name: b, folder: x, uploads: y}]", "another's too"),
        ("catalogs: [{name: a, uploads: x}, {name: b, uploads: x/y}]", "lie in those of 'a'"),
        (
            "catalogs: [{name: a, uploads: 's3://drops/x'}, {name: c, uploads: 's3://drops/x/y'}]",
            "lie in one another",
        ),
        (
            "catalogs: [{name: a, uploads: 's3://drops'}, {name: c, uploads: 's3://drops/x'}]",
            "lie in one another",
        ),
        ("catalogs: [{name: a, uploads: 's3://B_/x'}]", "names no place in a bucket"),
        ("catalogs: [{name: a, uploads: 'https://b/x'}]", "names no place in a bucket"),
        ("catalogs: [{name: a, policy: 's3://drops/x.yaml'}]", "only uploads may lie in a bucket"),
        ("catalogs: [{name: a, uploads: 's3://drops/x', queue: here}]", "URL of a queue"),
        ("catalogs: [{name: a, queue: 'https://sqs/1/q'}]", "uploads in a bucket"),
        ("catalogs: []", "catalogs"),
        ("- shoes", "mapping"),
        ("catalogs: [{name: &a shoes}, {name: *a}]", "aliases"),
    ],
)
def test_mistakes_are_told(home: Home, text: str, told: str) -> None:
    assert told in refused(home, text)


BUCKETS = "catalogs: [{name: main}, {name: shoes, uploads: 's3://drops/shoes'}]\n"


def test_uploads_of_a_catalog_may_be_in_a_bucket(home: Home) -> None:
    main, shoes = listed(home, BUCKETS)
    assert (main.inbox, main.uploads_place) == (None, str(home.root / "uploads"))
    assert shoes.inbox == Place("drops", "shoes")
    assert shoes.uploads_place == "s3://drops/shoes"
    assert shoes.watch == home.root / "catalogs/shoes/sensor"
    # Seen from one of them, the others are the same, and what the list says is not handed on.
    assert shoes.all() == main.all() == (main, shoes)
    assert shoes.places == ("", "")
    assert shoes.of("main") == main
    listed(
        home, "catalogs: [{name: a, uploads: 's3://drops/x'}, {name: c, uploads: 's3://drops/xy'}]"
    )


def test_uploads_that_the_environment_names_are_the_only_catalogs(home: Home) -> None:
    found = replace(home, inbox=Place("drops", "in"))
    (only,) = found.all()
    assert (only.inbox, only.places) == (Place("drops", "in"), ("", "s3://drops/in"))
    (renamed,) = listed(found, "catalogs: [{name: shoes}]\n")
    assert (renamed.name, renamed.inbox) == ("shoes", Place("drops", "in"))
    for text in (BUCKETS, "catalogs: [{name: main, uploads: x}]\n"):
        with pytest.raises(BadCatalog) as raised:
            listed(found, text)
        assert raised.value.code == "uploads_unclear"


@pytest.mark.parametrize("store", ["s3://drops/shoes/store", "s3://drops"])
def test_the_store_lies_in_no_uploads_and_they_not_in_it(home: Home, store: str) -> None:
    with pytest.raises(BadCatalog) as raised:
        listed(replace(home, storage=Place.parse(store)), BUCKETS)
    assert raised.value.code == "store_in_uploads"
    assert len(listed(replace(home, storage=Place.parse("s3://drops/shoes-store")), BUCKETS)) == 2


def test_one_queue_tells_of_one_catalog(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGFLOW_UPLOADS_QUEUE", "https://sqs/1/q")
    assert len(listed(home, BUCKETS)) == 2
    with pytest.raises(BadCatalog) as raised:
        listed(home, BUCKETS.replace("{name: main}", "{name: main, uploads: 's3://drops/main'}"))
    assert raised.value.code == "queue_unclear"


def test_a_link_does_not_hide_that_uploads_are_shared(home: Home) -> None:
    (home.root / "x").mkdir()
    (home.root / "z").symlink_to(home.root / "x")
    assert "lie in those" in refused(
        home, "catalogs: [{name: a, uploads: x}, {name: b, uploads: z}]"
    )


def test_shards_are_even_and_never_change() -> None:
    spec = CatalogSpec(name="shoes", shards=16)
    keys = [ImageKey(f"shoes/{number:05}.jpg") for number in range(4000)]
    counts = Counter(map(spec.shard_of, keys))
    assert set(counts) == set(range(16))
    assert max(counts.values()) < 1.4 * min(counts.values())
    # Of this very hash: another would send photos away from their history.
    assert [spec.shard_of(key) for key in keys[:6]] == PINNED


def test_a_shard_is_the_same_in_another_process() -> None:
    code = (
        "from imgflow.policy.catalogs import CatalogSpec\n"
        "from imgflow.store.keys import ImageKey\n"
        "spec = CatalogSpec(name='shoes', shards=16)\n"
        "print([spec.shard_of(ImageKey(f'shoes/{n:05}.jpg')) for n in range(6)])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(PINNED)


PINNED = [14, 2, 14, 1, 8, 14]
