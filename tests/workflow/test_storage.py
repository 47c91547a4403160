"""Results in an S3 store instead of on a shared disk: the workflow against a server on this machine."""

import shutil

import pytest
from pipeline import Checkout

pytest.importorskip("snakemake_storage_plugin_s3", reason="envs/requirements-dev.txt is not installed")
boto3 = pytest.importorskip("boto3", reason="envs/requirements-dev.txt is not installed")
moto = pytest.importorskip("moto.server", reason="envs/requirements-dev.txt is not installed")


@pytest.fixture
def store(monkeypatch):
    """An empty bucket: its client, and the words that send a run's results there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=address)
        client.create_bucket(Bucket="bucket")
        where = ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://bucket/eightfold"]
        yield client, [*where, "--storage-s3-endpoint-url", address]
    finally:
        server.stop()


def test_a_run_whose_results_lie_in_s3(finished, store, tmp_path):
    client, in_store = store
    checkout = Checkout.new(tmp_path / "one")
    checkout.run("submission", *in_store)

    def stored(name: str) -> bytes:
        return client.get_object(Bucket="bucket", Key=f"eightfold/results/tiny/{name}")["Body"].read()

    for name in ("submission.csv", "metrics.json", "predictions/valid.csv", "fold0/again/checkpoint.safetensors"):
        assert stored(name) == finished[f"results/tiny/{name}"].read_bytes(), name
    assert b"<svg" in stored("report.html")
    assert not checkout["results"].exists() and checkout.planned("submission", *in_store) == {}

    # Another machine, without Snakemake's memory of the first one's run.
    assert Checkout.new(tmp_path / "other").planned("submission", *in_store) == {}
    shutil.rmtree(checkout["pictures/train/bars"])
    assert "manifest" in checkout.planned("submission", *in_store)
