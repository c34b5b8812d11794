import pytest

from headwater.console import counted


@pytest.mark.parametrize(
    ("n", "words", "said"),
    [
        (1, ("row",), "1 row"),
        (0, ("row",), "0 rows"),
        (2000, ("row",), "2,000 rows"),
        (1, ("entry", "entries"), "1 entry"),
        (3, ("entry", "entries"), "3 entries"),
    ],
)
def test_things_are_counted_as_people_say_it(n: int, words: tuple[str, ...], said: str) -> None:
    assert counted(n, *words) == said
