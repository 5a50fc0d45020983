"""Who may import whom, what may never be called, and that components keep their contracts."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from metarl.agent import Agent, Plan, Shapes
from metarl.agents import AGENTS
from metarl.collect import WorldsLike
from metarl.envs import FAMILIES
from metarl.envs.family import Family
from metarl.envs.worlds import Worlds

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(
    path for folder in ("metarl", "envs", "agents") for path in (ROOT / folder).rglob("*.py")
    # The links metarl/envs and metarl/agents show the same files a second time.
    if path.relative_to(ROOT).parts[:2] not in {("metarl", "envs"), ("metarl", "agents")}
)
# Modules of metarl/ itself that put components together; `__init__` only does so when asked.
WAYS_IN = {"metarl.adaptation", "metarl.api", "metarl.__init__", "metarl.__main__"}
OUTER = {"metarl.cli", "metarl.serve", "metarl.robot", "metarl.testing"}
EDGES = {*OUTER, "metarl.adaptation", "metarl.api"}
# What each layer may not import.
FORBIDDEN = {
    "core": {"metarl.envs", "metarl.agents", *EDGES},
    "agents": {"metarl.envs", *EDGES},
    "envs": {"metarl.agents", *EDGES},
    "edges": set[str](),
}
BANNED_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle",
                  "joblib", "jsonpickle"}
BANNED_CALLS = {"eval", "exec", "__import__", "torch.load", "torch.save", "yaml.load",
                "yaml.unsafe_load", "pickle.load", "pickle.loads"}
STREAMS = {"seed", "rand", "randn", "random", "normal", "uniform", "choice", "shuffle",
           "permutation", "randint", "random_sample", "standard_normal"}


def module(path: Path) -> str:
    """The name that a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "metarl" else ("metarl", *parts))


def layer(name: str) -> str:
    parts = name.split(".")
    if parts[1] in ("envs", "agents"):
        return parts[1]
    return "edges" if name in WAYS_IN or ".".join(parts[:2]) in OUTER else "core"


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in a file, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who imports whom"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a plain or dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def wrong_imports(name: str, source: str) -> list[str]:
    """The imports of a module that its layer forbids."""
    tree = ast.parse(source)
    forbidden = FORBIDDEN[layer(name)]
    wrong = [i for i in imports(tree) if any(i == f or i.startswith(f"{f}.") for f in forbidden)]
    # Bare `envs` and `agents` would be a second copy of every module, or someone else's package.
    bare = [i for i in imports(tree) if i.split(".")[0] in ("envs", "agents")]
    return wrong + bare


def unsafe(source: str) -> list[str]:
    """What in a module could run code from a file."""
    tree = ast.parse(source)
    found = [i for i in imports(tree) if i.split(".")[0] in BANNED_MODULES]
    for name, call in calls(tree):
        keywords = {k.arg for k in call.keywords if ast.unparse(k.value) == "True"}
        if name in BANNED_CALLS or "allow_pickle" in keywords:
            found.append(name)
    return found


def global_draws(source: str) -> list[str]:
    """Draws from, or seeds of, a random stream that all modules share."""
    found, tree = [], ast.parse(source)
    shared = {"np.random", "numpy.random", "torch", *({"random"} & set(imports(tree)))}
    for name, call in calls(tree):
        head, _, last = name.rpartition(".")
        explicit = any(k.arg == "generator" for k in call.keywords)
        if head in shared and last in STREAMS:
            found += [] if explicit else [name]
        if name in ("torch.manual_seed", "random.seed", "np.random.seed"):
            found.append(name)
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=module)
def test_imports_point_one_way(path: Path) -> None:
    assert wrong_imports(module(path), path.read_text()) == []


@pytest.mark.parametrize("path", SHIPPED, ids=module)
def test_no_file_can_run_code_from_another(path: Path) -> None:
    assert unsafe(path.read_text()) == []


@pytest.mark.parametrize("path", SHIPPED, ids=module)
def test_no_random_stream_is_shared(path: Path) -> None:
    assert global_draws(path.read_text()) == []


@pytest.mark.parametrize(("name", "source"), [
    ("metarl.train", "from metarl.envs import FAMILIES"),
    ("metarl.train", "def f():\n    import metarl.agents.pearl"),
    ("metarl.collect", "from metarl import api"),
    ("metarl.agents.pearl", "from metarl.envs.family import Family"),
    ("metarl.envs.reach", "import metarl.agents"),
    ("metarl.envs.reach", "from metarl.cli import common"),
    ("metarl.api", "from envs import FAMILIES"),
])
def test_a_forbidden_import_is_found(name: str, source: str) -> None:
    assert wrong_imports(name, source)
    assert not wrong_imports("metarl.cli.train", "from metarl.envs import FAMILIES")


@pytest.mark.parametrize("source", [
    "import pickle", "from pickle import loads", "eval('1')", "torch.load(path)",
    "np.load(path, allow_pickle=True)",
])
def test_a_dangerous_call_is_found(source: str) -> None:
    assert unsafe(source)
    assert not unsafe("model.eval(); np.load(path, allow_pickle=False)")


@pytest.mark.parametrize("source", [
    "torch.manual_seed(0)", "torch.randn(3)", "np.random.rand()", "import random; random.random()",
])
def test_a_shared_random_stream_is_found(source: str) -> None:
    assert global_draws(source)
    assert not global_draws("torch.randn(3, generator=g); torch.Generator().manual_seed(1)")
    assert not global_draws("random.uniform(0, 1, 3)")  # a stream that was passed in


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_keeps_the_contract(name: str) -> None:
    cls = AGENTS[name]
    agent = cls(cls.Config(), Shapes(obs=3, action=2, task=1, horizon=4), 0, torch.device("cpu"))
    assert isinstance(agent.plan, Plan) and agent.device == torch.device("cpu")
    for verb, asked in inspect.getmembers(Agent, inspect.isfunction):
        if not verb.startswith("_"):
            assert [*inspect.signature(getattr(cls, verb)).parameters] == [
                *inspect.signature(asked).parameters
            ], f"{name}.{verb}"
    assert agent.state().keys() >= agent.policy_state().keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_keeps_the_contract(name: str) -> None:
    cls = FAMILIES[name]
    assert cls().name == name
    for verb, asked in inspect.getmembers(Family, inspect.isfunction):
        if not verb.startswith("_"):
            assert [*inspect.signature(getattr(cls, verb)).parameters] == [
                *inspect.signature(asked).parameters
            ], f"{name}.{verb}"


def test_worlds_are_what_collecting_asks_for() -> None:
    for verb, asked in inspect.getmembers(WorldsLike, inspect.isfunction):
        if not verb.startswith("_"):
            wanted = [*inspect.signature(asked).parameters]
            assert [*inspect.signature(getattr(Worlds, verb)).parameters][: len(wanted)] == wanted
