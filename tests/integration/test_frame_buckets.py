"""Frames whose photos are objects of a bucket."""

from __future__ import annotations

import gzip
import io
import json
from uuid import uuid4

import boto3
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cropline
from tests.photos import drawn, encoded


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("CROPLINE_FETCH__BUCKET_ENDPOINTS", json.dumps({"s3": s3}))
    name = f"photos-{uuid4().hex[:8]}"
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=name)
    return name


def test_photos_of_allowed_buckets_are_cut_and_others_are_refused(
    s3: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = encoded(drawn(120, 80))
    boto3.client("s3", endpoint_url=s3).put_object(Bucket=bucket, Key="a b/1.jpg", Body=photo)
    monkeypatch.setenv("CROPLINE_FETCH__ALLOWED_BUCKETS", json.dumps([bucket]))
    urls = [f"s3://{bucket}/a b/1.jpg", f"s3://{bucket}/missing.jpg", "s3://another/1.jpg"]
    df = pd.DataFrame({"ImgUrl": urls, "xmin": 0.1, "ymin": 0.1, "xmax": 0.6, "ymax": 0.9})
    crops = cropline.crop(df)
    assert crops["crop_reason"].tolist() == [None, "http_404", "forbidden_place"]
    same = cropline.crop(df[:1].assign(ImgUrl=[photo]))
    assert crops["crop_sha256"][0] == same["crop_sha256"][0]


def test_a_frame_is_read_from_files_of_a_bucket(s3: str, bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=s3)
    photo = encoded(drawn(120, 80))
    box = {"xmin": [0.1], "ymin": [0.1], "xmax": [0.6], "ymax": [0.9]}
    for day in (2, 3):
        body = io.BytesIO()
        pq.write_table(pa.table({"ImgUrl": [photo], "n": [day], **box}), body)
        client.put_object(Bucket=bucket, Key=f"boxes/day=2026-03-0{day}/0.parquet", Body=body.getvalue())
    client.put_object(Bucket=bucket, Key="boxes/_SUCCESS", Body=b"")
    text = b"ImgUrl,xmin,ymin,xmax,ymax,sku\nhttps://127.0.0.1/1.jpg,0,0,1,1,007\n"
    client.put_object(Bucket=bucket, Key="lists/boxes.csv.gz", Body=gzip.compress(text))

    for where in (f"s3://{bucket}/boxes/", f"s3://{bucket}/boxes", f"s3://{bucket}/boxes/*/0.parquet"):
        crops = cropline.crop(where)
        assert crops["crop_status"].tolist() == ["written"] * 2, where
        assert crops["day"].tolist() == ["2026-03-02", "2026-03-03"]
        assert crops["n"].tolist() == [2, 3]
    one = cropline.crop(f"s3://{bucket}/boxes/day=2026-03-02/0.parquet")
    assert one["crop_sha256"].tolist() == crops["crop_sha256"].tolist()[:1]
    listed = cropline.crop(f"s3://{bucket}/lists/boxes.csv.gz")
    assert listed[["sku", "crop_reason"]].to_numpy().tolist() == [["007", "forbidden_address"]]

    for where, told in (
        (f"s3://{bucket}/none.parquet", "df: there is no file s3://"),
        (f"s3://{bucket}/boxes/_SUCCESS", "df: _SUCCESS is neither Parquet nor CSV"),
        (f"s3://no-{bucket}/boxes.parquet", "df: cannot "),
    ):
        with pytest.raises(cropline.OptionError, match=told) as raised:
            cropline.crop(where)
        assert "\n" not in str(raised.value)
