"""A bucket's notifications, from a queue of SQS: which objects have come or changed.

They save waiting, and nothing depends on them: what a queue loses, or tells twice or too early,
the next round through the bucket finds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from imgflow.errors import ImgflowError
from imgflow.store.place import Place

_BATCH = 10  # of one request; SQS gives no more
_MOST = 200  # of one look: each costs a request
_TIMEOUT_S = 5.0


class Notifications:
    """The queue at `url`, as far as it tells of objects below `place`.

    Takes S3's own events, those by EventBridge, and both wrapped by SNS.
    """

    def __init__(self, url: str, place: Place) -> None:
        self.url, self.place = url, place
        self._receipts: list[str] = []
        self.unread = 0
        """Messages that nobody understands; they are acknowledged with the others."""

    @classmethod
    def of(cls, place: Place, url: str | None = None) -> Notifications | None:
        """The queue at `url`; without that, the one that IMGFLOW_UPLOADS_QUEUE names, or None.

        Raises ImgflowError (code queue_invalid).
        """
        url = url or os.environ.get("IMGFLOW_UPLOADS_QUEUE")
        if not url:
            return None
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise ImgflowError(
                "queue_invalid",
                f"IMGFLOW_UPLOADS_QUEUE is no URL of a queue: {url!r}",
                hint="It looks like https://sqs.eu-west-1.amazonaws.com/123456789012/uploads",
            )
        return cls(url, place)

    def receive(self, budget_s: float) -> set[str]:
        """The names, below the place, of objects that were told of since; until the queue is
        empty or the time is up. Raises ImgflowError (code queue_failed)."""
        deadline = time.monotonic() + budget_s
        names: set[str] = set()
        while time.monotonic() < deadline and len(self._receipts) < _MOST:
            messages = self._ask("receive_message", MaxNumberOfMessages=_BATCH).get("Messages", [])
            for message in messages:
                self._receipts.append(message["ReceiptHandle"])
                names.update(self._names(message.get("Body", "")))
            if not messages:
                break
        return names

    def acknowledge(self) -> None:
        """Take what was received out of the queue. What is not comes again by itself."""
        while self._receipts:
            batch, self._receipts = self._receipts[:_BATCH], self._receipts[_BATCH:]
            entries = [{"Id": str(at), "ReceiptHandle": each} for at, each in enumerate(batch)]
            self._ask("delete_message_batch", Entries=entries)

    def _names(self, body: str) -> Iterator[str]:
        try:
            found = list(_objects(json.loads(body)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.unread += 1
            return
        prefix = f"{self.place.prefix}/" if self.place.prefix else ""
        for bucket, key in found:
            if bucket == self.place.bucket and key.startswith(prefix):
                yield key[len(prefix) :]

    def _ask(self, operation: str, **asked: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client(), operation)(QueueUrl=self.url, **asked)
        except (BotoCoreError, ClientError) as error:
            raise ImgflowError(
                "queue_failed",
                f"the queue {self.url} cannot be used: {error}",
                hint="Check the queue, and that the credentials may receive and delete",
            ) from error
        return answer

    def _client(self) -> Any:
        return boto3.session.Session().client(
            "sqs",
            region_name=self.place.region or ("us-east-1" if self.place.endpoint else None),
            config=Config(
                connect_timeout=_TIMEOUT_S,
                read_timeout=_TIMEOUT_S,
                retries={"mode": "standard", "total_max_attempts": 3},
            ),
        )


def _objects(message: Any) -> Iterator[tuple[str, str]]:
    """Bucket and key of each object that a message tells of."""
    if "Message" in message and "Records" not in message:  # wrapped by SNS
        message = json.loads(message["Message"])
    if "detail" in message:  # by EventBridge, which does not encode keys
        yield message["detail"]["bucket"]["name"], message["detail"]["object"]["key"]
        return
    for each in message.get("Records", ()):  # S3 tests a new queue with a message without any
        found = each["s3"]
        yield found["bucket"]["name"], unquote_plus(found["object"]["key"])
