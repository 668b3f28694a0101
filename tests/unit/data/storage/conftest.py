"""An S3 server on loopback, with a proxy before it that can be told to fail."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from faulty_proxy import FaultyProxy
from moto.server import ThreadedMotoServer


class Bucket:
    """The bucket `corpus`, as someone sees it who does not go through the proxy."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(proxies={}),
        )
        self._client.create_bucket(Bucket="corpus")

    def put(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket="corpus", Key=key, Body=content)

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket="corpus", Key=key)

    def upload(self, folder: Path) -> str:
        """All files of a folder, as `v/<folder's name>/...`; returns the URL of `v`."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"v/{folder.name}/{path.relative_to(folder)}", path.read_bytes())
        return "s3://corpus/v"

    def empty(self) -> None:
        for entry in self._client.list_objects_v2(Bucket="corpus").get("Contents", []):
            self.remove(entry["Key"])

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="session")
def session_bucket() -> Iterator[Bucket]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    bucket = Bucket(*server.get_host_and_port())
    yield bucket
    bucket.close()
    server.stop()


@pytest.fixture
def bucket(session_bucket: Bucket) -> Iterator[Bucket]:
    yield session_bucket
    session_bucket.empty()


@pytest.fixture
def s3(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultyProxy]:
    """The proxy before the bucket's server. Credentials are where s3fs looks for them."""
    for key, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(key, value)
    proxy = FaultyProxy(bucket.host, bucket.port)
    yield proxy
    proxy.close()
