"""awscrt: one meta request an object, straight to its file. It cannot list, so it is told the keys."""

from __future__ import annotations

import os
import threading
from urllib.parse import urlsplit

from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap, ClientTlsContext, DefaultHostResolver, EventLoopGroup, TlsContextOptions
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType
from plan import BUCKET, Plan, finish

IN_FLIGHT = 1000  # meta requests at once; the library decides how many connections they get


def main() -> None:
    plan = Plan.from_arguments()
    address = urlsplit(plan.endpoint)
    client = make_client(secure=address.scheme == "https")
    gate = threading.Semaphore(IN_FLIGHT)
    running, keys = [], 0
    for key, _ in plan.given():
        keys += 1
        gate.acquire()
        headers = HttpHeaders([("Host", address.netloc), ("Content-Length", "0")])
        request = client.make_request(
            type=S3RequestType.GET_OBJECT,
            request=HttpRequest("GET", f"/{BUCKET}/{key}", headers),
            recv_filepath=plan.path(key),
            on_done=lambda **_: gate.release(),
        )
        running.append(request.finished_future)
    for future in running:
        future.result()
    finish(keys)


def make_client(*, secure: bool) -> S3Client:
    threads = EventLoopGroup()  # as many as cores
    bootstrap = ClientBootstrap(threads, DefaultHostResolver(threads))
    options = None
    if secure:
        tls = TlsContextOptions()
        tls.override_default_trust_store_from_path(ca_filepath=os.environ["AWS_CA_BUNDLE"])
        options = ClientTlsContext(tls).new_connection_options()
    return S3Client(
        bootstrap=bootstrap,
        region=os.environ["AWS_REGION"],
        credential_provider=AwsCredentialsProvider.new_environment(),
        tls_mode=S3RequestTlsMode.ENABLED if secure else S3RequestTlsMode.DISABLED,
        tls_connection_options=options,
        throughput_target_gbps=10,
    )


main()
