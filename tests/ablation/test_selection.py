import pytest

from fusionproxy_jax.ablation.paper import COLUMNS, paper_numbers
from fusionproxy_jax.ablation.rows import TABLE_4
from fusionproxy_jax.ablation.selection import parse_rows, table_rows
from fusionproxy_jax.errors import FusionProxyError


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("a-l", "abcdefghijkl"),
        ("a,c,e-h", "acefgh"),
        (" C , a ", "ac"),
        ("b-c,a-b", "abc"),
        ("all", "abcdefghijklmnop"),
        ("ALL", "abcdefghijklmnop"),
        ("p", "p"),
    ],
)
def test_letters_and_ranges_are_rows_in_the_tables_order(text, letters):
    assert parse_rows(text, TABLE_4) == tuple(letters)


@pytest.mark.parametrize(
    "text", ["q", "a-", "c-a", "a--c", "", "a,,b", "ab", "1", "a-z"]
)
def test_what_is_no_row_is_named(text):
    with pytest.raises(
        FusionProxyError, match="--rows names .*; rows are a to p, writ"
    ):
        parse_rows(text, TABLE_4)


def test_an_unknown_table_is_refused():
    assert table_rows(4) is TABLE_4
    with pytest.raises(FusionProxyError, match="--table is 3; .* is Table 4$"):
        table_rows(3)


def test_the_papers_numbers_are_there_for_its_own_rows_only():
    for letter in TABLE_4:
        assert len(paper_numbers(letter)) == (len(COLUMNS) if letter <= "l" else 0)
    assert paper_numbers("c") == paper_numbers("h") == paper_numbers("l")
    assert paper_numbers("i")["seg. mIoU"] == 51.6
