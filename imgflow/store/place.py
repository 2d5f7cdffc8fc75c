"""Where in which bucket something lies: plain settings, for every process that opens it.

Credentials are no part of them: every process finds its own, as all programs of AWS do (the
environment, a profile, the role of its machine).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import urlsplit

from imgflow.errors import ImgflowError

SCHEME = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Place:
    """A prefix in a bucket of S3, or of what speaks like it (MinIO, R2).

    prefix: without slashes at its ends; empty: the whole bucket. endpoint: None: that of AWS.
    region: None: as the environment says. concurrency: requests of one process under way at once.
    attempts, backoff_s: how often a request is made, and seconds before the second time; they
    double up to `longest_wait_s`. timeout_s: without a byte of an answer. part_bytes: what is
    larger than two such parts is sent in parts.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    concurrency: int = 16
    attempts: int = 8
    backoff_s: float = 0.1
    longest_wait_s: float = 5.0
    timeout_s: float = 30.0
    part_bytes: int = 16 << 20

    @classmethod
    def parse(cls, url: str) -> Self:
        """Of `s3://bucket/prefix`; endpoint and region as the environment says.

        Raises ImgflowError (code place_invalid).
        """
        parts = urlsplit(url)
        prefix = parts.path.strip("/")
        if (
            not url.startswith(SCHEME)
            or not _BUCKET.fullmatch(parts.netloc)
            or parts.query
            or parts.fragment
            or any(part in ("", ".", "..") for part in prefix.split("/") if prefix)
        ):
            raise ImgflowError(
                "place_invalid",
                f"{url!r} names no place in a bucket",
                hint="Write it as s3://bucket or s3://bucket/prefix",
            )
        return cls(
            bucket=parts.netloc,
            prefix=prefix,
            endpoint=_first_of("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
            region=_first_of("AWS_REGION", "AWS_DEFAULT_REGION"),
        )

    @classmethod
    def named_by(cls, variable: str) -> Self | None:
        """The place that a variable of the environment names; None where it is not set."""
        url = os.environ.get(variable)
        return cls.parse(url) if url else None

    @property
    def url(self) -> str:
        return SCHEME + "/".join(filter(None, (self.bucket, self.prefix)))

    def overlaps(self, other: Place) -> bool:
        """Whether the one lies in the other, or they are the same. By whatever endpoint."""
        ours, theirs = (f"{each.prefix}/".lstrip("/") for each in (self, other))
        return self.bucket == other.bucket and (ours.startswith(theirs) or theirs.startswith(ours))

    def at(self, *, endpoint: str | None, region: str | None) -> Self:
        """The same place by another endpoint and region."""
        return replace(self, endpoint=endpoint, region=region)


def _first_of(*variables: str) -> str | None:
    return next((found for each in variables if (found := os.environ.get(each))), None)
