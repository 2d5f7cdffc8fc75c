"""Requests to one bucket: tried again, checked, and never too many at once.

botocore's own retries are off: they end where a body begins, and one policy is easier to reason
about than two. A body counts once it is there whole and has the hash that its writer noted.
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
)
from botocore.exceptions import (
    ConnectionError as NoConnection,
)
from botocore.handlers import add_expect_header
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from imgflow.errors import StoreError
from imgflow.store.place import Place

Item = TypeVar("Item")
Result = TypeVar("Result")

NOTED = "sha256"
"""The metadata in which a writer notes the hash of an object's bytes."""
_MD5 = re.compile(r"[0-9a-f]{32}")
_PASSING = (
    NoConnection,
    HTTPClientError,  # none in time, or lost
    HTTPError,
    IncompleteReadError,
    ResponseStreamingError,
    ResponseParserError,
    ConnectionError,
    TimeoutError,
)
_PASSING_CODES = frozenset(
    (
        "SlowDown",
        "RequestTimeout",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequests",
        "OperationAborted",
        "BadDigest",  # what we sent did not arrive as it was
        "IncompleteBody",
    )
)
_CONFLICTS = frozenset(("PreconditionFailed", "ConditionalRequestConflict", "412", "409"))
_GONE = frozenset(("NoSuchKey", "NotFound", "404"))
_FORBIDDEN = frozenset(("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"))
_PART_THREADS = 4
_LOADER = create_loader()
"""Reads the description of S3 once for all clients: it has a megabyte."""


class Conflict(Exception):
    """The object is not as the condition of a write says: somebody else has written it."""


class _WrongBody(Exception):
    """A body that is not what its writer has sent."""

    def __init__(self, fetched: Fetched) -> None:
        super().__init__()
        self.fetched = fetched


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing or a HEAD tells of it. modified: Unix time. sha256: what its writer
    noted; empty in listings."""

    key: str
    size: int
    etag: str
    modified: float
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object's bytes, whole."""

    data: bytes
    etag: str
    sha256: str = ""


class Bucket:
    """The objects below a place's prefix, by keys below it.

    All methods raise StoreError where the bucket cannot be used: store_unreachable (it was tried
    again), store_forbidden, bucket_missing, store_unwritable. Safe in several threads; a copy that
    was pickled opens connections of its own.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._lock = threading.Lock()
        self._under_way = threading.BoundedSemaphore(place.concurrency)
        self._client: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self.retried = 0
        """How many requests had to be made again."""
        self.requests = 0
        """How many were made, those included."""

    def __reduce__(self) -> tuple[type[Bucket], tuple[Place]]:
        return Bucket, (self.place,)

    def location(self, key: str) -> str:
        return f"{self.place.url}/{key}"

    # -- reading -----------------------------------------------------------------------

    def get(self, key: str, sha256: str = "", *, damaged: bool = False) -> Fetched | None:
        """An object's bytes; None where there is none.

        sha256: what they must have; else what their writer noted. Raises StoreError (code
        object_damaged) for others that come again and again. damaged: those that lie there like
        that, and were not changed on their way, are given all the same.
        """
        previous: list[bytes] = []

        def fetch(client: Any) -> Fetched:
            found = client.get_object(Bucket=self.place.bucket, Key=self._full(key))
            data = found["Body"].read()
            if len(data) != found["ContentLength"]:
                raise ConnectionError("the body was cut off")
            etag, noted = found["ETag"].strip('"'), found.get("Metadata", {}).get(NOTED, "")
            fetched = Fetched(data, etag, noted)
            wanted = sha256 or noted
            if wanted:
                right = hashlib.sha256(data).hexdigest() == wanted
            else:  # written by others; an etag is a hash unless parts or a key were used
                right = _has_md5(data, etag) or not _MD5.fullmatch(etag) or data in previous
            if not right:
                # Twice the same, and the bytes that the server knows: they lie there like that.
                at_rest = data in previous and _has_md5(data, etag)
                previous.append(data)
                raise _AtRest(fetched) if at_rest else _WrongBody(fetched)
            return fetched

        try:
            return self._tried(fetch, key)
        except _WrongBody as error:
            if damaged and isinstance(error, _AtRest):
                return error.fetched
            raise StoreError(
                "object_damaged",
                f"{self.location(key)} does not have the bytes that its name or writer says",
                hint="Restore it from a backup, or delete it and run the image again",
            ) from error

    def head(self, key: str) -> Listed | None:
        """What is known of an object; None where there is none."""

        def ask(client: Any) -> Listed:
            found = client.head_object(Bucket=self.place.bucket, Key=self._full(key))
            return Listed(
                key,
                found["ContentLength"],
                found["ETag"].strip('"'),
                found["LastModified"].timestamp(),
                found.get("Metadata", {}).get(NOTED, ""),
            )

        return self._tried(ask, key)

    def pages(
        self, prefix: str = "", *, after: str = "", size: int = 1000
    ) -> Iterator[list[Listed]]:
        """The objects whose keys begin with `prefix` and come later than `after`, in the order of
        their UTF-8, a page (of at most `size`) at a time."""
        for page in self._pages(prefix, after=after, size=size):
            yield [
                Listed(
                    self._short(each["Key"]),
                    each["Size"],
                    each["ETag"].strip('"'),
                    _time(each["LastModified"]),
                )
                for each in page.get("Contents", ())
            ]

    def folders(self, prefix: str = "") -> Iterator[str]:
        """The names of the folders in a folder. prefix: ends with a slash, or is empty."""
        for page in self._pages(prefix, delimiter="/"):
            for each in page.get("CommonPrefixes", ()):
                yield self._short(each["Prefix"])[len(prefix) :].rstrip("/")

    def _pages(
        self, prefix: str, *, after: str = "", delimiter: str = "", size: int = 1000
    ) -> Iterator[dict[str, Any]]:
        asked: dict[str, Any] = {
            "Bucket": self.place.bucket,
            "Prefix": self._full(prefix),
            "MaxKeys": size,
            **({"Delimiter": delimiter} if delimiter else {}),
            **({"StartAfter": self._full(after)} if after else {}),
        }
        while True:
            page = self._tried(lambda client: client.list_objects_v2(**asked), prefix)
            if page is None:
                return
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]
            asked.pop("StartAfter", None)

    # -- writing -----------------------------------------------------------------------

    def put(
        self,
        key: str,
        data: bytes,
        *,
        media_type: str = "",
        if_absent: bool = False,
        if_etag: str = "",
    ) -> str:
        """Write an object; returns its etag.

        if_absent, if_etag: only where there is none, or this one; else Conflict is raised. A write
        whose answer was lost may raise it, too: look at what is there.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        if len(data) > 2 * self.place.part_bytes and not (if_absent or if_etag):
            return self._put_parts(key, data, media_type, sha256)
        asked: dict[str, Any] = {
            "Bucket": self.place.bucket,
            "Key": self._full(key),
            "Body": data,
            "ContentMD5": _md5(data),
            "Metadata": {NOTED: sha256},
            **({"ContentType": media_type} if media_type else {}),
            **({"IfNoneMatch": "*"} if if_absent else {}),
            **({"IfMatch": f'"{if_etag}"'} if if_etag else {}),
        }

        def send(client: Any) -> str:
            etag = str(client.put_object(**asked)["ETag"].strip('"'))
            if not _has_md5(data, etag) and not self._lies_there(key, data):
                # What arrived was other bytes, and the server has not looked. Now that is there.
                if asked.pop("IfNoneMatch", None) or "IfMatch" in asked:
                    asked["IfMatch"] = f'"{etag}"'
                raise _WrongBody(Fetched(b"", etag))
            return etag

        try:
            etag = self._tried(send, key)
        except _WrongBody as error:
            raise _unwritable(self.location(key), "other bytes arrive than are sent") from error
        if etag is None:  # If-Match, and it is gone
            raise Conflict
        return etag

    def _lies_there(self, key: str, data: bytes) -> bool:
        """Whether an object has these bytes, whose etag is no hash: where it is encrypted."""
        found = self._connected().get_object(Bucket=self.place.bucket, Key=self._full(key))
        return bool(found["Body"].read() == data)

    def _put_parts(self, key: str, data: bytes, media_type: str, sha256: str) -> str:
        """A large object in parts, a few at once. A part that fails is sent again by itself."""
        size = self.place.part_bytes
        parts = [data[start : start + size] for start in range(0, len(data), size)]
        sums = (hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
        whole = hashlib.md5(b"".join(sums), usedforsecurity=False).hexdigest()
        for _ in range(self.place.attempts):
            etag = self._sent_in_parts(key, parts, media_type, sha256)
            # The etag of parts is the hash of their hashes, unless they are encrypted.
            if etag == f"{whole}-{len(parts)}" or self._lies_there(key, data):
                return etag
        raise _unwritable(self.location(key), "other bytes arrive than are sent")

    def _sent_in_parts(self, key: str, parts: list[bytes], media_type: str, sha256: str) -> str:
        upload: dict[str, Any] = {"Bucket": self.place.bucket, "Key": self._full(key)}
        kind = {"ContentType": media_type} if media_type else {}
        begun = self._tried(
            lambda client: client.create_multipart_upload(
                **upload, **kind, Metadata={NOTED: sha256}
            ),
            key,
        )
        upload["UploadId"] = _required(begun, key)["UploadId"]

        def send(numbered: tuple[int, bytes]) -> dict[str, Any]:
            number, part = numbered
            sent = self._tried(
                lambda client: client.upload_part(
                    **upload, PartNumber=number, Body=part, ContentMD5=_md5(part)
                ),
                key,
            )
            return {"PartNumber": number, "ETag": _required(sent, key)["ETag"]}

        try:
            with ThreadPoolExecutor(_PART_THREADS) as threads:
                sent = {"Parts": list(threads.map(send, enumerate(parts, start=1)))}
            done = self._tried(
                lambda client: client.complete_multipart_upload(**upload, MultipartUpload=sent),
                key,
            )
        except BaseException:
            with suppress(StoreError):
                self._tried(lambda client: client.abort_multipart_upload(**upload), key)
            raise
        if done is not None:
            return str(done["ETag"].strip('"'))
        # There is no such upload any more: it was completed, and the answer was lost. Or not.
        found = self.head(key)
        if found is None or found.sha256 != sha256:
            raise _unwritable(self.location(key), "its upload in parts is gone")
        return found.etag

    def delete(self, key: str) -> None:
        """Take an object away, if it is there."""
        self._tried(
            lambda client: client.delete_object(Bucket=self.place.bucket, Key=self._full(key)), key
        )

    def copy(self, source: str, target: str) -> bool:
        """Copy an object inside of the bucket, metadata and all; false where there is none."""
        place = self.place
        copied = self._tried(
            lambda client: client.copy_object(
                Bucket=place.bucket,
                Key=self._full(target),
                CopySource={"Bucket": place.bucket, "Key": self._full(source)},
            ),
            source,
        )
        return copied is not None

    def abort_uploads(self, older_than: float) -> int:
        """End uploads in parts that were begun before `older_than` (Unix time) and never ended;
        returns how many."""
        asked: dict[str, Any] = {"Bucket": self.place.bucket, "Prefix": self._full("")}
        ended = 0
        while True:
            page = self._tried(lambda client: client.list_multipart_uploads(**asked), "") or {}
            for each in page.get("Uploads", ()):
                if _time(each["Initiated"]) < older_than:
                    self._abort(each["Key"], each["UploadId"])
                    ended += 1
            if not page.get("IsTruncated"):
                return ended
            asked["KeyMarker"] = page["NextKeyMarker"]
            asked["UploadIdMarker"] = page["NextUploadIdMarker"]

    def _abort(self, name: str, upload: str) -> None:
        asked = {"Bucket": self.place.bucket, "Key": name, "UploadId": upload}
        self._tried(lambda client: client.abort_multipart_upload(**asked), name)

    # -- many at once ------------------------------------------------------------------

    def each(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """`work` done on each item in threads, as many as may be under way; in their order."""
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        iterator = iter(items)
        pool = self._threads()
        try:
            for item in islice(iterator, 2 * self.place.concurrency):
                waiting.append((item, pool.submit(work, item)))
            while waiting:
                item, future = waiting.popleft()
                result = future.result()
                for following in islice(iterator, 1):
                    waiting.append((following, pool.submit(work, following)))
                yield item, result
        finally:
            for _, future in waiting:
                future.cancel()

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.place.concurrency, "imgflow-s3")
            return self._pool

    # -- one request -------------------------------------------------------------------

    def _tried(self, call: Callable[[Any], Result], key: str) -> Result | None:
        """What a request gives; None where its object is not there. Tried again, later and later,
        where that may help. Raises Conflict, StoreError."""
        place, where = self.place, self.location(key)
        client = self._connected()
        for attempt in range(1, place.attempts + 1):
            try:
                with self._under_way:
                    self.requests += 1
                    return call(client)
            except _AtRest:
                raise
            except (*_PASSING, _WrongBody) as error:
                last: Exception = error
            except ClientError as error:
                code, status = _code(error), _status(error)
                if code in _GONE or code == "NoSuchUpload":
                    return None
                if code in _CONFLICTS:
                    raise Conflict from error
                if code not in _PASSING_CODES and status not in (408, 429) and status < 500:
                    raise _refused(error, where, place) from error
                last = error
            except (NoCredentialsError, PartialCredentialsError) as error:
                raise StoreError(
                    "store_forbidden",
                    f"there are no credentials for {where}",
                    hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give "
                    "the machine a role",
                ) from error
            except BotoCoreError as error:
                raise _unwritable(where, str(error)) from error
            if attempt < place.attempts:
                with self._lock:
                    self.retried += 1
                wait = min(place.backoff_s * 2 ** (attempt - 1), place.longest_wait_s)
                # Jitter keeps many workers from coming back to a strained bucket at once.
                time.sleep(wait * random.uniform(0.5, 1.5))
        if isinstance(last, _WrongBody):
            raise last
        raise StoreError(
            "store_unreachable",
            f"{where}: no good answer in {place.attempts} attempts ({_text(last)})",
            hint="Check the network and the service, then run again: what was finished is kept",
        ) from last

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                place = self.place
                session = botocore.session.Session()
                session.register_component("data_loader", _LOADER)
                client = boto3.session.Session(botocore_session=session).client(
                    "s3",
                    endpoint_url=place.endpoint,
                    # Some that speak like S3 have no regions, and signatures name one.
                    region_name=place.region or ("us-east-1" if place.endpoint else None),
                    config=Config(
                        retries={"total_max_attempts": 1},
                        connect_timeout=min(place.timeout_s, 10.0),
                        read_timeout=place.timeout_s,
                        max_pool_connections=place.concurrency,
                        # Every service knows Content-MD5; not every one the newer sums.
                        request_checksum_calculation="when_required",
                        response_checksum_validation="when_required",
                        s3={"addressing_style": "path"} if place.endpoint else None,
                    ),
                )
                # To ask first whether a body may be sent costs a round trip, and a second where
                # a server does not answer that.
                client.meta.events.unregister("before-call.s3", add_expect_header)
                self._client = client
            return self._client

    def _full(self, key: str) -> str:
        return f"{self.place.prefix}/{key}" if self.place.prefix else key

    def _short(self, key: str) -> str:
        return key[len(self.place.prefix) + 1 :] if self.place.prefix else key


class _AtRest(_WrongBody):
    """The wrong bytes are what lies in the bucket: to ask again would change nothing."""


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _has_md5(data: bytes, etag: str) -> bool:
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == etag


def _time(moment: datetime) -> float:
    return moment.timestamp()


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _text(error: Exception) -> str:
    if isinstance(error, _WrongBody):
        return "a body that is not what was stored"
    return str(error) or type(error).__name__


def _required(answer: Any, key: str) -> Any:
    if answer is None:
        raise _unwritable(key, "its upload in parts is gone")
    return answer


def _refused(error: ClientError, where: str, place: Place) -> StoreError:
    code = _code(error)
    if code == "NoSuchBucket":
        return StoreError(
            "bucket_missing",
            f"there is no bucket {place.bucket}" + (f" at {place.endpoint}" * bool(place.endpoint)),
            hint="Create it, or correct what names it (IMGFLOW_STORE, IMGFLOW_UPLOADS, uploads in "
            "catalogs.yaml) or AWS_ENDPOINT_URL_S3",
        )
    if code in _FORBIDDEN:
        return StoreError(
            "store_forbidden",
            f"{where}: the credentials do not allow this ({code})",
            hint="They must allow to list, get, put and delete below this prefix",
        )
    if code == "KeyTooLongError":
        return StoreError(
            "store_unwritable",
            f"{where}: S3 keeps no keys longer than 1,024 bytes",
            hint="Give the photo, its folders or the prefix shorter names",
        )
    return _unwritable(where, f"{code} {_text(error)}")


def _unwritable(where: str, why: str) -> StoreError:
    return StoreError(
        "store_unwritable",
        f"{where} cannot be used: {why}",
        hint="Check the bucket's settings and rights",
    )
