"""Stand-in for a process that the fork server runs: ``relay.py SOCKET ARGUMENTS``.

It passes its streams, arguments and environment to the server, forwards signals, and exits as the process does. If it is
killed, the server kills the process.
"""

import contextlib
import json
import os
import signal
import socket
import sys

FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def receive(connection: socket.socket) -> int:
    """Return the next number that the server sends."""
    data = b""
    while len(data) < 8:
        part = connection.recv(8 - len(data))
        if not part:
            sys.exit("The fork server has ended.")
        data += part
    return int.from_bytes(data, "big")


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    os.umask(mask := os.umask(0))
    request = {"arguments": sys.argv[2:], "environ": dict(os.environ), "folder": os.getcwd(), "umask": mask}  # noqa: PTH109 - quick
    data = json.dumps(request).encode()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    socket.send_fds(connection, [len(data).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(data)
    process = receive(connection)

    def forward(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    status = os.waitstatus_to_exitcode(receive(connection))
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    if status < 0:
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        os.kill(os.getpid(), -status)
    os._exit(status)


main()
