"""MJCF from outside: judged before MuJoCo sees it, and compiled where it can do no harm.

MuJoCo makes no claim that hostile MJCF is safe. So the text is parsed without entities, every
element must be a known harmless one, files are read below the model's folder only and handed over
in memory, all sizes are capped, and the first compilation happens in a process of its own, with
limits of memory and time. What comes out is written anew from the parsed tree, so that MuJoCo reads
what was judged. The binary format, .mjb, is never read.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import defusedxml
from defusedxml.ElementTree import fromstring

from metarl.envs.physics import mujoco
from metarl.errors import UserError

# A model and all it needs: base name -> bytes. MODEL is its MJCF.
Files = dict[str, bytes]
Reader = Callable[[str], bytes]  # of a file, by its path from the model's folder
MODEL = "model.xml"


@dataclass(frozen=True)
class Limits:
    """What a model may cost."""

    text: int = 2**20  # bytes of MJCF
    elements: int = 10_000  # of the MJCF, each as often as <replicate> repeats it
    geoms: int = 2_000  # likewise
    depth: int = 200  # of elements within elements
    cells: int = 1_000_000  # of a height field
    files: int = 200  # meshes, textures and height fields
    bytes: int = 64 * 2**20  # of all these files together
    seconds: int = 20  # of a processor, to compile it; twice that on the clock
    memory: int = 4 * 2**30  # bytes of address space, to compile it
    compiled: int = 2**29  # bytes of the compiled model


LIMITS = Limits()
# MuJoCo's schema without what reads other models or code (include, model, attach, plugin,
# extension) and without what makes many elements of one (composite, flex, flexcomp, skin).
_NAMES = """
    mujoco compiler lengthrange option flag size statistic visual global quality headlight map scale
    rgba default asset mesh hfield texture material layer worldbody body inertial joint freejoint
    geom site camera light frame replicate contact pair exclude equality connect weld tendon fixed
    spatial pulley actuator general motor position velocity intvelocity damper cylinder muscle
    adhesion dcmotor pid custom numeric text tuple element keyframe key sensor accelerometer
    actuatorfrc actuatorpos actuatorvel ballangvel ballquat camprojection clock distance e_kinetic
    e_potential force frameangacc frameangvel framelinacc framelinvel framepos framequat framexaxis
    frameyaxis framezaxis fromto gyro insidesite jointactuatorfrc jointlimitfrc jointlimitpos
    jointlimitvel jointpos jointvel magnetometer normal rangefinder subtreeangmom subtreecom
    subtreelinvel tendonactuatorfrc tendonlimitfrc tendonlimitpos tendonlimitvel tendonpos tendonvel
    torque touch user velocimeter
"""
_ELEMENTS = frozenset(_NAMES.split())
_FOLDERS = ("meshdir", "texturedir", "assetdir")  # attributes of <compiler>
_FILE = re.compile(r"file\w*")  # attributes that name a file
_ENDINGS = {"mesh": (".stl", ".obj"), "hfield": (".png",), "texture": (".png",)}
_CONTENT = {"stl": ("model/stl",), "obj": ("model/obj",), "png": ("image/png",)}
_REFUSED = "exit code 1: "  # how the words of a MuJoCo that lives begin
_FLATTEN = "write it as one file first: mujoco.MjSpec.from_file('it.xml').to_xml()"


def load(path: Path) -> Files:
    """An MJCF file and what it needs, judged and compiled once. Raises UserError in one line."""
    if path.suffix != ".xml":
        raise UserError(f"{path} is not MJCF text: its name must end in .xml (a compiled .mjb is "
                        "never read)")
    folder = path.parent.resolve()

    def below(name: str) -> bytes:
        file = (folder / name).resolve()
        if not file.is_relative_to(folder):
            raise UserError(f"{path}: {name} leads out of the model's folder")
        return read(file, LIMITS.bytes)

    return judged(read(path, LIMITS.text), below, str(path), own=True)


def judged(
    text: bytes, reader: Reader, name: str, limits: Limits = LIMITS, own: bool = False
) -> Files:
    """The MJCF `text`, written anew, and the files that it names. `name` is what errors call it;
    of a user's `own` model they tell what MuJoCo says.

    Raises UserError in one line for anything that is not accepted.
    """
    root = _parse(text, name, limits)
    _check_elements(root, name, limits)
    assets = _gather(root, reader, name, limits)
    files = {MODEL: ElementTree.tostring(root, encoding="utf-8"), **assets}
    if said := _compile_alone(tuple(files.items()), limits):
        if own and (why := _words(said, files[MODEL].decode())):
            raise UserError(f"{name}: MuJoCo does not compile this model: {why}")
        # One error for all that can go wrong in a stranger's; its cause is for --debug alone.
        raise UserError(
            f"{name}: MuJoCo does not compile this model, or not within {limits.seconds} s and "
            f"{limits.memory / 2**30:.3g} GiB; --debug shows its own words"
        ) from RuntimeError(said)
    return files


def _words(said: str, text: str) -> str:
    """What MuJoCo says of a model, in one line; "" where it died or took too much. The lines that
    it counts are those of the text written anew: they are shown in place of their numbers."""
    lines = text.splitlines()

    def shown(found: re.Match[str]) -> str:
        number = int(found[1])
        return f", in {lines[number - 1].strip()[:120]}" if 0 < number <= len(lines) else ""

    if not said.startswith(_REFUSED):
        return ""
    words = re.sub(r",? line (\d+)\b", shown, said.removeprefix(_REFUSED))
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())[:400]


def spec_of(files: Files) -> mujoco.MjSpec:
    """The model of judged files."""
    assets = {name: data for name, data in files.items() if name != MODEL}
    return mujoco.MjSpec.from_string(files[MODEL].decode(), assets=assets)


def read(file: Path, largest: int) -> bytes:
    """The bytes of a plain file. Raises UserError for more than `largest`."""
    try:
        if not file.is_file():
            raise UserError(f"{file} is not a file")
        with file.open("rb") as stream:
            data = stream.read(largest + 1)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    if len(data) > largest:
        raise UserError(f"{file} is larger than {largest:,} bytes")
    return data


# Parts.


def _parse(text: bytes, name: str, limits: Limits) -> ElementTree.Element:
    if len(text) > limits.text:
        raise UserError(f"{name} is larger than {limits.text:,} bytes")
    try:
        return fromstring(text, forbid_dtd=True)
    except defusedxml.DefusedXmlException:
        raise UserError(f"{name}: a document type or an entity is not accepted; write what it "
                        "stands for") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{name} is not XML: {error}") from None


def _check_elements(root: ElementTree.Element, name: str, limits: Limits) -> None:
    """Refuse what is unknown, and what is too much."""
    if root.tag != "mujoco":
        raise UserError(f"{name} is not MJCF: its root is <{root.tag[:40]}>, not <mujoco>")
    elements = geoms = 0
    waiting = [(root, 1, 1)]  # with depth and repetitions; no recursion, for it may be deep
    while waiting:
        element, depth, times = waiting.pop()
        tag = element.tag
        if tag not in _ELEMENTS:
            raise UserError(f"{name}: <{tag[:40]}> is not accepted in a model from outside; "
                            + _FLATTEN)
        if tag == "replicate":
            times *= _count(element, "count", name)
        if tag == "hfield" and (cells := _cells(element, name)) > limits.cells:
            raise UserError(f"{name}: a height field of {cells:,} cells; {limits.cells:,} are "
                            "accepted")
        elements, geoms = elements + times, geoms + times * (tag == "geom")
        for what, count, most in (("elements", elements, limits.elements),
                                  ("geoms", geoms, limits.geoms),
                                  ("levels of elements", depth, limits.depth)):
            if count > most:
                raise UserError(f"{name} has more than {most:,} {what}")
        waiting += [(child, depth + 1, times) for child in element]


def _cells(hfield: ElementTree.Element, name: str) -> int:
    return _count(hfield, "nrow", name) * _count(hfield, "ncol", name)


def _pixels(data: bytes) -> int:
    """How many a PNG says it has; 0 of another file, which MuJoCo reads as its own format: its
    bytes are what it costs."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return 0
    return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")


def _count(element: ElementTree.Element, attribute: str, name: str) -> int:
    """A whole number, at least 1; 1 where it is left out, or 0 for "as in the file"."""
    text = element.get(attribute, "1").strip()
    if not re.fullmatch(r"\d{1,9}", text):
        raise UserError(f"{name}: <{element.tag} {attribute}={text[:40]!r}> is not a whole number")
    return max(1, int(text))


def _gather(root: ElementTree.Element, reader: Reader, name: str, limits: Limits) -> Files:
    """Read every file that the model names, and let the model name it by its base name."""
    compilers = list(root.iter("compiler"))
    folders = _folders(compilers, name)
    strips = any(c.get("strippath") == "true" for c in compilers)
    found: Files = {}
    origins: dict[str, str] = {}
    for element, attribute, path in _paths(root, name):
        if not path.lower().endswith(endings := _ENDINGS.get(element.tag, ())):
            raise UserError(f"{name}: <{element.tag} {attribute}={path!r}> is not accepted; files "
                            f"may be {', '.join(endings) or 'meshes, textures or height fields'}")
        base = path.rpartition("/")[2]
        origin = "/".join(filter(None, (folders[element.tag], base if strips else path)))
        while origins.setdefault(base, origin) != origin:
            base = _another(element, base)
        if base not in found:
            found[base] = reader(origin)
        if element.tag == "hfield" and (cells := _pixels(found[base])) > limits.cells:
            raise UserError(f"{name}: {origin} holds {cells:,} cells; {limits.cells:,} are "
                            "accepted")
        element.set(attribute, base)
        if len(found) > limits.files or sum(map(len, found.values())) > limits.bytes:
            raise UserError(f"{name} names more than {limits.files} files or {limits.bytes:,} "
                            "bytes of them")
    for compiler in compilers:
        for folder in _FOLDERS:
            compiler.attrib.pop(folder, None)
    if not compilers:
        root.insert(0, compiler := ElementTree.Element("compiler"))
        compilers.append(compiler)
    compilers[-1].set("strippath", "true")
    return found


def _another(element: ElementTree.Element, base: str) -> str:
    """Another base name for a file, where one in another folder has this one. What MuJoCo would
    call the element by it stays."""
    if not element.get("name"):
        element.set("name", base.rpartition(".")[0])
    return f"_{base}"


def _folders(compilers: list[ElementTree.Element], name: str) -> dict[str, str]:
    """Where a model keeps the files of an element."""
    said = {key: _plain(c.attrib[key], f"{name}: <compiler {key}", True)
            for c in compilers for key in _FOLDERS if c.get(key)}
    meshes = said.get("meshdir", said.get("assetdir", ""))
    textures = said.get("texturedir", said.get("assetdir", ""))
    return {"mesh": meshes, "hfield": meshes, "texture": textures}


def _paths(
    root: ElementTree.Element, name: str
) -> Iterator[tuple[ElementTree.Element, str, str]]:
    """(element, attribute, path) of every file that a model names."""
    for element in root.iter():
        # MuJoCo writes it beside every mesh; what counts is the ending.
        said, kind = element.attrib.pop("content_type", None), _kind(element)
        if said is not None and said not in _CONTENT.get(kind, ()):
            raise UserError(f"{name}: content_type={said[:40]!r} is not what a file that ends in "
                            f".{kind[:10]} holds; leave it out")
        for attribute, value in list(element.items()):
            if _FILE.fullmatch(attribute) and value:
                yield element, attribute, _plain(value, f"{name}: <{element.tag} {attribute}")


def _kind(element: ElementTree.Element) -> str:
    return (element.get("file") or "").lower().rpartition(".")[2]


def _plain(path: str, said: str, folder: bool = False) -> str:
    """A path that stays below the model's folder, with no surplus in it."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or re.search(r"[\\:\0]", path):
        raise UserError(f"{said}={path[:60]!r}> is not accepted: name a file below the model's "
                        "folder, without drive, .. or a leading /")
    plain = "/".join(part for part in parts if part not in ("", "."))
    if not plain and not folder:
        raise UserError(f"{said}={path[:60]!r}> names no file")
    return plain


@lru_cache(maxsize=4)
def _compile_alone(files: tuple[tuple[str, bytes], ...], limits: Limits) -> str:
    """Compile in another process: what went wrong there; nothing where all went well."""
    header = json.dumps({name: len(data) for name, data in files}) + "\n"
    script = Path(__file__).with_name("compile_alone.py")
    numbers = (limits.seconds, limits.memory, limits.compiled)
    quiet = {"MUJOCO_GL": "disable", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        answer = subprocess.run(
            [sys.executable, "-P", str(script), *map(str, numbers)],
            input=header.encode() + b"".join(data for _, data in files), capture_output=True,
            timeout=2 * limits.seconds, env={**os.environ, **quiet}, cwd=os.sep, check=False,
        )
    except subprocess.TimeoutExpired:
        return "no answer in time"
    if answer.returncode == 0:
        return ""
    return f"exit code {answer.returncode}: {answer.stderr.decode(errors='replace')[-2000:]}"
