"""The command line: `metarl VERB …`, a file per verb in metarl/cli/.

Nothing heavy is imported here, so that `metarl --help` answers at once.
"""

import errno
import importlib
import os
import sys
from typing import TextIO

from metarl import __version__
from metarl.errors import UserError, unknown
from metarl.plugins import own_line
from metarl.signals import let_go

# verb -> what it does, in one line; its module is metarl.cli.<verb>
VERBS = {
    "list": "show the task families and the agents, and what varies",
    "show": "draw tasks of a family, trained and out of distribution side by side",
    "check": "run the contract of families on one of your own, and explain failures",
    "train": "meta-train an agent on a family of tasks",
    "resume": "go on with an interrupted run, bit for bit, or lengthen a finished one",
    "evaluate": "judge a run: returns of episodes 1 ... K on the tasks of a split",
    "bench": "train and judge all that a study lists: agents, baselines, families, seeds",
    "adapt": "adapt a run to one task, in a few episodes or from recorded ones",
    "record": "record episodes of an expert, a run or a controller of yours",
    "play": "let a run or an adapted policy act, and record a video",
    "robot": "put a policy onto a real arm, behind a guard, and adapt it there",
    "report": "write what runs or studies did into one self-contained page",
    "demo": "see it all work in a few minutes",
}
# What is wrong with a file that somebody named, rather than with the machine.
_PLACES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR,
           errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
_REASON = 120  # letters of an allocator's reason, which may go on for a page
_USAGE = """usage: metarl VERB [options]

{doc}

verbs:
{verbs}

options:
  -h, --help    show this help; metarl VERB --help explains a verb
  --version     show the version
  --debug       show tracebacks

exit codes: 0 done, 1 failed, 2 usage, 3 damaged file, 4 diverged, 75 interrupted and saved,
            130 stopped by Ctrl-C where there was nothing to save
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code. Failures that a user can mend are one line on stderr."""
    words = sys.argv[1:] if argv is None else argv
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    # A caller may have closed them, with `>&-` say.
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, `head` say, has had enough; what Python flushes at exit must go nowhere.
        let_go(sys.stdout)
        return 0
    except KeyboardInterrupt:
        print("metarl: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        return _complain(error)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"metarl {__version__}")
        return 0
    verb = words[0]
    if verb.startswith("-"):
        raise unknown("option", verb, ["--help", "--version", "--debug"])
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    try:
        return importlib.import_module(f"metarl.cli.{verb}").run(words[1:])
    except SystemExit as leaving:  # of what prints help
        return leaving.code if isinstance(leaving.code, int) else 1


def _nowhere() -> TextIO:
    return open(os.devnull, "w")


def usage() -> str:
    """The text of `metarl --help`."""
    verbs = "\n".join(f"  {verb:<12}{line}" for verb, line in VERBS.items())
    doc = "Meta-reinforcement learning for robots: meta-train over variations, adapt in a few\n" \
          "rollouts."
    return _USAGE.format(doc=doc, verbs=verbs)


def _complain(error: Exception) -> int:
    print(f"metarl: {_told(error)}", file=sys.stderr)
    if _place(error):
        return UserError.exit_code
    return error.exit_code if isinstance(error, UserError) else 1


def _place(error: Exception) -> str:
    """The file or folder that cannot be used, where that is what is wrong."""
    if not isinstance(error, OSError) or error.errno not in _PLACES:
        return ""
    return str(error.filename2 or error.filename or "")


def _told(error: Exception) -> str:
    """A failure in one line: what, why, and what to do instead."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    if isinstance(error, OSError) and (place := _place(error)):
        return f"cannot use {place}: {error.strerror}; choose another place"
    if isinstance(error, OSError):
        return f"{text}; nothing that was saved before is lost"
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return (f"out of memory ({text[:_REASON]}); take fewer tasks, rows or units, or a smaller "
                "replay (--config.capacity); nothing that was saved before is lost")
    if place := own_line(error):
        return f"{type(error).__name__}: {text} (in {place}); --debug shows all"
    lacking = error.name if isinstance(error, ModuleNotFoundError) else None
    if lacking and lacking.partition(".")[0] != "metarl":
        return (f"this Python, {sys.executable}, has no {lacking}; install metarl into it (pip "
                "install -e .), or use one that has it, .venv/bin/python say")
    return (f"unexpected {type(error).__name__}: {text}; --debug shows where; this is a bug in "
            "metarl")


if __name__ == "__main__":
    sys.exit(main())
