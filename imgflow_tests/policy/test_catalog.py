"""catalog.csv: what it may say, what is refused and how, and that manifests win over it."""

import time
from pathlib import Path

import pytest

from imgflow.errors import BadCatalog
from imgflow.policy.catalog import Catalog, CatalogRow, load_catalog
from imgflow.policy.manifest import Manifest
from imgflow.policy.policy import Traits
from imgflow.store.keys import ImageKey


def load(folder: Path, text: str | bytes) -> Catalog:
    path = folder / "catalog.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_catalog(path)


def refused(folder: Path, text: str | bytes) -> str:
    with pytest.raises(BadCatalog) as caught:
        load(folder, text)
    assert caught.value.code == "catalog_invalid"
    assert "catalog.csv" in caught.value.what
    return caught.value.what


def test_without_a_file_it_is_empty(tmp_path: Path) -> None:
    assert len(load_catalog(tmp_path / "catalog.csv")) == 0
    assert len(load(tmp_path, "")) == 0


def test_rows_by_key_in_any_order_of_columns(tmp_path: Path) -> None:
    catalog = load(
        tmp_path,
        "criticality,key,prompt,Asset Type,category\n"
        'high,shoes/red.jpg,"a plain table, soft light",hero,leather\n'
        ",bag.png,,,\n",
    )
    assert catalog[ImageKey("shoes/red.jpg")] == CatalogRow(
        Traits("hero", "leather", "high"), "a plain table, soft light"
    )
    assert catalog[ImageKey("bag.png")] == CatalogRow()


@pytest.mark.parametrize(
    "data",
    [
        "\ufeffkey,category\r\na.jpg,knit\r\n",
        "key;category\r\na.jpg;knit\r\n;\r\n\r\n",
        "key\tcategory\na.jpg\t knit \n",
        "key,category,\n a.jpg ,knit,\n",
    ],
    ids=["byte order mark", "semicolons and empty lines", "tabs and spaces", "empty column"],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, data: str) -> None:
    catalog = load(tmp_path, data)
    assert dict(catalog) == {ImageKey("a.jpg"): CatalogRow(Traits("", "knit", ""))}
    assert catalog.ignored == ()


def test_a_path_as_the_file_is_named_is_a_key_too(tmp_path: Path) -> None:
    catalog = load(tmp_path, 'key\n"50%, new.jpg"\n')
    assert list(catalog) == [ImageKey.from_path("50%, new.jpg")]


def test_other_columns_are_named_and_ignored(tmp_path: Path) -> None:
    assert load(tmp_path, "key,Price,note\na.jpg,3,x\n").ignored == ("note", "price")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("key,asset_type\na.jpg,web\nb.jpg,heroo\n", "line 3, column asset_type: 'heroo' is none"),
        ("key,asset_type\na.jpg,x\n", "thumbnail, web, hero, print, social"),
        ("key,criticality\na.jpg,High\n", "line 2, column criticality: 'High' is none of low"),
        ("key,category\na.jpg,ok\na.jpg,no\n", "line 3, column key: 'a.jpg' stands in line 2"),
        ("key,category\n,no\n", "line 2, column key: it is empty"),
        ("key\n../a.jpg\n", "line 2, column key"),
        ("name,category\na.jpg,x\n", "there is no column 'key'"),
        ("key,category,Category\na.jpg,x,y\n", "'category' stands twice"),
        ("key,category\na.jpg,x,y\n", "line 2 has 3 cells, the header has 2"),
        (f"key,prompt\na.jpg,{'x' * 2001}\n", "longer than 2000"),
        ('key,category\na.jpg,"two\nlines"\n', "control characters or line breaks"),
        ('key,category\na.jpg,"open\n', "line"),
        (b"key,category\na.jpg,caf\xe9\n", "line 2 is not UTF-8"),
    ],
)
def test_mistakes_are_told_by_line_column_and_value(
    tmp_path: Path, text: str | bytes, told: str
) -> None:
    assert told in refused(tmp_path, text)


def test_many_mistakes_are_counted(tmp_path: Path) -> None:
    text = "key,asset_type\n" + "".join(f"{n}.jpg,bad{n}\n" for n in range(40))
    told = refused(tmp_path, text)
    assert "line 2," in told
    assert "and 30 more" in told


def test_a_manifest_wins_field_by_field() -> None:
    row = CatalogRow(Traits("hero", "leather", "high"), "a table")
    manifest = Manifest.model_validate({"category": "knit"})
    assert row.completes(manifest).traits() == Traits("hero", "knit", "high")


def test_a_prompt_goes_to_inpaint_steps_without_one() -> None:
    region = {"x": 0, "y": 0, "width": 9, "height": 9}
    steps = [
        {"op": "inpaint", "region": region},
        {"op": "inpaint", "region": region, "prompt": "grass"},
        {"op": "upscale", "scale": 2},
    ]
    completed = CatalogRow(prompt="a table").completes(Manifest.model_validate({"steps": steps}))
    assert [getattr(step, "prompt", None) for step in completed.steps] == ["a table", "grass", None]


def test_a_hundred_thousand_rows_are_read_in_seconds(tmp_path: Path) -> None:
    rows = (f"shoes/photo {n:06}.jpg,web,knit,high,a table" for n in range(100_000))
    started = time.process_time()
    catalog = load(tmp_path, "key,asset_type,category,criticality,prompt\n" + "\n".join(rows))
    assert len(catalog) == 100_000
    assert time.process_time() - started < 4  # 1 s on the machine of the README
