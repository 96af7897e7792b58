"""Make the buckets that DVC and MLflow write to; what exists stays."""

import boto3

s3 = boto3.client("s3")
known = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
for name in {"dvc", "mlflow"} - known:
    s3.create_bucket(Bucket=name)
