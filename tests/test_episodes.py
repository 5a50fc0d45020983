"""Recorded episodes: what a file holds, and that a bad one is refused before it does harm."""

import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs import FAMILIES
from metarl.envs.entries import action_entries, observation_entries
from metarl.envs.family import Family
from metarl.envs.worlds import Worlds
from metarl.episodes import About, Entry, Episodes, check_fits, read, recorded, write
from metarl.errors import DamagedFile, UserError
from metarl.trial import Steps, Trial

ABOUT = About(
    family="slope", options={"horizon": 2, "shape": ["a", "b"]}, files={}, control_step=0.1,
    source="a test", observation=(Entry("x", "m"), Entry("v", "m/s")), action=(Entry("push", "1"),),
    parameters=(Entry("goal", "m"),),
)
CONFIG = {"family": "slope", "options": {"horizon": 2, "shape": ("a", "b")},
          "shapes": {"obs": 2, "action": 1, "task": 1, "horizon": 2}}


def episodes(**more: Any) -> Episodes:
    """An episode of two steps, which earns 1 + 2, and one of three, which earns 3 + 4 + 5."""
    number = torch.arange(6.0)
    obs = torch.stack([number, -number], 1)
    last = torch.tensor([False, True, False, False, True])
    success = torch.where(last, torch.tensor([0, 0, 0, 0, 1.0]), torch.nan)
    steps = Steps(obs[:-1], 2 * number[:5, None], 1 + number[:5], obs[1:],
                  torch.zeros(5, dtype=torch.bool), last, {"success": success})
    return replace(Episodes(ABOUT, steps, torch.tensor([0.5]).double()), **more)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "demos.npz", episodes())


def altered(file: Path, **arrays: Any) -> Path:
    """The same file with some arrays replaced; None takes one out."""
    with np.load(file, allow_pickle=False) as found:
        kept = {**{name: found[name] for name in found}, **arrays}
    file.unlink()
    with file.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{n: a for n, a in kept.items() if a is not None})
    return file


def test_a_file_says_what_was_written_bit_for_bit(file: Path) -> None:
    one, other = episodes(), read(file)
    assert other.about == one.about
    assert other.hidden_task is not None and other.hidden_task.tolist() == [0.5]
    for name, value in vars(one.steps).items():
        if isinstance(value, Tensor):
            assert torch.equal(value, getattr(other.steps, name))
    assert other.steps.outcome["success"][-1] == 1 and other.steps.outcome["success"][0].isnan()


def test_episodes_are_told_apart_by_their_ends(file: Path) -> None:
    found = read(file)
    assert found.count == 2
    assert [len(lived.reward) for lived in found.each()] == [2, 3]
    assert found.returns().tolist() == [3, 12]
    assert found.outcomes()["success"].tolist() == [0, 1]


def test_anything_that_reads_npz_reads_it_with_names_and_units(file: Path) -> None:
    with np.load(file, allow_pickle=False) as arrays:
        header = json.loads(arrays["header"].tobytes())
        assert arrays["observation"].shape == (5, 2) and arrays["observation"].dtype == np.float32
    assert header["observation"] == [{"name": "x", "unit": "m"}, {"name": "v", "unit": "m/s"}]
    assert header["control_step"] == 0.1 and header["family"] == "slope"


def test_a_task_that_nobody_knows_is_not_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "arm.npz", episodes(hidden_task=None))
    assert "hidden_task.npy" not in zipfile.ZipFile(path).namelist()
    assert read(path).hidden_task is None


def test_a_recording_is_the_first_row_s_up_to_its_last_whole_episode() -> None:
    last = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 0], [0, 0]]).bool()
    obs = torch.arange(20.0).view(5, 2, 2)
    trial = Trial(obs, obs[..., :1], obs[..., 0], obs, torch.zeros_like(last), last,
                  {"success": torch.ones(5, 2)}, torch.tensor([[0.5], [7.0]]),
                  torch.zeros(2).long())
    found = recorded(trial, ABOUT, 3)  # asks for three, but the row has lived two
    assert found.steps.reward.tolist() == [0, 4, 8, 12]
    assert recorded(trial, ABOUT, 1).steps.reward.tolist() == [0, 4]
    assert found.hidden_task is not None and found.hidden_task.tolist() == [0.5]


def test_of_rounds_the_first_episode_of_each_is_recorded() -> None:
    # Two rounds of 3 steps; the row falls after 1 and 2 steps of the first, after 2 of the second.
    last = torch.tensor([[1], [1], [1], [0], [1], [1]]).bool()
    obs = torch.arange(12.0).view(6, 1, 2)
    trial = Trial(obs, obs[..., :1], obs[..., 0], obs, torch.zeros_like(last), last, {},
                  torch.tensor([[0.5]]), torch.zeros(1).long(), round=3)
    assert recorded(trial, ABOUT, 2).steps.reward.tolist() == [0, 6, 8]
    assert recorded(trial, ABOUT, 1).steps.reward.tolist() == [0]


def test_nothing_is_overwritten_and_nothing_half_written(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists; choose another place"):
        write(file, episodes())
    steps = replace(episodes().steps, reward=torch.tensor([1, 2, torch.nan, 4, 5]))
    with pytest.raises(UserError, match="reward holds NaN"):
        write(tmp_path / "nan.npz", episodes(steps=steps))
    assert [path.name for path in tmp_path.iterdir()] == ["demos.npz"]


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_flipped_bit_is_found(where: float, file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo("observation.npy")
        content = archive.read(member)
    data = bytearray(file.read_bytes())
    data[data.find(content) + int(where * len(content))] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedFile, match="not a whole npz"):
        read(file)


def test_a_file_that_was_cut_off_is_damaged_and_one_that_is_not_there_is_missing(
    file: Path,
) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DamagedFile, match="not a whole npz"):
        read(file)
    file.unlink()
    with pytest.raises(UserError, match="there is no file"):
        read(file)


def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarl.episodes.LARGEST", 2**24)
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("observation.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(bytes(2**24 + 1))
    assert path.stat().st_size < 2**16
    with pytest.raises(UserError, match="would fill 16 MiB with 1 arrays; 16 MiB"):
        read(path)


@pytest.mark.parametrize(("method", "error", "line"), [
    (zipfile.ZIP_STORED, DamagedFile, "reward holds more than the 148 bytes that it says"),
    (zipfile.ZIP_DEFLATED, DamagedFile, "reward holds more than the 148 bytes that it says"),
    (zipfile.ZIP_BZIP2, UserError, "reward is neither stored nor deflated"),
    (zipfile.ZIP_LZMA, UserError, "reward is neither stored nor deflated"),
])
def test_an_array_that_unpacks_to_more_than_the_zip_says_is_refused_before_it_does(
    method: int, error: type[UserError], line: str, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros(5, "f4"))
    said = stream.getvalue()  # 128 bytes of header and 20 of numbers, and 16 MiB that follow
    whole = said + bytes(2**24)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("reward.npy", whole)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # of the directory: CRC-32 at 16, bytes unpacked at 24
    struct.pack_into("<I", data, entry + 16, zlib.crc32(said))
    struct.pack_into("<I", data, entry + 24, len(said))
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(error, match=line):
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**22


def test_an_array_may_not_promise_more_than_it_brings(file: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": (2**50,)})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("outcome/more.npy", stream.getvalue())
    with pytest.raises(DamagedFile, match="has 0 bytes, its shape"):
        read(file)


@pytest.mark.parametrize(("arrays", "line"), [
    ({"reward": None}, "reward is missing"),
    ({"reward": np.zeros(4, "f4")}, "action is <f4 \\(5, 1\\) where <f4 \\(4, 1\\)|observation is"),
    ({"action": np.zeros((5, 2), "f4")}, r"action is <f4 \(5, 2\) where <f4 \(5, 1\) must be"),
    ({"reward": np.zeros(5, "f8")}, r"reward is <f8 \(5,\) where <f4"),
    ({"reward": np.zeros(5, "i4")}, "holds <i4; only plain"),
    ({"observation": np.full((5, 2), np.inf, "f4")}, "observation holds NaN or infinity"),
    ({"last": np.zeros(5, "?")}, "its last step ends no episode"),
    ({"terminated": np.ones(5, "?")}, "a terminated step ends no episode"),
    ({"surplus": np.zeros(5, "f4")}, "surplus is no array of the format"),
    ({"hidden_task": np.zeros(2)}, r"hidden_task is <f8 \(2,\) where <f8 \(1,\)"),
    ({"header": None}, "no header of episodes"),
    ({"header": np.frombuffer(b"{}", "u1")}, "a header that says something else"),
    ({"header": np.frombuffer(b"nonsense", "u1")}, "a header that says something else"),
    ({"header": np.frombuffer(b'{"format": "metarl episodes", "version": 2}', "u1")},
     "not of format 'metarl episodes', version 1"),
])
def test_what_is_not_of_the_format_is_refused_by_name(
    arrays: dict[str, Any], line: str, file: Path
) -> None:
    with pytest.raises(UserError, match=line):
        read(altered(file, **arrays))


def test_pickled_objects_are_never_read(file: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("outcome/more.npy", stream.getvalue() + b"cos\nsystem\n")
    with pytest.raises(UserError, match="only plain float32"):
        read(file)


@pytest.mark.parametrize(("change", "line"), [
    ({"family": "hill"}, "of family slope, where the run has hill"),
    ({"shapes": {**CONFIG["shapes"], "obs": 3}}, "of observations with 2 numbers, where"),
    ({"options": {"horizon": 9, "shape": ["a", "b"]}}, "with --family.horizon 2, where the run"),
    ({"files": {"vary.yaml": "0"}}, "of files with hashes"),
])
def test_episodes_of_another_family_are_refused(
    change: dict[str, Any], line: str, file: Path
) -> None:
    check_fits(read(file), CONFIG, file)
    with pytest.raises(UserError, match=line):
        check_fits(read(file), {**CONFIG, **change}, file)


def test_every_family_s_entries_have_names_of_their_own(family: Family) -> None:
    worlds = Worlds(family, 1)
    for entries, count in ((observation_entries(worlds), worlds.shapes.obs),
                           (action_entries(worlds), worlds.shapes.action)):
        assert len({entry.name for entry in entries}) == count


def test_entries_are_called_what_the_model_calls_them() -> None:
    worlds = Worlds(FAMILIES["reach"](), 1)
    found = observation_entries(worlds)
    assert found[3] == Entry("joint4 position", "rad")
    assert found[10] == Entry("joint4 speed", "rad/s")
    assert found[14:] == (Entry("flange x", "m"), Entry("flange y", "m"), Entry("flange z", "m"))
    assert action_entries(worlds)[0] == Entry("joint1", "1")
    # push turns an axis into a sine and a cosine.
    turned = observation_entries(Worlds(FAMILIES["push"](), 1))[6]
    assert turned.name.startswith("6 from object_x") and turned.unit == ""
