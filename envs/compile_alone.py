"""Compile one model under limits and step it once: a script, for a process of its own.

`python compile_alone.py SECONDS MEMORY LARGEST` reads a line of JSON, {file name: bytes}, and then
those bytes, the first file being the MJCF. It imports nothing of metarl, so that the limits are
the model's alone. Exit code 0 says that the model compiles; else MuJoCo's words are on stderr.
"""

import json
import resource
import sys


def main(seconds: int, memory: int, largest: int) -> int:
    """Compile what stdin holds; the exit code. `memory` and `largest` (a model's) in bytes."""
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    import mujoco

    mujoco.set_mju_user_warning(lambda message: None)  # else it is appended to a file
    sizes = json.loads(sys.stdin.buffer.readline())
    (_, text), *assets = [(name, sys.stdin.buffer.read(size)) for name, size in sizes.items()]
    # From here on no file can be opened: what is not in `assets` does not exist.
    _limit(resource.RLIMIT_NOFILE, 0)
    try:
        model = mujoco.MjSpec.from_string(text.decode(), assets=dict(assets)).compile()
        if model.nbuffer > largest:
            raise ValueError(f"the compiled model takes {model.nbuffer:,} bytes")
        # Each of many rows holds a state of its own.
        state = 8 * mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION)
        if state > largest // 1000:
            raise ValueError(f"a state of the model takes {state:,} bytes")
        mujoco.mj_step(model, mujoco.MjData(model))
    except Exception as error:  # the parent tells nobody more than that it failed
        print(str(error)[:2000], file=sys.stderr)
        return 1
    return 0


def _limit(kind: int, value: int) -> None:
    try:
        resource.setrlimit(kind, (value, value))
    except ValueError:
        # macOS knows no limit of address space; the parent's clock holds there too.
        if sys.platform != "darwin":
            raise


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
