"""Reading a file written by `torch.save` without PyTorch and without running anything the file says.

Such a file is a zip archive: `data.pkl`, a pickle of the saved object in which each tensor is a reference, and one raw
file per storage. A pickle is a program for a small stack machine. The machine here knows the instructions that build
dictionaries, lists, tuples, numbers and strings, and of functions only the two that rebuild a tensor and an ordered
dictionary; everything else is refused, and nothing is looked up by name in Python.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

_MAX_PICKLE_BYTES = 2**17  # a TabPFN v2 checkpoint has 30 kB; a MB of instructions takes seconds

_STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "BoolStorage": np.bool_,
}


class CheckpointError(ValueError):
    """A file that cannot be used as a checkpoint; the message is one line that says why."""


def read_torch_file(path: str | Path) -> Any:
    """The object in a `torch.save` file, with NumPy arrays for tensors.

    Raises:
        CheckpointError: the file is truncated, is not a checkpoint, or holds anything but dictionaries, lists, numbers,
            strings and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            reader = _Archive(archive)
            return _run(reader.bytes("data.pkl", _MAX_PICKLE_BYTES), reader.storage, reader.size)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except zipfile.BadZipFile:
        raise CheckpointError(f"{path}: truncated, or not a zip archive as torch.save writes") from None
    except OSError:
        raise
    except Exception as error:
        # A malformed pickle can fail in any way at all; none of them is the caller's business.
        raise CheckpointError(f"{path}: malformed ({type(error).__name__} while reading)") from None


class _Archive:
    """The entries of the zip file below its one root folder, and the storages among them."""

    def __init__(self, archive: zipfile.ZipFile):
        entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(entries) != len(archive.infolist()):
            raise CheckpointError("not a torch.save file: it needs exactly one data.pkl and no repeated entries")
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise CheckpointError("has compressed entries, which torch.save never writes")
        self.size = sum(info.file_size for info in entries.values())
        if self.size > Path(str(archive.filename)).stat().st_size:
            raise CheckpointError("has entries that overlap, which torch.save never writes")
        self._archive, self._entries = archive, entries
        self._root = pickles[0].removesuffix("data.pkl")
        if self._root + "byteorder" in entries and self.bytes("byteorder", 16) != b"little":
            raise CheckpointError("byteorder is not 'little'; save it again on a little-endian machine")
        self._storages: dict[str, np.ndarray] = {}

    def storage(self, reference: Any) -> np.ndarray:
        """The array that a persistent reference of the pickle stands for."""
        kind, dtype, key, _location, size = reference
        if kind != "storage" or not isinstance(key, str) or dtype not in _STORAGES.values():
            raise CheckpointError("refused: the pickle refers to something other than a tensor's storage")
        if key not in self._storages:
            data = self.bytes(f"data/{key}", size * np.dtype(dtype).itemsize)
            self._storages[key] = np.frombuffer(data, dtype)
        if self._storages[key].size != size or self._storages[key].dtype != dtype:
            raise CheckpointError(f"storage {key[:20]!r} does not have the size that the pickle gives")
        return self._storages[key]

    def bytes(self, name: str, limit: int) -> bytes:
        info = self._entries.get(self._root + name)
        if info is None:
            raise CheckpointError(f"truncated: entry {name[:40]!r} is missing")
        if info.file_size > limit:
            raise CheckpointError(f"entry {name[:40]!r} has {info.file_size} bytes, more than the {limit} expected")
        return self._archive.read(info)


_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MOST_ARGUMENTS, _MOST_DIMENSIONS = 7, 8  # of the function that rebuilds a tensor, and of the tensor
_PUTS, _GETS = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"BINGET", "LONG_BINGET"}


def _run(program: bytes, storage: Callable[[Any], np.ndarray], most_bytes: int) -> Any:
    """What the pickle builds; `storage` resolves its references to storages, and tensors have so many bytes at most."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # what each mark has set aside
    memo: dict[int, Any] = {}

    def pop_to_mark() -> list[Any]:
        nonlocal stack
        values, stack = stack, below.pop()
        return values

    instructions: Iterator[tuple[Any, Any, Any]] = pickletools.genops(program)
    for opcode, argument, _ in instructions:
        name: str = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in _LITERALS:
            stack.append(argument)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name == "TUPLE":
            values = pop_to_mark()
            stack.append(tuple(values))
        elif name in _PUTS:
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in _GETS:
            stack.append(memo[argument])
        elif name in ("APPEND", "APPENDS"):
            values = pop_to_mark() if name == "APPENDS" else [stack.pop()]
            _of_type(stack[-1], list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = pop_to_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            if not all(isinstance(key, str | int) for key in values[::2]):
                raise CheckpointError("refused: a dictionary with keys other than strings and numbers")
            _of_type(stack[-1], dict).update(zip(values[::2], values[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(_known(argument))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [_known(" ".join(stack[-2:]))]
        elif name == "BINPERSID":
            stack.append(storage(stack.pop()))
        elif name == "REDUCE":
            function, arguments = stack.pop(-2), stack.pop()
            if function is not _tensor and function is not _dictionary:
                raise CheckpointError("refused: the pickle calls something that is not a function of a checkpoint")
            if len(arguments) > _MOST_ARGUMENTS:
                raise CheckpointError(f"refused: the pickle calls a function with {len(arguments)} arguments")
            stack.append(function(*arguments))
            most_bytes -= getattr(stack[-1], "nbytes", 0)
            if most_bytes < 0:
                raise CheckpointError("refused: its tensors have more bytes than the file")
        elif name == "BUILD":
            stack.pop()  # the attributes that PyTorch keeps with an ordered dictionary do not matter here
            _of_type(stack[-1], dict)
        else:
            raise CheckpointError(f"refused: the pickle has the instruction {name}, which is not part of a checkpoint")
    raise CheckpointError("truncated: the pickle has no end")


def _known(name: str) -> Any:
    """What a name of the pickle stands for, as `module name`."""
    if name == "collections OrderedDict":
        return _dictionary
    if name == "torch._utils _rebuild_tensor_v2":
        return _tensor
    module, _, short = name.partition(" ")
    if module == "torch" and short in _STORAGES:
        return _STORAGES[short]
    raise CheckpointError(f"refused: the pickle names {f'{module}.{short}'[:100]!r}, which is not part of a checkpoint")


def _of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise CheckpointError(f"refused: the pickle changes a {type(value).__name__} as if it were a {kind.__name__}")
    return value


def _dictionary(*items: Any) -> dict:
    if items:
        raise CheckpointError("refused: an ordered dictionary that is not empty at first")
    return {}


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_unused: Any) -> np.ndarray:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, np.ndarray) or not all(type(n) is int and n >= 0 for n in numbers):
        raise CheckpointError("refused: a tensor with an impossible shape or storage")
    if len(shape) > _MOST_DIMENSIONS:
        raise CheckpointError(f"refused: a tensor of {len(shape)} dimensions")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if prod(shape) > storage.size or (prod(shape) and last >= storage.size):
        raise CheckpointError("a tensor reaches beyond its storage")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[min(offset, storage.size) :], shape, steps).copy()
