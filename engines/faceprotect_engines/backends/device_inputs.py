"""What a loop feeds again and again, sent to the device once.

Stable Diffusion's denoiser takes 180 MB of attention maps at 256 px, others at every step of the same few: that, and not what it computes,
would be most of a run.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Protocol

from faceprotect_engines.errors import OutOfMemory
from faceprotect_engines.spec import Array, constant

#: Bytes below which a copy from the host is not worth avoiding by one on the device.
LARGE = 1 << 20


class Device(Protocol):
    """What of ``backends.cuda.Cuda`` this takes."""

    def allocate(self, size: int) -> int:
        """Device memory of `size` bytes; raises OutOfMemory."""
        ...

    def free(self, address: int) -> None:
        """Give device memory back."""
        ...

    def upload(self, address: int, array: Array) -> None:
        """Copy a contiguous array to the device, in the stream."""
        ...

    def duplicate(self, address: int, source: int, size: int) -> None:
        """Copy on the device, in the stream."""
        ...

    def spare(self) -> int:
        """Bytes that may be taken for what could be sent again."""
        ...


@dataclass
class _Known:
    """An array that was sent, and the address of its copy on the device, if it has one."""

    array: weakref.ref[Array]
    copy: int = 0


class Resident:
    """Sends arrays to the buffers of one engine. Those that cannot change stay where they are, or are kept beside them.

    Beside: where a buffer takes turns with several large ones. Not for use by two threads at once.
    """

    def __init__(self, device: Device) -> None:
        """Nothing has been sent."""
        self._device = device
        self._there: dict[int, weakref.ref[Array]] = {}
        self._known: dict[int, _Known] = {}

    def send(self, address: int, array: Array) -> None:
        """Bring a contiguous array to the buffer at `address`."""
        self._forget_dead()
        there = self._there.pop(address, None)
        if not constant(array):
            self._device.upload(address, array)
            return
        if there is None or there() is not array:
            copy = self._copy(array) if array.nbytes >= LARGE else 0
            if copy:
                self._device.duplicate(address, copy, array.nbytes)
            else:
                self._device.upload(address, array)
        self._there[address] = weakref.ref(array)

    def _copy(self, array: Array) -> int:
        """Where on the device the array lies, too; from the second time on that it is asked for, and 0 where there is no room."""
        known = self._known.get(id(array))
        if known is None:
            self._known[id(array)] = _Known(weakref.ref(array))
            return 0
        if not known.copy and array.nbytes <= self._device.spare():
            known.copy = self._sent(array)
        return known.copy

    def _sent(self, array: Array) -> int:
        """A new copy on the device; 0 where there is no memory for one."""
        try:
            address = self._device.allocate(array.nbytes)
        except OutOfMemory:
            return 0
        try:
            self._device.upload(address, array)
        except BaseException:
            self._device.free(address)
            raise
        return address

    def _forget_dead(self) -> None:
        for key in [key for key, known in self._known.items() if known.array() is None]:
            self._free(self._known.pop(key))

    def _free(self, known: _Known) -> None:
        if known.copy:
            self._device.free(known.copy)

    def close(self) -> None:
        """Give the device's memory back."""
        for known in self._known.values():
            self._free(known)
        self._known.clear()
        self._there.clear()
