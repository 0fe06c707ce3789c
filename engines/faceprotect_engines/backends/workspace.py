"""The memory that plans compute in: one block of the GPU for all engines of a store, since they run one after the other.

Each TensorRT context would otherwise take its own and keep it: on a Jetson with 8 GB, for as many engines as a recipe names.
"""

from __future__ import annotations

import threading
from typing import Protocol

from faceprotect_engines.errors import OutOfMemory


class Device(Protocol):
    """What of ``backends.cuda.Cuda`` this takes."""

    def allocate(self, size: int) -> int:
        """Device memory of `size` bytes; raises OutOfMemory."""
        ...

    def free(self, address: int) -> None:
        """Give device memory back."""
        ...


class Scratch:
    """As much as the neediest of its users asks for. Hold :attr:`lock` for as long as a run uses it."""

    def __init__(self) -> None:
        """Nothing, until the first engine asks."""
        self.lock = threading.Lock()
        self.address, self.size, self._users = 0, 0, 0

    def join(self, device: Device, size: int) -> None:
        """One more user, who needs `size` bytes; raises OutOfMemory. The address may change for all of them."""
        with self.lock:
            if size > self.size:
                self._grow(device, size)
            self._users += 1

    def _grow(self, device: Device, size: int) -> None:
        """A larger block instead of the one there is, whose content nobody needs: never both at once."""
        before = self.size
        self._drop(device)
        try:
            self.address, self.size = device.allocate(size), size
        except OutOfMemory:
            if before:
                self.address, self.size = device.allocate(before), before
            raise

    def _drop(self, device: Device) -> None:
        if self.address:
            device.free(self.address)
        self.address, self.size = 0, 0

    def leave(self, device: Device) -> None:
        """One user less; the last gives the memory back. To be called with :attr:`lock` held."""
        self._users -= 1
        if not self._users:
            self._drop(device)
