"""`metarl report`."""

from metarl.errors import UserError


def run(argv: list[str]) -> int:
    """Not written yet."""
    raise UserError("metarl report is not there yet; metarl --help lists what is")
