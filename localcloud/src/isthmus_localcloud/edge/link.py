"""The one way from a core device to the cloud: a loopback TCP forwarder in a process of its own.

Cutting the link ends this process: the kernel closes the listener and every connection, so the device gets
"connection refused", as behind a dead uplink. Mending it starts another on the same port.
"""

import asyncio
import ctypes
import signal
import sys

CHUNK_BYTES = 256 * 1024
PR_SET_PDEATHSIG = 1


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side ends."""
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return  # the other side went away: the finally of ``serve`` closes both
    finally:
        writer.close()


async def forward(listen_port: int, host: str, port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", listen_port)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """``python -m isthmus_localcloud.edge.link LISTEN_PORT CLOUD_PORT``"""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    asyncio.run(forward(int(sys.argv[1]), "127.0.0.1", int(sys.argv[2])))


if __name__ == "__main__":
    main()
