"""s3transfer's manager on the CRT: boto3's paginator, then one download an object, to its file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

import boto3
import botocore.session
from botocore.config import Config
from plan import BUCKET, Plan, finish
from s3transfer.crt import BotocoreCRTCredentialsWrapper, BotocoreCRTRequestSerializer, CRTTransferManager
from s3transfer.crt import create_s3_crt_client as make_crt_client

IN_FLIGHT = 1000  # futures kept at once; the manager itself holds back at 128


def main() -> None:
    plan = Plan.from_arguments()
    secure = plan.endpoint.startswith("https:")
    region = os.environ["AWS_REGION"]
    session = botocore.session.get_session()
    credentials = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
    crt = make_crt_client(region, credentials, use_ssl=secure, verify=os.environ.get("AWS_CA_BUNDLE"))
    config = Config(s3={"addressing_style": "path"})
    options = {"endpoint_url": plan.endpoint, "region_name": region, "config": config}
    keys, running = 0, deque()
    with CRTTransferManager(crt, BotocoreCRTRequestSerializer(session, options)) as manager:
        for key in listed(plan, config):
            keys += 1
            running.append(manager.download(BUCKET, key, plan.path(key)))
            if len(running) > IN_FLIGHT:
                running.popleft().result()
        for future in running:
            future.result()
    finish(keys)


def listed(plan: Plan, config: Config) -> Iterator[str]:
    client = boto3.client("s3", endpoint_url=plan.endpoint, config=config)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=plan.prefix):
        for entry in page.get("Contents", ()):
            yield entry["Key"]


main()
