"""A folder on a drive that can fail: a read-only file system in user space (FUSE, spoken by hand) that shows another folder's files, and whose reads
return errors, are flipped, or wait. For faults.t; needs root and /dev/fuse."""
import ctypes
import errno
import os
import struct
import threading

_libc = ctypes.CDLL(None, use_errno=True)
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _RELEASE, _FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR, _INTERRUPT, _BATCH_FORGET = \
    1, 2, 3, 14, 15, 17, 18, 25, 26, 27, 28, 29, 36, 42
_MAX_PAGES = 1 << 22


def possible():
    return os.geteuid() == 0 and os.path.exists("/dev/fuse")


class Faulty:
    """`fault(name, offset, data)` is called with the whole bytes of each read and returns those to be given, or an errno; None: no fault. While
    `hold` is cleared reads wait, and `waiting` counts them. `reads` counts those that met a fault."""

    def __init__(self, source, mountpoint):
        self.source, self.mountpoint = source, mountpoint
        self.names = [None, None] + sorted(os.listdir(source))  # node 1 is the root
        self.files = {}
        self.fault, self.hold, self.reads, self.waiting = None, threading.Event(), 0, 0
        self.hold.set()
        os.makedirs(mountpoint, exist_ok=True)
        self.fd = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if _libc.mount(b"faulty", mountpoint.encode(), b"fuse.faulty", 7, options):  # nosuid, nodev, rdonly
            raise OSError(ctypes.get_errno(), "mount")
        for _ in range(20):  # a stalled read keeps one of them
            threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self.hold.set()
        _libc.umount2(self.mountpoint.encode(), 2)  # detached
        os.close(self.fd)

    def _attr(self, node):
        st = os.stat(self.source if node == 1 else os.path.join(self.source, self.names[node]))
        return struct.pack("<QQQQQQIIIIIIIIII", node, st.st_size, (st.st_size + 511) // 512, 0, 0, int(st.st_mtime), 0, 0, 0,
                           st.st_mode, 1, 0, 0, 0, 4096, 0)

    def _reply(self, unique, error, data=b""):
        try:
            os.write(self.fd, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)
        except OSError:
            pass  # whoever asked is gone

    def _serve(self):
        while True:
            try:
                message = os.read(self.fd, (1 << 20) + 4096)
            except OSError as e:
                if e.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return  # unmounted
            if not message:
                return
            length, op, unique, node = struct.unpack_from("<IIQQ", message)
            if op in (_FORGET, _BATCH_FORGET, _INTERRUPT):
                continue
            try:
                self._reply(unique, 0, self._answer(op, node, message[40:length]))
            except OSError as e:
                self._reply(unique, e.errno)

    def _answer(self, op, node, body):
        if op == _INIT:
            return struct.pack("<IIIIHHIIHHI", 7, 31, 1 << 20, _MAX_PAGES, 16, 12, 4096, 1, 256, 0, 0) + bytes(28)
        if op == _LOOKUP:
            name = body.split(b"\0")[0].decode()
            if name not in self.names:
                raise OSError(errno.ENOENT, name)
            node = self.names.index(name)
            return struct.pack("<QQQQII", node, 0, 60, 60, 0, 0) + self._attr(node)
        if op == _GETATTR:
            return struct.pack("<QII", 60, 0, 0) + self._attr(node)
        if op in (_OPEN, _OPENDIR):
            if op == _OPEN and node not in self.files:
                self.files[node] = os.open(os.path.join(self.source, self.names[node]), os.O_RDONLY)
            return struct.pack("<QII", node, 0, 0)
        if op == _READDIR:
            return self._entries(struct.unpack_from("<QQI", body)[1])
        if op == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return self._read(node, offset, size)
        if op == _STATFS:
            return struct.pack("<QQQQQIIII", 1 << 20, 0, 0, 100, 0, 4096, 255, 4096, 0) + bytes(24)
        if op in (_RELEASE, _RELEASEDIR, _FLUSH):
            return b""
        raise OSError(errno.ENOSYS, "")

    def _entries(self, offset):
        out = b""
        for i, name in enumerate(self.names[2:], 2):
            if i - 1 > offset:
                entry = struct.pack("<QQII", i, i - 1, len(name), 8) + name.encode()
                out += entry + bytes(-len(entry) % 8)
        return out

    def _read(self, node, offset, size):
        data = os.pread(self.files[node], size, offset)
        if not self.hold.is_set():
            self.waiting += 1
            self.hold.wait()
        got = self.fault(self.names[node], offset, data) if self.fault else None
        if got is None:
            return data
        self.reads += 1
        if isinstance(got, int):
            raise OSError(got, "")
        return got

