"""The page of the benchmarks is made from the figures, and what people wrote on it stays."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import plots, report
from bench.results import Plot, Section, Series, Table, at_least, at_most

PLOT = Plot("speed", "Speed & more", ["1", "64"], ["ours", "<theirs>"], [[10.0, 20.0], [5.0, 0.0]])


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "images").mkdir()
    monkeypatch.setattr(report, "_DOCS", tmp_path)
    monkeypatch.setattr(report, "PAGE", tmp_path / "performance.md")
    return tmp_path / "performance.md"


def _section(per_s: str = "9,148") -> Section:
    tables = [Table(["", "events/s"], [["ours", per_s]])]
    return Section("Speed", "How it is measured.", tables, [PLOT], ["A note."], [at_least("speed", 1.0, 1.2)])


def test_what_people_wrote_below_the_line_is_kept(page: Path) -> None:
    report.write({"speed": _section()}, [["machine", "two cores"]], [])
    page.write_text(page.read_text() + "\n## What was found\n")

    report.write({"speed": _section("1,234")}, [["machine", "two cores"]], [])

    assert page.read_text().endswith("\n## What was found\n")
    assert "1,234" in page.read_text()
    assert "9,148" not in page.read_text()


def test_the_page_links_to_the_plots_that_are_written_beside_it(page: Path) -> None:
    report.write({"speed": _section()}, [], ["--quick"])

    assert "](images/bench-speed.svg)" in page.read_text()
    assert (page.parent / "images" / "bench-speed.svg").exists()
    assert 'make bench ARGS="--quick"' in page.read_text()


def test_a_target_that_is_missed_is_told(page: Path) -> None:
    section = _section()
    section.targets.append(at_most("cold start", 1.5, 2.0, "s"))

    report.write({"speed": section}, [], [])

    assert "1 of 2 targets are reached" in page.read_text()
    assert "| cold start | at most 1.5 s | 2.0 s | **no** |" in page.read_text()


def test_a_plot_is_well_formed_and_has_a_bar_for_each_value() -> None:
    root = ET.fromstring(plots.svg(PLOT))  # noqa: S314 - our own
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["10.0", "5.0", "20.0", "0.0"]


def test_a_series_tells_its_median_and_its_range() -> None:
    assert Series([3.0, 1.0, 2.0]).text() == "2 (1-3)"
    assert Series([3.0]).text(1) == "3.0"
    assert Series().text() == "-"
