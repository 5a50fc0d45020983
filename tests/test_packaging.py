"""What users get: a wheel and a source archive with every file once, and a checkout that runs."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_BUILD = """
import sys
from setuptools import build_meta
out = sys.argv[1]  # setuptools changes sys.argv
build_meta.build_wheel(out)
build_meta.build_sdist(out)
"""
_PACKAGES = {"metarl": "metarl", "envs": "metarl/envs", "agents": "metarl/agents"}
_LINKS = {ROOT / "metarl" / "envs", ROOT / "metarl" / "agents"}


def sources() -> dict[str, str]:
    """Every file that must be shipped: its path in the checkout, and in the wheel."""
    found = {}
    for folder, package in _PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*")):
            linked = any(link in path.parents or link == path for link in _LINKS)
            if path.is_file() and not linked and "__pycache__" not in path.parts:
                inner = path.relative_to(ROOT / folder).as_posix()
                found[f"{folder}/{inner}"] = f"{package}/{inner}"
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the source archive, built from a copy of the checkout."""
    copy, out = tmp_path_factory.mktemp("build") / "checkout", tmp_path_factory.mktemp("out")
    copy.mkdir()
    for name in (*_PACKAGES, "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, copy / name, symlinks=True,
                            ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, copy / name)
    answer = subprocess.run(
        [sys.executable, "-c", _BUILD, str(out)], cwd=copy, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    return out


def test_the_wheel_holds_every_file_once(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        entry_points = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        text = archive.read(entry_points[0]).decode()
    assert sorted(names) == sorted(sources().values())
    assert max(Counter(names).values()) == 1
    assert "metarl = metarl.__main__:main" in text


def test_the_source_archive_holds_every_file_once(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = [m.name.partition("/")[2] for m in opened.getmembers() if m.isfile()]
    assert {"setup.cfg", "pyproject.toml"} <= set(names)
    shipped = [n for n in names if n.split("/")[0] in _PACKAGES]
    assert sorted(shipped) == sorted(sources())


def test_the_wheel_runs_where_there_is_no_checkout(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = (
        "import metarl.envs, metarl.agents, metarl; from metarl.envs import FAMILIES;"
        "print(metarl.__file__); [family().spec().compile() for family in FAMILIES.values()]"
    )
    answer = run(program, tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(str(tmp_path))


def test_a_checkout_that_was_never_installed_runs() -> None:
    answer = run("import metarl, metarl.envs, metarl.agents; print(metarl.__file__)", ROOT)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(str(ROOT / "metarl"))


def test_every_folder_of_modules_is_declared() -> None:
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    declared = set(setup["options"]["packages"].split())
    needed = {wheel.rpartition("/")[0].replace("/", ".") for wheel in sources().values()
              if wheel.endswith(".py")}
    assert needed == declared


def run(program: str, where: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=where, env=environment, capture_output=True, text=True
    )
