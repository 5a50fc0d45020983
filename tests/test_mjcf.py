"""Models from outside: what is hostile, broken or too large is refused in one line."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import mujoco
import pytest

from metarl.__main__ import main
from metarl.envs import compile_alone, mjcf
from metarl.envs.mjcf import MODEL, Limits
from metarl.errors import UserError

ARM = """
<worldbody>
  <body><joint name="j"/><geom size="0.1"/></body>
</worldbody>
<actuator><motor joint="j" ctrlrange="-1 1"/></actuator>
"""
VARY = """
control_step: 0.02
horizon: 5
reward: [{term: control, weight: -1}]
vary:
  damping: {joint: j, field: mass, range: [1, 2]}
"""
LAUGHS = "<!DOCTYPE m [<!ENTITY a 'ha'>" + "".join(
    f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
) + "]>"


def tetrahedron(height: float = 1.0) -> bytes:
    """A binary STL of four triangles, 0.1 m wide."""
    corners = [(0, 0, 0), (0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.1 * height)]
    faces = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]
    triangles = [struct.pack("<12f", 0, 0, 0, *(x for i in face for x in corners[i])) + b"\0\0"
                 for face in faces]
    return bytes(80) + struct.pack("<I", len(faces)) + b"".join(triangles)


def mesh(file: str, compiler: str = "") -> str:
    return f'<compiler {compiler}/><asset><mesh name="m" file="{file}"/></asset>'


HOSTILE = {
    "an include": ('<include file="other.xml"/>', "<include> is not accepted"),
    "a plugin": ('<worldbody><plugin plugin="x"/></worldbody>', "<plugin> is not accepted"),
    "an extension": ("<extension/>", "<extension> is not accepted"),
    "another model": ('<asset><model file="a.xml"/></asset>', "<model> is not accepted"),
    "a flexcomp": ('<worldbody><flexcomp count="999 999 999"/></worldbody>', "<flexcomp> is not"),
    "an unknown element": ("<script/>", "<script> is not accepted"),
    "an absolute path": (mesh("/etc/passwd.stl"), "'/etc/passwd.stl'> is not accepted"),
    "a parent": (mesh("../secret.stl"), "'../secret.stl'> is not accepted"),
    "a parent within": (mesh("a/../../b.stl"), "is not accepted: name a file below"),
    "a parent of all": (mesh("a.stl", 'meshdir="../.."'), "<compiler meshdir='../..'> is not"),
    "a drive": (mesh("C:/a.stl"), "without drive, .. or a leading /"),
    "a resource": (mesh("http://a/b.stl"), "without drive"),
    "a backslash": (mesh(r"..\\a.stl"), "is not accepted"),
    "a link that leads out": (mesh("link.stl"), "link.stl leads out of the model's folder"),
    "a folder as file": (mesh("folder.stl"), "folder.stl is not a file"),
    "a missing file": (mesh("none.stl"), "none.stl is not a file"),
    "another format": (mesh("a.msh"), "files may be .stl, .obj"),
    "a file of something else": ('<worldbody><body name="b"/><geom file="a.stl"/></worldbody>',
                                 "files may be meshes, textures or height fields"),
    "a content type": ('<asset><mesh content_type="x" file="a.stl"/></asset>', "content_type"),
    "a huge height field": ('<asset><hfield name="h" nrow="9000" ncol="9000" size="1 1 1 1"/>'
                            "</asset>", "a height field of 81,000,000 cells"),
    "a size that is none": ('<asset><hfield nrow="-4" ncol="1e9"/></asset>', "nrow='-4'> is not a"),
    "replicas of replicas": ("<worldbody>" + '<replicate count="50">' * 3 + '<geom size="1"/>'
                             + "</replicate>" * 3 + "</worldbody>", "has more than"),
    "many elements": ("<worldbody>" + "<site/>" * 10_001 + "</worldbody>", "10,000 elements"),
    "many geoms": ("<worldbody>" + "<geom/>" * 2_001 + "</worldbody>", "2,000 geoms"),
    "deep nesting": ("<worldbody>" + "<body>" * 50_000 + "</body>" * 50_000 + "</worldbody>",
                     "200 levels of elements"),
    "an oversized text": (f"<!--{'x' * 2**20}-->", "is larger than 1,048,576 bytes"),
    "a huge texture": ('<asset><texture name="t" type="2d" builtin="flat" width="100000" '
                       'height="100000"/></asset>', "MuJoCo does not compile this model"),
    "a huge memory": ('<size memory="900G"/>', "MuJoCo does not compile this model"),
    "a slip": ('<worldbody><geom sise="1"/></worldbody>', "MuJoCo does not compile this model"),
}


def refused(capsys: pytest.CaptureFixture[str], model: Path) -> str:
    """The one line with which `metarl check` refuses a model."""
    vary = model.with_name("vary.yaml")
    vary.write_text(VARY)
    assert main(["check", "--mjcf", str(model), "--vary", str(vary)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"metarl: {model.parent}")
    return line


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "robot"
    (folder / "folder.stl").mkdir(parents=True)
    (tmp_path / "secret.stl").write_bytes(tetrahedron())
    (folder / "link.stl").symlink_to(tmp_path / "secret.stl")
    body, line = HOSTILE[name]
    (folder / "arm.xml").write_text(f"<mujoco>{body}{ARM}</mujoco>")
    assert line in refused(capsys, folder / "arm.xml")


@pytest.mark.parametrize(("text", "line"), [
    (f"{LAUGHS}<mujoco>&i;</mujoco>", "a document type or an entity is not accepted"),
    ("<!DOCTYPE m [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><mujoco>&x;</mujoco>",
     "a document type or an entity is not accepted"),
    ("<!DOCTYPE mujoco SYSTEM 'http://a/b.dtd'><mujoco/>", "a document type or an entity"),
    ("<mujoco>&x;</mujoco>", "is not XML: undefined entity"),
    ("<mujoco>", "is not XML: no element found"),
    ("MJB\x03\x00", "is not XML: "),
    ('<?xml version="1.0" encoding="no-such"?><mujoco/>', "is not XML: unknown encoding"),
    ("<robot name='urdf'/>", "its root is <robot>, not <mujoco>"),
], ids=range(8))
def test_what_is_not_plain_mjcf_is_refused_in_one_line(
    text: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "arm.xml").write_text(text)
    assert line in refused(capsys, tmp_path / "arm.xml")


def test_a_compiled_model_is_never_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "arm.mjb").write_bytes(b"x")
    assert "a compiled .mjb is never read" in refused(capsys, tmp_path / "arm.mjb")
    assert "arm.xml is not a file" in refused(capsys, tmp_path / "arm.xml")


def test_a_model_that_takes_too_long_is_given_up() -> None:
    # 1,500 balls in one place touch each other in a million pairs.
    heap = ('<worldbody><replicate count="1500"><body><freejoint/><geom size="1"/></body>'
            "</replicate></worldbody>")
    with pytest.raises(UserError, match="or not within 1 s and 4 GiB; --debug shows") as caught:
        mjcf.judged(f"<mujoco>{heap}</mujoco>".encode(), nothing, "heap.xml", Limits(seconds=1))
    # Killed for the processor's time, or on a busy machine for the clock's.
    assert str(caught.value.__cause__).startswith(("exit code -", "no answer in time"))


def texture(pixels: int) -> bytes:
    return (f'<mujoco><asset><texture name="t" type="2d" builtin="flat" width="{pixels}" '
            f'height="{pixels}"/></asset></mujoco>').encode()


def test_a_model_that_compiles_to_too_much_is_refused() -> None:
    # 1,000 x 1,000 pixels of 3 bytes, and a bit
    mjcf.judged(texture(1000), nothing, "t.xml", Limits(compiled=4_000_000))
    with pytest.raises(UserError, match="MuJoCo does not compile") as caught:
        mjcf.judged(texture(1000), nothing, "t.xml", Limits(compiled=2_000_000))
    assert "the compiled model takes 3," in str(caught.value.__cause__)


def test_a_model_that_takes_too_much_memory_is_given_up() -> None:
    mjcf.judged(texture(6000), nothing, "t.xml")  # 108 MB
    with pytest.raises(UserError, match=r"or not within 20 s and 0\.3 GiB"):
        mjcf.judged(texture(6000), nothing, "t.xml", Limits(memory=int(0.3 * 2**30)))
    mjcf.judged(texture(100), nothing, "t.xml", Limits(memory=int(0.3 * 2**30)))


def test_the_error_is_the_same_whatever_mujoco_says(tmp_path: Path) -> None:
    said = set()
    for slip in ("<worldbody><geom/></worldbody>", '<option nonsense="1"/>', "<key/>"):
        with pytest.raises(UserError) as caught:
            mjcf.judged(f"<mujoco>{slip}</mujoco>".encode(), nothing, "a.xml")
        said.add(str(caught.value))
    assert len(said) == 1


def test_where_models_are_compiled_no_file_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "m.stl").write_bytes(tetrahedron())
    assert compile_apart(mesh("m.stl"), {"m.stl": tetrahedron()}) == 0
    assert compile_apart(mesh(f"{tmp_path}/m.stl"), {}) == 1


def test_meshes_are_found_where_the_model_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "parts/deep").mkdir(parents=True)
    (tmp_path / "parts/deep/m.stl").write_bytes(tetrahedron())
    (tmp_path / "arm.xml").write_text(
        "<mujoco>" + mesh("deep/m.stl", 'meshdir="parts"')
        + '<worldbody><geom type="mesh" mesh="m"/></worldbody></mujoco>'
    )
    files = mjcf.load(tmp_path / "arm.xml")
    assert files.keys() == {MODEL, "m.stl"}
    model = mjcf.spec_of(files).compile()
    assert model.mesh("m").vertnum == 4
    # Judged again, from memory alone, it is the same: so a run goes on with the same bytes.
    assert mjcf.judged(files[MODEL], files.__getitem__, "again") == files


def test_two_files_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    for folder, height in (("a", 1.0), ("b", 2.0)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.stl").write_bytes(tetrahedron(height))
    (tmp_path / "arm.xml").write_text(
        '<mujoco><asset><mesh name="first" file="a/m.stl"/><mesh file="b/m.stl"/></asset>'
        '<worldbody><body><geom type="mesh" mesh="first"/></body>'
        '<body><geom type="mesh" mesh="m"/></body></worldbody></mujoco>')
    files = mjcf.load(tmp_path / "arm.xml")
    assert files.keys() == {MODEL, "m.stl", "_m.stl"}
    model = mjcf.spec_of(files).compile()
    assert model.body_mass[2] == pytest.approx(2 * model.body_mass[1])
    assert mjcf.judged(files[MODEL], files.__getitem__, "again") == files


def test_what_mujoco_itself_has_written_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "m.stl").write_bytes(tetrahedron())
    plain = '<mujoco><asset><mesh name="m" file="m.stl"/></asset></mujoco>'
    spec = mujoco.MjSpec.from_string(plain, assets={"m.stl": tetrahedron()})
    spec.compile()
    (tmp_path / "arm.xml").write_text(spec.to_xml())
    assert 'content_type="model/stl"' in spec.to_xml()
    assert mjcf.spec_of(mjcf.load(tmp_path / "arm.xml")).compile().nmesh == 1


def test_a_picture_of_too_many_cells_is_no_height_field() -> None:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR" + (8000).to_bytes(4, "big") * 2
    model = b'<mujoco><asset><hfield name="h" file="h.png" size="1 1 1 1"/></asset></mujoco>'
    with pytest.raises(UserError, match=r"h\.png holds 64,000,000 cells; 1,000,000 are accepted"):
        mjcf.judged(model, lambda name: picture, "a.xml")


def test_a_state_that_no_row_could_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "arm.xml").write_text('<mujoco><size nuserdata="2000000"/></mujoco>')
    with pytest.raises(UserError, match="a state of the model takes 16,0"):
        mjcf.load(tmp_path / "arm.xml")


def test_files_are_counted_and_weighed(tmp_path: Path) -> None:
    text = "".join(f'<mesh name="m{i}" file="m{i}.stl"/>' for i in range(3))
    model = f"<mujoco><asset>{text}</asset></mujoco>".encode()
    for limits in (Limits(files=2), Limits(bytes=3 * len(tetrahedron()) - 1)):
        with pytest.raises(UserError, match="names more than"):
            mjcf.judged(model, lambda name: tetrahedron(), "a.xml", limits)
    assert len(mjcf.judged(model, lambda name: tetrahedron(), "a.xml", Limits(files=3))) == 4


def nothing(name: str) -> bytes:
    raise AssertionError(f"{name} was read")


def compile_apart(body: str, assets: dict[str, bytes]) -> int:
    """The exit code of the script that compiles models, of one that was not judged before."""
    text = f'<mujoco>{body}<worldbody><geom type="mesh" mesh="m"/></worldbody></mujoco>'.encode()
    parts = {"model.xml": text, **assets}
    header = json.dumps({name: len(data) for name, data in parts.items()}) + "\n"
    return subprocess.run(
        [sys.executable, "-P", compile_alone.__file__, "20", str(2**32), str(2**29)],
        input=header.encode() + b"".join(parts.values()), capture_output=True,
        env={**os.environ, "MUJOCO_GL": "disable"}, check=False,
    ).returncode


def test_of_a_users_own_model_mujocos_words_are_told_with_what_they_are_about(
    tmp_path: Path,
) -> None:
    file = tmp_path / "arm.xml"
    file.write_text('<mujoco>\n<!-- written\n anew -->\n<worldbody>\n<geom name="hand"\n'
                    ' sise="1"/>\n</worldbody></mujoco>')
    with pytest.raises(UserError) as refused:
        mjcf.load(file)
    assert str(refused.value) == (
        f"{file}: MuJoCo does not compile this model: XML Error: Schema violation: unrecognized "
        "attribute: 'sise' Element 'geom', in <geom name=\"hand\" sise=\"1\" />")
