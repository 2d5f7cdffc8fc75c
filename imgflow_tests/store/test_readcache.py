"""What is kept of a far store: by its hash, below a limit, and never in the way."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from imgflow.store.readcache import ReadCache
from imgflow.store.store import sha256_hex


def data(number: int, size: int = 1000) -> tuple[str, bytes]:
    found = b"%04d" % number * (size // 4)
    return sha256_hex(found), found


def test_bytes_come_back_by_their_hash(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path, 10**5)
    for number in range(5):
        cache.put(*data(number))
    for number in range(5):
        assert cache.get(data(number)[0]) == data(number)[1]
    assert cache.get(data(9)[0]) is None
    cache.drop(data(0)[0])
    cache.drop(data(0)[0])
    assert cache.get(data(0)[0]) is None


def test_what_was_used_longest_ago_goes_first_and_the_limit_holds(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path, 20_000)
    for number in range(18):
        cache.put(*data(number))
        os.utime(cache._path(data(number)[0]), (number, number))
    assert cache.get(data(0)[0]) is not None  # used just now
    for number in range(18, 30):  # fewer than there is room for, so that it is not the oldest
        cache.put(*data(number))
        assert cache.size() <= 20_000 * 1.02 + 1000
    assert cache.get(data(0)[0]) is not None
    assert cache.get(data(1)[0]) is None
    assert cache.get(data(29)[0]) is not None


def test_damaged_files_are_not_believed(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path, 10**5)
    sha256, content = data(1)
    cache.put(sha256, content)
    cache._path(sha256).write_bytes(content[:-1])
    assert cache.get(sha256) is None
    assert not cache._path(sha256).exists()


def test_what_is_too_large_and_a_limit_of_nothing_keep_nothing(tmp_path: Path) -> None:
    ReadCache(tmp_path, 500).put(*data(1))
    ReadCache(tmp_path, 0).put(*data(1))
    assert list(tmp_path.rglob("*")) == []


def test_a_disk_that_takes_nothing_costs_the_saving_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = ReadCache(tmp_path / "file", 10**5)
    cache.put(*data(1))
    assert cache.get(data(1)[0]) is None


def test_several_writers_share_a_folder(tmp_path: Path) -> None:
    def work(start: int) -> None:
        cache = ReadCache(tmp_path, 30_000)
        for number in range(start, start + 60):
            cache.put(*data(number % 70))
            found = cache.get(data(number % 70)[0])
            assert found in (None, data(number % 70)[1])

    threads = [threading.Thread(target=work, args=(10 * each,)) for each in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert ReadCache(tmp_path, 30_000).size() <= 30_000 * 1.1
    assert not list(tmp_path.rglob(".writing-*"))
