"""Reading checkpoints: official ones, our own, and files that are out to harm."""

import io
import pickle
import shutil
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from ttt_jax.tabular import PFN, CheckpointError, PFNConfig, load_tabpfn_checkpoint
from ttt_jax.tabular.official.torch_file import read_torch_file

SMALL = Path(__file__).parent / "fixtures" / "small.ckpt"
SMALL_ROOT = zipfile.ZipFile(SMALL).namelist()[0].split("/")[0] + "/"


def rewrite(path: Path, data_pkl=None, drop=(), add=(), compression=zipfile.ZIP_STORED) -> Path:
    """The small checkpoint with its pickle replaced, entries dropped or added."""
    with zipfile.ZipFile(SMALL) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            if name.split("/", 1)[1] not in drop:
                is_pickle = name.endswith("/data.pkl")
                new.writestr(name, data_pkl if is_pickle and data_pkl is not None else old.read(name))
        for name, data in add:
            new.writestr(name, data)
    return path


class Storage:
    """Pickles as a reference to a storage of the archive."""

    def __init__(self, key="0", size=64, dtype="FloatStorage", kind="storage"):
        self.reference = (kind, Named("torch", dtype), key, "cpu", size)


class Named:
    """Pickles as a global name."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickles as a call of a global name, with an optional state to set on the result."""

    def __init__(self, function, *args):
        self.function, self.args = function, args


class Pickler(pickle._Pickler):
    """Writes names and references that this process cannot import."""

    def persistent_id(self, value):
        return value.reference if isinstance(value, Storage) else None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Named):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.args)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def dump(value) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def tensor(storage, offset=0, shape=(2,), strides=(1,)):
    return Call(Named("torch._utils", "_rebuild_tensor_v2"), storage, offset, shape, strides, False, {})


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_the_official_file_gives_sizes_and_parameters():
    pfn = load_tabpfn_checkpoint(SMALL)
    assert pfn.config == PFNConfig(embedding_size=16, num_heads=4, num_layers=3, mlp_factor=2)
    assert sum(leaf.size for leaf in jax.tree.leaves(pfn)) == sum(
        array.size for array in read_torch_file(SMALL)["state_dict"].values()
    )


def test_safetensors_round_trip(tmp_path):
    pfn = load_tabpfn_checkpoint(SMALL, outlier_sigma=12.0)
    pfn.save(tmp_path / "pfn.safetensors")
    again = PFN.load(tmp_path / "pfn.safetensors")
    assert again.config == pfn.config
    jax.tree.map(np.testing.assert_array_equal, again, pfn)


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("builtins", "getattr"), ("torch", "load"), ("collections", "Counter")],
)
def test_no_other_name_is_looked_up(tmp_path, module, name):
    path = rewrite(tmp_path / "evil.ckpt", dump({"state_dict": Call(Named(module, name), "touch harmed")}))
    with pytest.raises(CheckpointError, match=f"the pickle names '{module}.{name}'") as error:
        load_tabpfn_checkpoint(path)
    one_line(error)


def test_a_pickle_cannot_change_the_functions_that_it_may_call(tmp_path):
    function = dump(Named("torch._utils", "_rebuild_tensor_v2"))[:-1]
    state = dump((None, {"_call": 1}))[2:-1]
    path = rewrite(tmp_path / "evil.ckpt", function + state + pickle.BUILD + pickle.STOP)
    with pytest.raises(CheckpointError, match="changes a function as if it were a dict"):
        load_tabpfn_checkpoint(path)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + pickle.TUPLE1 * 100_000 + pickle.NONE + b"s.", "keys other than"),
        (pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + (pickle.DUP + pickle.TUPLE2) * 60 + pickle.NONE + b"s.", "DUP"),
        (pickle.EMPTY_TUPLE + b"q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b".", "no dictionary"),
        (b"(K\x01ios\nsystem\n.", "INST"),
        (b"\x82\x01.", "EXT1"),
        (b"K\x01K\x02\x81.", "NEWOBJ"),
        (b"K\x01K\x02R.", "calls something"),
        (b"]K\x01K\x02s.", "changes a list as if it were a dict"),
        (b"K\x01" * 3, "malformed|truncated"),
        (b"", "malformed|truncated"),
        (b"N" * 200_000 + b".", "more than the 131072 expected"),
        (b"N" * 60_000 + b"(t" * 30_000 + b".", "no dictionary"),
    ],
)
def test_programs_that_no_checkpoint_holds_are_refused(tmp_path, program, message):
    """Among them tuples whose hash would overflow the stack, or take 2^60 steps."""
    path = rewrite(tmp_path / "evil.ckpt", pickle.PROTO + b"\x02" + program)
    with pytest.raises(CheckpointError, match=message) as error:
        load_tabpfn_checkpoint(path)
    one_line(error)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (tensor(Storage(), shape=(10**12,), strides=(0,)), "beyond its storage"),
        (tensor(Storage(), shape=(8,), strides=(10,)), "beyond its storage"),
        (tensor(Storage(), offset=63), "beyond its storage"),
        (tensor(Storage(), offset=-1), "impossible shape"),
        (tensor(Storage(), shape=(-2,)), "impossible shape"),
        (tensor(Storage(), shape=(2.0,)), "impossible shape"),
        (tensor("text"), "impossible shape"),
        (tensor(Storage(key="99")), "missing"),
        (tensor(Storage(key="../../data.pkl")), "missing"),
        (tensor(Storage(size=10**9)), "does not have the size"),
        (tensor(Storage(size=1)), "more than the 4 expected"),
        (tensor(Storage(kind="module")), "other than a tensor's storage"),
        (tensor(Storage(dtype="UntypedStorage")), "torch.UntypedStorage"),
        (tensor(Storage(), shape=None), "malformed"),
        ([], "no dictionary"),
        ({}, "state_dict: missing"),
        ({"state_dict": {}, "config": 3}, "config: missing"),
        ({"state_dict": {}, "config": {}}, "max_num_classes: None"),
        ({"state_dict": {}, "config": {"max_num_classes": 10}}, "missing"),
        ({"state_dict": {3: 4}, "config": {"max_num_classes": 10}}, "not a tensor"),
        ({"architecture_name": "tabpfn_v2_5", "state_dict": {}, "config": {}}, r"v2\.5 or later"),
    ],
)
def test_foreign_contents_are_refused(tmp_path, value, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load_tabpfn_checkpoint(rewrite(tmp_path / "foreign.ckpt", dump(value)))
    one_line(error)


@pytest.mark.parametrize(
    "value",
    [
        b"(" + pickle.EMPTY_TUPLE + b"q\x00" + b"h\x00h\x00\x86q\x00" * 20 + b"t",  # 2^20 tuples to print
        pickle.EMPTY_TUPLE + pickle.TUPLE1 * 100_000,
        pickle.EMPTY_LIST,
    ],
)
@pytest.mark.parametrize("key", ["emsize", "seed", "max_num_classes", "normalize_x"])
def test_a_setting_that_is_no_number_is_not_printed(tmp_path, key, value):
    start, end = dump({"state_dict": {}, "config": {"max_num_classes": 10, key: 123}}).split(b"K{")
    path = rewrite(tmp_path / "evil.ckpt", start + value + end)
    with pytest.raises(CheckpointError, match=r"got '(tuple|list)'|: '(tuple|list)' is not") as error:
        load_tabpfn_checkpoint(path)
    one_line(error)


def test_a_long_setting_is_cut(tmp_path):
    contents = {"state_dict": {}, "config": {"max_num_classes": 10, "emsize": "long\n" * 10_000}}
    with pytest.raises(CheckpointError, match="embedding_size must be an integer") as error:
        load_tabpfn_checkpoint(rewrite(tmp_path / "long.ckpt", dump(contents)))
    one_line(error)


def test_tensors_that_share_a_storage_are_bounded_by_the_file(tmp_path):
    size = 50_000
    big = (SMALL_ROOT + "data/big", np.zeros(size, np.float32).tobytes())
    names = [f"transformer_encoder.layers.{i}.mlp.linear1.weight" for i in range(20)]
    state = {name: tensor(Storage("big", size), shape=(size,)) for name in names}
    path = rewrite(tmp_path / "bomb.ckpt", dump({"state_dict": state, "config": {"max_num_classes": 10}}), add=[big])
    with pytest.raises(CheckpointError, match="more bytes than the file") as error:
        load_tabpfn_checkpoint(path)
    one_line(error)


def test_a_call_with_many_arguments_is_refused(tmp_path):
    """Repeated, it would copy them every time."""
    with pytest.raises(CheckpointError, match="with 1005 arguments") as error:
        load_tabpfn_checkpoint(
            rewrite(tmp_path / "many.ckpt", dump(Call(Named("torch._utils", "_rebuild_tensor_v2"), *range(1005))))
        )
    one_line(error)


def test_a_shape_of_many_dimensions_is_refused(tmp_path):
    value = tensor(Storage(), shape=(1,) * 9, strides=(1,) * 9)
    with pytest.raises(CheckpointError, match="a tensor of 9 dimensions"):
        load_tabpfn_checkpoint(rewrite(tmp_path / "deep.ckpt", dump(value)))


def test_entries_that_overlap_are_refused(tmp_path):
    """The central directory points to one storage under many names."""
    name = SMALL_ROOT + "data/"
    path = rewrite(tmp_path / "bomb.ckpt", add=[(f"{name}bomb{i:02}", bytes(1 if i else 90_000)) for i in range(50)])
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo(f"{name}bomb00")
        for i in range(1, 50):
            other = archive.getinfo(f"{name}bomb{i:02}")
            other.header_offset, other.file_size, other.CRC = first.header_offset, first.file_size, first.CRC
            other.compress_size = first.compress_size
        archive.writestr(f"{name}last", b"")  # has the directory written anew
    with pytest.raises(CheckpointError, match="entries that overlap"):
        load_tabpfn_checkpoint(path)


@pytest.mark.parametrize("keep", [0, 1, 100, 20_000, 52_000])
def test_truncated_files_are_refused(tmp_path, keep):
    (tmp_path / "short.ckpt").write_bytes(SMALL.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated"):
        load_tabpfn_checkpoint(tmp_path / "short.ckpt")


def test_damaged_storages_are_refused(tmp_path):
    data = bytearray(SMALL.read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "damaged.ckpt").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged\.ckpt"):
        load_tabpfn_checkpoint(tmp_path / "damaged.ckpt")


def test_foreign_archives_are_refused(tmp_path):
    compressed = rewrite(tmp_path / "compressed.ckpt", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed entries"):
        load_tabpfn_checkpoint(compressed)
    with pytest.raises(CheckpointError, match="exactly one"):
        load_tabpfn_checkpoint(rewrite(tmp_path / "none.ckpt", drop=["data.pkl"]))
    with pytest.raises(CheckpointError, match="exactly one"):
        load_tabpfn_checkpoint(rewrite(tmp_path / "two.ckpt", add=[("other/data.pkl", b"")]))
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(CheckpointError, match="not a zip archive"):
        load_tabpfn_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(FileNotFoundError):
        load_tabpfn_checkpoint(tmp_path / "absent.ckpt")


def with_contents(tmp_path, monkeypatch, change):
    """Load the small checkpoint after `change(contents)`."""
    contents = read_torch_file(SMALL)
    change(contents)
    monkeypatch.setattr("ttt_jax.tabular.official.checkpoint.read_torch_file", lambda path: contents)
    return load_tabpfn_checkpoint(shutil.copy(SMALL, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["config"].update(emsize=32), "shape"),
        (lambda c: c["config"].update(nlayers=4), "shape"),
        (lambda c: c["config"].update(nhead=8), "shape"),
        (lambda c: c["config"].update(nhead=5), "num_heads: 5 does not divide"),
        (lambda c: c["config"].update(max_num_classes=0), "max_num_classes: 0 is not a classifier"),
        (lambda c: c["config"].update(item_attention_type="gnn"), "item_attention_type: 'gnn'"),
        (lambda c: c["config"].update(feature_positional_embedding="learned"), "feature_positional_embedding"),
        (lambda c: c["config"].update(emsize="16"), "embedding_size must be an integer >= 4, got '16'"),
        (lambda c: c["state_dict"].pop("decoder_dict.standard.0.bias"), "'decoder_hidden.bias' is missing"),
        (lambda c: c["state_dict"].update({"criterion.borders": np.zeros(3, np.float32)}), "'criterion.borders'"),
        (lambda c: c["state_dict"].update({"encoder.6.layer.weight": np.zeros((16, 4), np.float32)}), "encoder"),
        (lambda c: c["state_dict"].update({"decoder_dict.standard.0.bias": np.zeros(3, np.int64)}), "real numbers"),
    ],
)
def test_contents_that_do_not_fit_are_refused(tmp_path, monkeypatch, change, message):
    with pytest.raises(CheckpointError, match=message) as error:
        with_contents(tmp_path, monkeypatch, change)
    one_line(error)


def test_unknown_keys_are_ignored_and_none_is_the_default(tmp_path, monkeypatch):
    pfn = with_contents(
        tmp_path, monkeypatch, lambda c: c["config"].update(lr=1e-4, attention_init_gain=None, seed=None)
    )
    assert pfn.config == load_tabpfn_checkpoint(SMALL).config


def small_tensors(tmp_path):
    """The tensors of PFN.save's file, the first one's name, and the configuration's text."""
    from safetensors import safe_open
    from safetensors.numpy import load_file

    load_tabpfn_checkpoint(SMALL).save(path := tmp_path / "small.safetensors")
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    return tensors, min(tensors), metadata


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: np.full_like(a, np.nan), "column.bias: holds NaN or infinite values"),
        (lambda a: np.where(np.arange(a.size) == 1, -np.inf, a), "column.bias: holds NaN or infinite values"),
        (lambda a: np.full(a.shape, 1e300), "column.bias: holds NaN or infinite values"),
        (lambda a: a.astype(np.int32), "column.bias: type int32 where real numbers are needed"),
        (lambda a: a.astype(np.uint8), "column.bias: type uint8 where real numbers are needed"),
        (lambda a: a.astype(bool), "column.bias: type bool where real numbers are needed"),
    ],
)
def test_weights_are_finite_real_numbers(tmp_path, change, message):
    from safetensors.numpy import save_file

    tensors, name, metadata = small_tensors(tmp_path)
    save_file(tensors | {name: change(tensors[name])}, tmp_path / "bad.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=message) as error:
        PFN.load(tmp_path / "bad.safetensors")
    one_line(error)


def test_an_official_file_with_nan_is_refused(tmp_path, monkeypatch):
    def change(contents):
        contents["state_dict"]["decoder_dict.standard.0.bias"][3] = np.nan

    with pytest.raises(CheckpointError, match=r"decoder_hidden\.bias: holds NaN"):
        with_contents(tmp_path, monkeypatch, change)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[" * 100_000, "100000 characters"),
        ("[" * 9_000, "recursion|Expecting"),
        ('{"a":' * 2_000, "recursion|Expecting"),
        ("", "0 characters"),
        ("5", "must be a mapping"),
        ('{"a\\nb": 1}', "unexpected keyword"),
        ('{"embedding_size": "' + "x" * 5_000 + '"}', "must be an integer"),
        ('{"embedding_size": ' + "9" * 4_000 + "}", "num_heads: 6 does not divide"),
    ],
)
def test_a_hostile_configuration_is_one_line(tmp_path, config, message):
    from safetensors.numpy import save_file

    tensors, _, metadata = small_tensors(tmp_path)
    save_file(tensors, tmp_path / "bad.safetensors", metadata=metadata | {"config": config})
    with pytest.raises(CheckpointError, match=message) as error:
        PFN.load(tmp_path / "bad.safetensors")
    one_line(error)


def test_foreign_safetensors_are_refused(tmp_path):
    from safetensors.numpy import save_file

    (tmp_path / "text.safetensors").write_text("no tensors here")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        PFN.load(tmp_path / "text.safetensors")
    for unreadable in (tmp_path, tmp_path / "nowhere.safetensors"):
        with pytest.raises(CheckpointError, match=f"{unreadable}: cannot be read"):
            PFN.load(unreadable)
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="format None"):
        PFN.load(tmp_path / "other.safetensors")


def test_a_storage_is_one_of_pytorch_s(tmp_path):
    path = rewrite(tmp_path / "evil.ckpt", dump({"state_dict": Named("other", "FloatStorage")}))
    with pytest.raises(CheckpointError, match=r"the pickle names 'other\.FloatStorage'"):
        load_tabpfn_checkpoint(path)
