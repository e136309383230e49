"""Binance's archives, read from bytes made by hand from its documentation."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from stockpred.data.bars import COLUMNS, TIME_TYPE
from stockpred.data.fetch import klines
from stockpred.data.fetch.order import LENGTHS, FetchError
from tests.stockpred.data.fetch.klines import HEADER, line, lines, zipped

# A line of the documentation as it stands there, in milliseconds, and its newer form in microseconds.
IN_MILLISECONDS = (
    "1601510340000,4.15070000,4.15870000,4.15060000,4.15540000,539.23000000,1601510399999,2240.39860900,13,"
    "401.82000000,1669.98121300,0"
)
IN_MICROSECONDS = (
    "1735689600000000,4.15070000,4.15870000,4.15060000,4.15540000,539.23000000,1735693199999999,"
    "2240.39860900,13,401.82000000,1669.98121300,0"
)


def read(content: bytes, interval: str = "1d") -> pd.DataFrame:
    return klines.read(content, "X-1d-2024-01.zip", "X", LENGTHS[interval])


@pytest.mark.parametrize(
    ("documented", "interval", "end"),
    [
        (IN_MILLISECONDS, "1m", "2020-10-01 00:00"),  # its start is 23:59 of the day before
        (IN_MICROSECONDS, "1h", "2025-01-01 01:00"),
    ],
)
def test_the_documented_lines_are_bars_with_their_end_as_time(
    documented: str, interval: str, end: str
) -> None:
    bars = read(zipped([documented]), interval)

    assert list(bars.columns) == list(COLUMNS)
    assert bars["time"].dtype == TIME_TYPE
    assert bars["time"].tolist() == [pd.Timestamp(end, tz="UTC")]
    assert bars.drop(columns=["symbol", "time"]).iloc[0].tolist() == [4.1507, 4.1587, 4.1506, 4.1554, 539.23]


def test_the_time_of_a_daily_bar_is_its_date() -> None:
    bars = read(zipped(lines("2024-01-30", [5.0, 6.0, 7.0])))
    assert bars["time"].tolist() == list(pd.date_range("2024-01-30", periods=3, tz="UTC"))


def test_milliseconds_and_microseconds_in_one_file_are_told_apart_line_by_line() -> None:
    rows = [*lines("2024-12-30", [1.0, 2.0]), *lines("2025-01-01", [3.0, 4.0], unit=10**6)]
    bars = read(zipped(rows))
    assert bars["time"].tolist() == list(pd.date_range("2024-12-30", periods=4, tz="UTC"))


def test_a_line_of_names_is_left_out() -> None:
    rows = lines("2024-01-01", [1.0, 2.0])
    pd.testing.assert_frame_equal(read(zipped([HEADER, *rows])), read(zipped(rows)))


def test_an_archive_without_lines_has_no_bars() -> None:
    bars = read(zipped([]))
    assert len(bars) == 0
    assert bars["time"].dtype == TIME_TYPE


def test_prices_are_read_as_python_reads_them() -> None:
    start = pd.Timestamp("2024-01-01", tz="UTC")
    values = np.random.default_rng(0).lognormal(3, 2, 2000)
    bars = read(zipped([line(start + pd.Timedelta(days=day), value) for day, value in enumerate(values)]))
    assert bars["close"].tolist() == [float(f"{value:.8f}") for value in values]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (zipped(lines("2024-01-01", [1.0]))[:-30], "is not a whole zip archive"),
        (b"<!DOCTYPE html><html><body>Please log in</body></html>", "is not a whole zip archive"),
        (b"", "is not a whole zip archive"),
        (zipped(["<html><body>Access denied</body></html>"]), "holds a web page in the place of bars"),
        (zipped(["1704067200000,1,2"]), "is no table of bars"),
        (zipped(["1704067200000,1,2,0.5,many,3,1704153599999"]), "is no table of bars"),
    ],
)
def test_what_is_no_archive_of_bars_is_named(content: bytes, told: str) -> None:
    with pytest.raises(FetchError, match=rf"^X-1d-2024-01\.zip {re.escape(told)}"):
        read(content)


def test_a_checksum_is_the_one_that_sha256sum_writes() -> None:
    # The digest of the empty message, from FIPS 180-4's test vectors.
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    stated = klines.checksum_in(f"{empty}  X.zip\n".encode(), "X.zip.CHECKSUM")

    assert stated == empty
    assert klines.has_checksum(b"", stated)
    assert not klines.has_checksum(b"x", stated)


def test_a_login_page_in_the_place_of_a_checksum_is_named() -> None:
    with pytest.raises(
        FetchError, match=r"X\.zip\.CHECKSUM is a web page in the place of a checksum"
    ) as told:
        klines.checksum_in(b"<html>welcome to the hotel</html>", "X.zip.CHECKSUM")
    assert "proxy" in str(told.value.fix)
