"""Reading a file written by `torch.save` without PyTorch and without running anything the file says.

Such a file is a zip archive: `data.pkl`, a pickle of the saved object in which each tensor is a reference, and one raw
file per storage. The unpickler here knows dictionaries, tensors and storages; any other name in the pickle is refused.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

_MAX_PICKLE_BYTES = 16 * 2**20  # a TabPFN v2 checkpoint has 30 kB

_STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "BoolStorage": np.bool_,
}


class CheckpointError(ValueError):
    """A file that cannot be used as a checkpoint; the message is one line that says why."""


def read_torch_file(path: str | Path) -> Any:
    """The object in a `torch.save` file, with NumPy arrays for tensors.

    Raises:
        CheckpointError: the file is truncated, is no such file, or holds anything but dictionaries, lists, numbers,
            strings and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Reader(archive).read()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except zipfile.BadZipFile:
        raise CheckpointError(f"{path}: truncated, or not a zip archive as torch.save writes") from None
    except OSError:
        raise
    except Exception as error:
        # A malformed pickle can fail in any way at all; none of them is the caller's business.
        raise CheckpointError(f"{path}: malformed ({type(error).__name__} while reading)") from None


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile):
        entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(entries) != len(archive.infolist()):
            raise CheckpointError("not a torch.save file: it needs exactly one data.pkl and no repeated entries")
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise CheckpointError("has compressed entries, which torch.save never writes")
        self._archive, self._entries = archive, entries
        self._root = pickles[0].removesuffix("data.pkl")
        if self._root + "byteorder" in entries and self._bytes("byteorder", 16) != b"little":
            raise CheckpointError("byteorder is not 'little'; save it again on a little-endian machine")
        self._storages: dict[str, np.ndarray] = {}
        super().__init__(io.BytesIO(self._bytes("data.pkl", _MAX_PICKLE_BYTES)))

    def read(self) -> Any:
        return self.load()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _Function(lambda *items: _Dict(*items))
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Function(_tensor)
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise CheckpointError(
            f"refused: the pickle names {f'{module}.{name}'[:100]!r}, which is no part of a checkpoint"
        )

    def persistent_load(self, reference: Any) -> np.ndarray:
        kind, dtype, key, _location, size = reference
        if kind != "storage" or not isinstance(key, str) or dtype not in _STORAGES.values():
            raise CheckpointError("refused: the pickle refers to something other than a tensor's storage")
        if key not in self._storages:
            data = self._bytes(f"data/{key}", size * np.dtype(dtype).itemsize)
            self._storages[key] = np.frombuffer(data, dtype)
        if self._storages[key].size != size or self._storages[key].dtype != dtype:
            raise CheckpointError(f"storage {key[:20]!r} does not have the size that the pickle gives")
        return self._storages[key]

    def _bytes(self, name: str, limit: int) -> bytes:
        info = self._entries.get(self._root + name)
        if info is None:
            raise CheckpointError(f"truncated: entry {name[:40]!r} is missing")
        if info.file_size > limit:
            raise CheckpointError(f"entry {name[:40]!r} has {info.file_size} bytes, more than the {limit} expected")
        return self._archive.read(info)


class _Function:
    """A callable whose behaviour the pickle cannot change: it has no writable attribute."""

    __slots__ = ("_call",)
    _call: Any

    def __init__(self, call: Any):
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise CheckpointError("refused: the pickle sets an attribute of a function")


class _Dict(dict):
    """Stands for OrderedDict, whose `_metadata` attribute PyTorch saves as well."""

    def __setstate__(self, state: Any) -> None:
        """The attributes do not matter here."""


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_unused: Any) -> np.ndarray:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, np.ndarray) or not all(type(n) is int and n >= 0 for n in numbers):
        raise CheckpointError("refused: a tensor with an impossible shape or storage")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if prod(shape) > storage.size or (prod(shape) and last >= storage.size):
        raise CheckpointError("a tensor reaches beyond its storage")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[min(offset, storage.size) :], shape, steps).copy()
