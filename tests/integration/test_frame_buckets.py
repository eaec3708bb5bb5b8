"""Frames whose photos are objects of a bucket."""

from __future__ import annotations

import json
from uuid import uuid4

import boto3
import pandas as pd
import pytest

import cropline
from tests.photos import drawn, encoded


def test_photos_of_allowed_buckets_are_cut_and_others_are_refused(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"photos-{uuid4().hex[:8]}"
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket=bucket)
    photo = encoded(drawn(120, 80))
    client.put_object(Bucket=bucket, Key="a b/1.jpg", Body=photo)
    monkeypatch.setenv("CROPLINE_FETCH__ALLOWED_BUCKETS", json.dumps([bucket]))
    monkeypatch.setenv("CROPLINE_FETCH__BUCKET_ENDPOINTS", json.dumps({"s3": s3}))
    urls = [f"s3://{bucket}/a b/1.jpg", f"s3://{bucket}/missing.jpg", "s3://another/1.jpg"]
    df = pd.DataFrame({"ImgUrl": urls, "xmin": 0.1, "ymin": 0.1, "xmax": 0.6, "ymax": 0.9})
    crops = cropline.crop(df)
    assert crops["crop_reason"].tolist() == [None, "http_404", "forbidden_place"]
    same = cropline.crop(df[:1].assign(ImgUrl=[photo]))
    assert crops["crop_sha256"][0] == same["crop_sha256"][0]
