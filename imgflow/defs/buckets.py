"""An installation whose store or uploads are in buckets. Imported only where that is so: boto3
takes most of a second."""

from __future__ import annotations

import os

from dagster_aws.s3 import S3Resource

from imgflow.defs.resources import HomeResource
from imgflow.errors import ImgflowError
from imgflow.store.place import Place


class BucketHomeResource(HomeResource):
    """HomeResource by an S3Resource: that says endpoint and region. Its credentials must come
    from the environment, a profile of it or the machine's role: worker processes look there."""

    s3: S3Resource

    def place(self, place: Place) -> Place:
        if self.s3.aws_access_key_id or self.s3.aws_secret_access_key or self.s3.profile_name:
            raise ImgflowError(
                "credentials_in_resource",
                "the S3Resource holds credentials or a profile, which do not reach the workers",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            )
        return place.at(
            endpoint=self.s3.endpoint_url or place.endpoint,
            region=self.s3.region_name or place.region,
        )


def s3_resource() -> S3Resource:
    """S3 as the environment says: AWS_ENDPOINT_URL_S3, AWS_REGION."""
    environment = os.environ
    return S3Resource(
        endpoint_url=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"),
        region_name=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
    )
