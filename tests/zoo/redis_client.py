"""Writes to a redis on a unix socket: python3 redis_client.py SOCKET forever|capped|expiring WRITES_PER_S"""

import socket
import sys
import time

from beat import beat

path, kind, rate = sys.argv[1], sys.argv[2], int(sys.argv[3])


def connect():
    while True:
        try:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            return connection
        except OSError:
            connection.close()
            time.sleep(0.2)


def command(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


connection, number, value = connect(), 0, b"v" * 1000
for _ in beat(0.1):
    batch = b""
    for _ in range(rate // 10):
        number += 1
        key = "key:%08d" % number
        batch += command("SET", key, value, "EX", 45) if kind == "expiring" else command("SET", key, value)
    connection.sendall(batch)
    connection.recv(65536)
