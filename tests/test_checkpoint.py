"""A checkpoint is whole or refused, and a save that fails leaves the older ones as they were."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metarl import checkpoint
from metarl.errors import DamagedFile, UserError

FILES = ("agent.safetensors", "state.json", "MANIFEST.json")
DEAD = 2**22 + 1  # above the largest process id that Linux gives


def tensors(value: float = 1.0) -> dict[str, dict[str, torch.Tensor]]:
    return {"agent": {
        "weights": torch.full((3, 4), value),
        "count": torch.tensor(7),
        "empty": torch.empty(0, 0, 5),
        "mask": torch.tensor([True, False]),
        "nan": torch.tensor([torch.nan, torch.inf], dtype=torch.float64),
    }}


def save(root: Path, step: int, value: float = 1.0) -> Path:
    return checkpoint.save(root, step, tensors(value), {"step": step, "third": 1 / 3})


def refuse(text: str) -> None:
    raise AssertionError(f"nothing to warn about, but: {text}")


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_what_is_loaded_is_what_was_saved_bit_for_bit(tmp_path: Path) -> None:
    found, state = checkpoint.load(save(tmp_path, 1200))
    assert state == {"step": 1200, "third": 1 / 3}
    for name, tensor in tensors()["agent"].items():
        assert found["agent"][name].dtype == tensor.dtype
        assert torch.equal(found["agent"][name].nan_to_num(), tensor.nan_to_num())
    assert found["agent"]["nan"][0].isnan()


def test_a_name_sorts_as_its_step_does(tmp_path: Path) -> None:
    assert save(tmp_path, 9 * 10**8).name == "step_900000000"
    save(tmp_path, 10**9)  # ten digits: as text it would sort before the other
    latest = checkpoint.latest(tmp_path)
    assert latest is not None and latest.name == "step_1000000000"


def test_only_the_two_newest_are_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    for name in ("notes", "step_1", ".tmp-mine", "step_000000001.bak"):
        (tmp_path / name).mkdir()
    (tmp_path / f".tmp-step_000000001-{DEAD}").mkdir()
    (tmp_path / f".tmp-step_000000001-{os.getppid()}").mkdir()
    for step in (100, 200, 300):
        save(tmp_path, step)
    assert names(tmp_path) == sorted([
        "notes", "step_1", ".tmp-mine", "step_000000001.bak",
        f".tmp-step_000000001-{os.getppid()}", "step_000000200", "step_000000300",
    ])


def test_saving_the_same_step_again_keeps_what_is_there(tmp_path: Path) -> None:
    save(tmp_path, 100, value=1.0)
    save(tmp_path, 100, value=2.0)
    found, _ = checkpoint.load(tmp_path / "step_000000100")
    assert found["agent"]["weights"][0, 0] == 1.0


def test_a_damaged_checkpoint_is_replaced_when_training_passes_it_again(tmp_path: Path) -> None:
    path = save(tmp_path, 100)
    (path / "state.json").write_text("{}")
    save(tmp_path, 100)
    assert checkpoint.is_whole(path)


@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed_and_its_file_named(
    tmp_path: Path, name: str, where: float, bit: int
) -> None:
    path = tmp_path / "step_000000100"
    if not path.exists():
        save(tmp_path, 100)
    whole = (path / name).read_bytes()
    damaged = bytearray(whole)
    damaged[int(where * len(whole))] ^= 1 << bit
    (path / name).write_bytes(damaged)
    # A flip inside the manifest may change a name, a size or a hash: some file is then not as
    # recorded. One in its format number, or in white space, is a matter of its own.
    same = name == "MANIFEST.json" and _manifest_means_the_same(whole, bytes(damaged))
    try:
        if same:
            checkpoint.load(path)
        else:
            with pytest.raises(UserError) as caught:
                checkpoint.load(path)
            assert str(path) in str(caught.value)
            assert name == "MANIFEST.json" or name in str(caught.value)
    finally:
        (path / name).write_bytes(whole)


def _manifest_means_the_same(whole: bytes, damaged: bytes) -> bool:
    try:
        return json.loads(whole) == json.loads(damaged)
    except ValueError:
        return False


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "deleted", "emptied", "longer"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    path = save(tmp_path, 100)
    data = (path / name).read_bytes()
    if damage == "deleted":
        (path / name).unlink()
    else:
        # The last bytes of the manifest are "]\n}\n": three fewer leave it open.
        new = {"truncated": data[:-3], "emptied": b"", "longer": data + b"x"}[damage]
        (path / name).write_bytes(new)
    with pytest.raises(DamagedFile, match=name) as caught:
        checkpoint.load(path)
    assert caught.value.exit_code == 3
    if name != "MANIFEST.json" and damage == "truncated":
        # Three bytes short; the message says by how much.
        said = f"has {len(data) - 3} bytes where {len(data)} were written"
        assert said in str(caught.value)


def test_a_damaged_checkpoint_falls_back_loudly_to_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, 100, value=1.0)
    newest = save(tmp_path, 200, value=2.0)
    (newest / "agent.safetensors").unlink()
    warnings: list[str] = []
    found = checkpoint.latest_good(tmp_path, warnings.append)
    assert found is not None and found.step == 100
    assert found.tensors["agent"]["weights"][0, 0] == 1.0
    assert len(warnings) == 1 and "agent.safetensors" in warnings[0]
    with pytest.raises(DamagedFile, match=r"step_000000200.*agent\.safetensors"):
        checkpoint.latest_good(tmp_path, refuse, strict=True)


def test_nothing_is_found_in_silence_only_where_nothing_was_saved(tmp_path: Path) -> None:
    assert checkpoint.latest_good(tmp_path / "none", refuse) is None
    (save(tmp_path, 100) / "state.json").unlink()
    with pytest.raises(DamagedFile, match=r"state\.json.*no checkpoint in .* is whole: bring"):
        checkpoint.latest_good(tmp_path, refuse)


def test_a_damaged_checkpoint_ahead_is_not_counted_among_the_kept(tmp_path: Path) -> None:
    for step in (100, 200):
        save(tmp_path, step)
    (tmp_path / "step_000000200" / "state.json").unlink()
    save(tmp_path, 150)  # training fell back to 100 and came to 150
    assert names(tmp_path) == ["step_000000100", "step_000000150", "step_000000200"]
    found = checkpoint.latest_good(tmp_path, lambda text: None)
    assert found is not None and found.step == 150


@pytest.mark.parametrize("listed", ["../secret.json", "/etc/hostname"])
def test_a_manifest_cannot_reach_outside_its_directory(tmp_path: Path, listed: str) -> None:
    (tmp_path / "secret.json").write_text("{}")
    path = save(tmp_path, 100)
    manifest = json.loads((path / "MANIFEST.json").read_text())
    manifest["files"][0]["name"] = listed
    (path / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedFile, match="outside"):
        checkpoint.load(path)


def test_a_checkpoint_of_another_format_says_which_is_read(tmp_path: Path) -> None:
    path = save(tmp_path, 100)
    manifest = json.loads((path / "MANIFEST.json").read_text())
    (path / "MANIFEST.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(UserError, match=r"format 99.*format 1"):
        checkpoint.load(path)


class Killed(BaseException):
    """Stands for a writer that dies here: no clean-up of its own may run."""


@pytest.mark.parametrize("function", ["fsync", "rename"])
@pytest.mark.parametrize("call", range(7))
def test_a_writer_that_dies_at_any_step_leaves_a_whole_newest_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, call: int
) -> None:
    save(tmp_path, 100, value=1.0)
    calls = 0
    original = getattr(os, function)

    def dying(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call + 1:
            raise Killed
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, dying)
        # A killed process cleans nothing up.
        patch.setattr(checkpoint.shutil, "rmtree", lambda *a, **k: None)
        try:
            save(tmp_path, 200, value=2.0)
            died = False
        except Killed:
            died = True
    # Per save: fsync of 2 files, manifest, directory and parent (5 calls), and one rename.
    assert died == (call < (5 if function == "fsync" else 1))
    found = checkpoint.latest_good(tmp_path, refuse)
    assert found is not None and found.step in (100, 200)
    assert found.tensors["agent"]["weights"][0, 0] == found.step / 100
    if died and found.step == 200:
        assert (function, call) == ("fsync", 4)  # only the parent's sync comes after the rename
    save(tmp_path, 300)
    assert [n for n in names(tmp_path) if n.startswith("step")][-1] == "step_000000300"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", range(5))
def test_a_save_that_fails_says_so_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: int
) -> None:
    save(tmp_path, 100)
    save(tmp_path, 150)
    calls = 0
    original = os.fsync

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call + 1:
            raise OSError(number, os.strerror(number))
        original(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=os.strerror(number)):
            save(tmp_path, 200)
    # Nothing was pruned. Where only the parent's sync failed, the new one is whole all the same.
    extra = ["step_000000200"] if call == 4 else []
    assert names(tmp_path) == ["step_000000100", "step_000000150", *extra]
    assert all(checkpoint.is_whole(path) for path in tmp_path.iterdir())


def test_a_checkpoint_that_came_out_wrong_prunes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (100, 150):
        save(tmp_path, step)
    original = os.rename

    def corrupting(source: Path, target: Path) -> None:
        original(source, target)
        (target / "agent.safetensors").write_bytes(b"")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", corrupting)
        with pytest.raises(DamagedFile, match=r"agent\.safetensors"):
            save(tmp_path, 200)
    assert names(tmp_path) == ["step_000000100", "step_000000150", "step_000000200"]
