"""The table of recorded scores, on rows written by hand; and the page that it stands on."""

import csv

import pytest

from experiments import table
from metarl.errors import UserError


def row(**given: str) -> dict[str, str]:
    """A row of scores: PEARL's return on cheetah-vel after two episodes, unless it is told."""
    usual = {
        "family": "cheetah-vel", "agent": "pearl", "seed": "0", "split": "test", "episode": "2",
        "return": "-10", "success": "", "env_steps": "500000", "wall_s": "120", "commit": "abc1234",
        "phase": "exploiting",
    }
    return usual | given


def cells(rows: list[dict[str, str]]) -> list[list[str]]:
    """The cells of the table's lines below its head."""
    lines = table.table(rows).splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_shows_what_the_rows_say() -> None:
    with table.SCORES.open(newline="", encoding="utf-8") as file:
        made = table.table(csv.DictReader(file))
    page = table.PAGE.read_text()
    assert table.written(page, made) == page, "run python -m experiments.table --write"


def test_a_page_without_marks_is_not_written_over() -> None:
    with pytest.raises(UserError, match="has no <!-- python -m experiments"):
        table.written("# a page\n", "| a table |\n")


def test_seeds_are_averaged_and_their_ends_told() -> None:
    (line,) = cells([row(), row(seed="1", **{"return": "-200", "wall_s": "240"}),
                     row(seed="1", split="ood", **{"return": "-300", "wall_s": "240"})])
    # (-10 - 200) / 2 = -105; (500 k + 500 k) / 2; (120 s + 240 s) / 2 = 3 min.
    assert line == ["`cheetah-vel`", "pearl", "2", "0.5 M", "3", "", "", "-105", "",
                    "2: -105 (-200 … -10.0)", "-300", "abc1234"]


def test_the_newest_commit_of_a_seed_counts_and_of_its_rows_the_latest() -> None:
    (line,) = cells([row(), row(commit="def5678", episode="1", **{"return": "-30"}),
                     row(commit="def5678", episode="1", **{"return": "-20"})])
    # Episode 2 is of an older commit alone: it is gone.
    assert line[6:8] == ["-20.0", ""] and line[-1] == "def5678"


def test_what_was_never_trained_shows_neither_steps_nor_minutes() -> None:
    (line,) = cells([row(agent="scratch", env_steps="50", wall_s="11")])
    assert line[1:5] == ["scratch", "1", "-", "-"]


@pytest.mark.parametrize("given", [
    {"phase": "adapting"}, {"phase": ""}, {"env_steps": ""}, {"agent": "pearl (of old)"},
])
def test_only_the_best_of_agents_that_studies_list_in_simulation_is_shown(
    given: dict[str, str]
) -> None:
    assert cells([row(**given)]) == []


def test_of_a_family_the_best_comes_first_and_its_name_once() -> None:
    rows = [row(agent=name, **{"return": value}) for name, value in
            (("finetune", "-90"), ("blind", "-99"), ("pearl", "-10"))]
    assert [line[:2] for line in cells(rows)] == [
        ["`cheetah-vel`", "pearl"], ["", "finetune"], ["", "blind"]]


def test_shorter_episodes_are_another_family_and_an_experiment_that_became_a_preset_its_agent(
) -> None:
    rows = [row(agent="maml (H 100)"), row(family="push", agent="pearl (6 M)",
                                           success="0.9333")]
    assert [line[:2] for line in cells(rows)] == [
        ["`cheetah-vel`, H 100", "maml (H 100)"], ["`push`", "pearl"]]
    assert cells(rows)[1][7] == "93 %"


def test_a_preset_that_gave_way_has_a_name_of_its_own() -> None:
    rows = [row(family="cheetah-dir", commit="5155e3e", **{"return": "1475"}),
            row(family="cheetah-dir", **{"return": "1743"})]
    assert [line[1] for line in cells(rows)] == ["pearl", "pearl (learned temperature)"]
