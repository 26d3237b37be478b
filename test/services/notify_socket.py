"""Reads what sd_notify(3) sends, as a service manager does: prints each datagram as a line of JSON.

The socket is a path, or an abstract name that begins with "@". Descriptors that come along are closed: systemd-notify
waits for that (BARRIER=1).
"""
import array
import json
import os
import socket
import struct
import sys

address = sys.argv[1]
reader = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
reader.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
reader.bind("\0" + address[1:] if address.startswith("@") else address)
print("ready", flush=True)
while True:
    space = socket.CMSG_SPACE(struct.calcsize("3i")) + socket.CMSG_SPACE(64)
    data, control, _, _ = reader.recvmsg(8192, space)
    descriptors = array.array("i")
    pid = 0
    for level, kind, value in control:
        if kind == socket.SCM_RIGHTS:
            descriptors.frombytes(value[: len(value) - len(value) % descriptors.itemsize])
        elif kind == socket.SCM_CREDENTIALS:
            pid = struct.unpack("3i", value)[0]
    fields = data.decode().strip("\n").split("\n")
    print(json.dumps({"fields": fields, "descriptors": len(descriptors), "pid": pid}), flush=True)
    for descriptor in descriptors:
        os.close(descriptor)
