"""A line to a registry at a rate: line.py LISTEN TARGET MBIT ROUND_TRIP_MS. Ends with its standard input.

All connections share the rate of what comes back, piece by piece, as they do on one wire; each piece comes half a round trip late, and so does
each request. Prints at its end how many bytes and requests went over it."""

import asyncio
import sys

listen, target, mbit, rtt = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]) / 1000
PIECE = 16384
free_at = 0.0
carried = requests = 0


async def there(reader, writer):
    """Requests: late, and as fast as they come."""
    global requests
    while data := await reader.read(PIECE):
        requests += data.startswith((b"GET ", b"HEAD "))
        await asyncio.sleep(rtt / 2)
        writer.write(data)
        await writer.drain()


async def back(reader, writer):
    """Answers: one piece after the other over the line that all share. A late piece does not hold up the next."""
    global free_at, carried
    loop = asyncio.get_running_loop()
    due = asyncio.Queue(64)

    async def deliver():
        while item := await due.get():
            when, data = item
            await asyncio.sleep(max(0, when - loop.time()))
            writer.write(data)
            await writer.drain()
        writer.close()

    delivering = asyncio.create_task(deliver())
    while data := await reader.read(PIECE):
        free_at = max(free_at, loop.time()) + len(data) * 8 / mbit / 1e6
        carried += len(data)
        await due.put((free_at + rtt / 2, data))
        await asyncio.sleep(max(0, free_at - loop.time()))
    await due.put(None)
    await delivering


async def serve(reader, writer):
    up_reader, up_writer = await asyncio.open_connection("127.0.0.1", target)
    try:
        await asyncio.gather(there(reader, up_writer), back(up_reader, writer))
    except OSError:
        pass
    finally:
        up_writer.close()
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", listen)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()
    print(f"{carried} {requests}", flush=True)
    import os
    os._exit(0)


asyncio.run(main())
