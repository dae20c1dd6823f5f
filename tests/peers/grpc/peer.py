"""A gRPC client and a server of raw bytes, so that no code is generated.

`serve ADDRESS` answers every unary call with who called, as JSON. `call TARGET METHOD` makes one call and prints what came of it, as JSON. With
`--bootstrap FILE` either has its configuration and its certificate by xDS.
"""

import argparse
import json
import os
from concurrent import futures

# Longer than a call takes when everything has to be asked for first; shorter than gRPC's own patience with a missing resource.
LIMIT_SECONDS = 10


def answer(_request, context):
    peer = context.auth_context().get("peer_spiffe_id", [])
    metadata = dict(context.invocation_metadata())
    seen = {
        "peer": [identity.decode() for identity in peer],
        "xfcc": metadata.get("x-forwarded-client-cert", ""),
    }
    return json.dumps(seen).encode()


def serve(grpc, options):
    class Everything(grpc.GenericRpcHandler):
        def service(self, _details):
            return grpc.unary_unary_rpc_method_handler(answer)

    pool = futures.ThreadPoolExecutor(4)
    server = grpc.server(pool, handlers=[Everything()], xds=bool(options.bootstrap))
    if options.bootstrap:
        credentials = grpc.xds_server_credentials(grpc.insecure_server_credentials())
        server.add_secure_port(options.address, credentials)
    else:
        server.add_insecure_port(options.address)
    server.start()
    server.wait_for_termination()


def call(grpc, options):
    if options.bootstrap:
        insecure = grpc.experimental.insecure_channel_credentials()
        channel = grpc.secure_channel(options.target, grpc.xds_channel_credentials(insecure))
    else:
        channel = grpc.insecure_channel(options.target)
    try:
        reply = channel.unary_unary(options.method)(b"", timeout=LIMIT_SECONDS)
        outcome = {"code": "OK", "details": "", **json.loads(reply)}
    except grpc.RpcError as error:
        outcome = {"code": error.code().name, "details": error.details()}
    print(json.dumps(outcome))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap")
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("serve").add_argument("address")
    caller = roles.add_parser("call")
    caller.add_argument("target")
    caller.add_argument("method")
    options = parser.parse_args()
    if options.bootstrap:
        os.environ["GRPC_XDS_BOOTSTRAP"] = options.bootstrap
    # gRPC reads its environment when it is imported.
    import grpc
    import grpc.experimental

    {"serve": serve, "call": call}[options.role](grpc, options)


main()
