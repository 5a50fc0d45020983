"""What all tests share."""

import ctypes.util
import os

if ctypes.util.find_library("EGL"):
    os.environ.setdefault("MUJOCO_GL", "egl")  # pictures without a screen; read at import

import pytest
import torch

from metarl.envs import FAMILIES
from metarl.envs.family import Family

torch.set_num_threads(1)  # the physics has its own threads


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    """Every family, with its default options."""
    return FAMILIES[request.param]()
