"""A bad line to a registry: proxy.py LISTEN TARGET KIND. Ends with its standard input.

Each connection is passed on; of KIND `cut` every third is closed after 400,000 bytes of the answer, of `flip` one byte of
one answer in three is another, of `slow` each piece comes 30 ms late, of `none` nothing happens. Prints how many it harmed."""

import itertools
import socket
import sys
import threading
import time

listen, target, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
count, harmed = itertools.count(1), itertools.count()


def pump(source, sink, harm):
    passed = 0
    try:
        while data := source.recv(65536):
            if harm and kind == "cut" and passed + len(data) > 400_000:
                next(harmed)
                break
            if harm and kind == "flip" and passed < 200_000 <= passed + len(data):
                next(harmed)
                at = 200_000 - passed - 1
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
            if harm and kind == "slow":
                time.sleep(0.03)
            passed += len(data)
            sink.sendall(data)
    except OSError:
        pass
    for one in (source, sink):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(server):
    while True:
        client, _ = server.accept()
        upstream = socket.create_connection(("127.0.0.1", target))
        bad = kind == "slow" or next(count) % 3 == 0
        threading.Thread(target=pump, args=(client, upstream, False), daemon=True).start()
        threading.Thread(target=pump, args=(upstream, client, bad), daemon=True).start()


server = socket.create_server(("127.0.0.1", listen))
threading.Thread(target=serve, args=(server,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
print(next(harmed), flush=True)
