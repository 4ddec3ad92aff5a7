#!/usr/bin/env python3
"""What the kernel alone takes to send to many sockets over loopback: the floor of a delivery on this machine.

    loadtest/floor.py [SOCKETS]

One process writes one frame (or sixteen in one go) to each socket in turn, another waits with epoll and reads. There is no
framing, no order, no log: only the kernel's time of the writing process is counted, so that the language does not matter. Over
loopback the writer's call delivers to the reader's socket, too; over a network card that part is another machine's.
"""

import os
import resource
import select
import signal
import socket
import sys
import time

# As a gateway sends an event with 300 bytes of content: its fields and the frame's header come on top.
FRAME = 700
ROUNDS = 20


def read_for_ever(address: tuple, sockets: int) -> None:
    """The listeners."""
    waiting, held = select.epoll(), {}
    for _ in range(sockets):
        one = socket.create_connection(address)
        one.setblocking(False)
        held[one.fileno()] = one
        waiting.register(one, select.EPOLLIN | select.EPOLLET)
    while True:
        for descriptor, _ in waiting.poll():
            try:
                while len(held[descriptor].recv(65_536)) == 65_536:
                    pass
            except BlockingIOError:
                pass
            except ConnectionError:
                return


def micros(sockets: int, frames: int) -> float:
    """Microseconds of kernel time for each frame, when this many frames go to each socket in one call."""
    with socket.create_server(("127.0.0.1", 0), backlog=4_096) as listener:
        reader = os.fork()
        if reader == 0:
            listener_address = listener.getsockname()
            listener.close()
            try:
                read_for_ever(listener_address, sockets)
            finally:
                os._exit(0)
        try:
            open_ones = [listener.accept()[0] for _ in range(sockets)]
            for one in open_ones:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            message, used = [b"x" * FRAME] * frames, 0.0
            for _ in range(ROUNDS):
                before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
                for one in open_ones:
                    one.sendmsg(message)
                used += resource.getrusage(resource.RUSAGE_SELF).ru_stime - before
                time.sleep(1 / 3)  # as often as the measurement of a delivery
            return used / (ROUNDS * sockets * frames) * 1e6
        finally:
            os.kill(reader, signal.SIGKILL)
            os.waitpid(reader, 0)
            for one in open_ones:
                one.close()


if __name__ == "__main__":
    sockets = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    for frames in (1, 16):
        print(f"{frames:>2} at a time: {micros(sockets, frames):.2f} us of kernel time for each of {FRAME} bytes to {sockets} sockets")
