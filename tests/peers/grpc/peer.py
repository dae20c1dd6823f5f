"""A gRPC client and a server of the demo's service, its messages written by hand so that no code is generated.

`serve` answers `Hello{body}` with `Reply{server, xfcc, echo}` on every method; `call` makes calls and prints what came of them as `maille dev-app client`
does: a number of calls, or with `--rate` so many a second until its standard input ends. `watch` calls now and then, and prints every change of the
digits behind `--mark` in what it was told by xDS. With `--bootstrap FILE` either has its configuration and its certificate by xDS. What a request's metadata ask for (`x-delay`, `x-code` with
`x-fail-first` or `x-fail-at`) the server does. `tests/peers/grpc-go` is the same in Go.
"""

import argparse
import collections
import json
import os
import re
import sys
import threading
import time
from concurrent import futures

METHOD = "/demo.Greeter/Hello"
# Longer than a call takes when everything has to be asked for first; shorter than gRPC's own patience with a missing resource.
LIMIT_SECONDS = 10
WORKERS = 32
# Between two looks at what was told: a change lasts longer.
LOOK_SECONDS = 0.003
ERRORS_KEPT = 8


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def encode(*texts):
    """A message whose fields 1, 2, … are these texts."""
    fields = enumerate((text.encode() for text in texts), start=1)
    return b"".join(bytes([tag << 3 | 2]) + varint(len(text)) + text for tag, text in fields)


def decode(message, count):
    """The texts of fields 1 to `count`."""
    texts, at = [""] * count, 0
    while at < len(message):
        tag, length, shift = message[at] >> 3, 0, 0
        at += 1
        while True:
            byte, at = message[at], at + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        texts[tag - 1], at = message[at : at + length].decode(), at + length
    return texts


def serve(grpc, options):
    def answer(request, context):
        asked = dict(context.invocation_metadata())
        time.sleep(int(asked.get("x-delay", 0)) / 1000)
        before = int(asked.get("grpc-previous-rpc-attempts", 0))
        failing = asked.get("x-fail-at", options.name) == options.name
        if "x-code" in asked and failing and before < int(asked.get("x-fail-first", 1000)):
            context.abort(grpc.StatusCode[asked["x-code"]], f"attempt {before + 1}")
        # Nothing stands before a program with xDS: it sees its caller itself.
        peer = context.auth_context().get("peer_spiffe_id", [])
        own = ",".join(f"URI={identity.decode()}" for identity in peer)
        seen = own if options.bootstrap else asked.get("x-forwarded-client-cert", "")
        return encode(options.name, seen, decode(request, 1)[0])

    class Everything(grpc.GenericRpcHandler):
        def service(self, _details):
            return grpc.unary_unary_rpc_method_handler(answer)

    pool = futures.ThreadPoolExecutor(WORKERS)
    server = grpc.server(pool, handlers=[Everything()], xds=bool(options.bootstrap))
    if options.bootstrap:
        credentials = grpc.xds_server_credentials(grpc.insecure_server_credentials())
        server.add_secure_port(options.listen, credentials)
    else:
        server.add_insecure_port(options.listen)
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


class Tally:
    """What came of the calls."""

    def __init__(self):
        self.lock, self.begun = threading.Lock(), time.monotonic()
        self.counts = collections.Counter(sent=0, ok=0, failed=0, refused=0)
        self.servers, self.identities = collections.Counter(), collections.Counter()
        self.errors, self.took = [], []

    def answered(self, reply, took):
        server, xfcc, _ = decode(reply, 3)
        parts = xfcc.rsplit(",", 1)[-1].split(";")
        identity = next((part[4:].strip('"') for part in parts if part.startswith("URI=")), "-")
        with self.lock:
            self.counts.update(sent=1, ok=1)
            self.servers[server] += 1
            self.identities[identity] += 1
            self.took.append(int(took * 1e6))

    def failed(self, code, details):
        outcome = "refused" if code == "PERMISSION_DENIED" else "failed"
        with self.lock:
            self.counts.update({"sent": 1, outcome: 1})
            if len(self.errors) < ERRORS_KEPT:
                since = int((time.monotonic() - self.begun) * 1000)
                self.errors.append(f"at {since} ms: {code}: {details}")

    def line(self, target):
        with self.lock:
            took = sorted(self.took)
        at = lambda part: took[int(part * (len(took) - 1))] if took else 0
        latency = {"count": len(took), "p50": at(0.5), "p99": at(0.99), "max": at(1)}
        tally = {**self.counts, "connections": 1, "latency": latency, "errors": self.errors}
        tally |= {"servers": self.servers, "identities": self.identities}
        return json.dumps({"to": target, "tally": tally, "recent": latency})


def channel_to(grpc, options):
    if options.bootstrap:
        insecure = grpc.experimental.insecure_channel_credentials()
        return grpc.secure_channel(options.target, grpc.xds_channel_credentials(insecure))
    return grpc.insecure_channel(options.target)


def watch(grpc, options):
    from grpc._cython import cygrpc

    channel = channel_to(grpc, options)
    channel.subscribe(lambda _: None, try_to_connect=True)
    mark, last = re.compile(re.escape(options.mark).encode() + rb"(\d+)"), None
    while True:
        found = mark.search(cygrpc.dump_xds_configs())
        if found and found[1] != last:
            last = found[1]
            print("mark", last.decode(), flush=True)
        time.sleep(LOOK_SECONDS)


def call(grpc, options):
    channel = channel_to(grpc, options)
    method, tally = channel.unary_unary(options.method), Tally()
    metadata = [tuple(part.strip() for part in one.split(":", 1)) for one in options.header]
    request = encode(options.body)

    def once(_):
        begun = time.monotonic()
        try:
            reply = method(request, timeout=LIMIT_SECONDS, metadata=metadata)
            tally.answered(reply, time.monotonic() - begun)
        except grpc.RpcError as error:
            tally.failed(error.code().name, error.details())

    with futures.ThreadPoolExecutor(options.connections) as pool:
        if options.rate:
            at_a_rate(pool, once, options, tally)
        else:
            list(pool.map(once, range(options.count)))
        # What was called is reported from time to time, by a program that is there.
        time.sleep(options.stay)
    print(tally.line(options.target), flush=True)


def at_a_rate(pool, once, options, tally):
    """Calls until standard input ends; counts are printed once a second."""
    over = threading.Event()

    def listen():
        sys.stdin.read()
        over.set()

    def report():
        while not over.wait(1):
            print(tally.line(options.target), flush=True)

    for work in (listen, report):
        threading.Thread(target=work, daemon=True).start()
    begun, number = time.monotonic(), 0
    while not over.wait(max(0, begun + number / options.rate - time.monotonic())):
        pool.submit(once, number)
        number += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap")
    roles = parser.add_subparsers(dest="role", required=True)
    server = roles.add_parser("serve")
    server.add_argument("--listen", required=True)
    server.add_argument("--name", required=True)
    watcher = roles.add_parser("watch")
    watcher.add_argument("--target", required=True)
    watcher.add_argument("--mark", required=True)
    caller = roles.add_parser("call")
    caller.add_argument("--target", required=True)
    caller.add_argument("--method", default=METHOD)
    caller.add_argument("--count", type=int, default=1)
    caller.add_argument("--stay", type=float, default=0)
    caller.add_argument("--rate", type=int, default=0)
    caller.add_argument("--connections", type=int, default=1)
    caller.add_argument("--header", action="append", default=[])
    caller.add_argument("--body", default="hello")
    options = parser.parse_args()
    if options.bootstrap:
        os.environ["GRPC_XDS_BOOTSTRAP"] = options.bootstrap
    # gRPC reads its environment when it is imported.
    import grpc
    import grpc.experimental

    {"serve": serve, "call": call, "watch": watch}[options.role](grpc, options)


main()
