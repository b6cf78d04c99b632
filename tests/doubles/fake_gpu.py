"""A GPU in the host's memory: what is enqueued on a stream happens when the stream is waited for.

So a result that is read without waiting, memory that is used after it was freed, and anything that
is not freed at all are found by tests.
"""

import ctypes
import itertools


class FakeGpu:
    """Memory, streams and recordings, shared by the doubles of CUDA packages and of TensorRT.

    Attributes:
        device: bytes by address.
        pinned: host memory by address.
        streams: what waits on each stream.
        recordings: what was recorded so far on each stream that records; None once it was spoilt.
        graphs: recorded work by handle.
        failures: error by the name of the function that shall fail with it.
        waits: how often a stream was waited for.
        launches: how often a graph was launched.
    """

    def __init__(self):
        self.device = {}
        self.pinned = {}
        self.streams = {}
        self.recordings = {}
        self.graphs = {}
        self.failures = {}
        self.waits = 0
        self.launches = 0
        self.numbers = itertools.count(1)

    def allocate(self, nbytes):
        address = 0x7F0000000000 + 256 * 4096 * next(self.numbers)
        self.device[address] = bytearray(b"\xa5" * nbytes)  # never happens to be the right answer
        return address

    def free(self, address):
        del self.device[address]

    def pin(self, nbytes):
        block = (ctypes.c_byte * nbytes)(*[0x5A] * min(nbytes, 64))
        self.pinned[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def unpin(self, address):
        del self.pinned[address]

    def open_stream(self):
        stream = 1000 + next(self.numbers)
        self.streams[stream] = []
        return stream

    def close_stream(self, stream):
        del self.streams[stream]

    def enqueue(self, stream, work):
        if stream in self.recordings:
            self.recordings[stream].append(work)
        else:
            self.streams[stream].append(work)

    def wait(self, stream):
        assert stream not in self.recordings, "a stream that records cannot be waited for"
        self.waits += 1
        while self.streams[stream]:
            self.streams[stream].pop(0)()

    def upload(self, address, host_address, nbytes, stream):
        assert host_address in self.pinned, "not page-locked"
        assert nbytes == len(self.device[address])

        def copy():
            self.device[address][:] = ctypes.string_at(host_address, nbytes)

        self.enqueue(stream, copy)

    def download(self, host_address, address, nbytes, stream):
        assert host_address in self.pinned, "not page-locked"
        assert nbytes == len(self.device[address])
        self.enqueue(
            stream, lambda: ctypes.memmove(host_address, bytes(self.device[address]), nbytes)
        )

    def launch(self, graph, stream):
        self.launches += 1
        for work in self.graphs[graph]:
            self.enqueue(stream, work)

    @property
    def is_empty(self):
        """Whether everything was given back."""
        return not (self.device or self.pinned or self.streams or self.graphs or self.recordings)
