"""Writes the README's table of results from the lines of benchmarks/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"


def write_table(results: Path) -> str:
    """Write the newest line of every case into the README, between the two marks, and return the table."""
    newest: dict[str, dict[str, Any]] = {}
    for line in results.read_text().splitlines():
        record = json.loads(line)
        newest[record["case"]] = record
    table = format_table(list(newest.values()))
    put_into_readme("benchmarks", table)
    return table


def format_change(results: Path) -> str:
    """Return a Markdown table of the oldest and the newest line of every case, each from a run of its own."""
    by_case: dict[str, list[dict[str, Any]]] = {}
    for line in results.read_text().splitlines():
        record = json.loads(line)
        by_case.setdefault(record["case"], []).append(record)
    lines = [
        "First recorded and newest, on this kind of machine; ratios are to the grid of the same run.",
        "",
        "| case | evaluations | all radii, vs grid | of peak | decisive, vs grid |",
        "|---|---|---|---|---|",
    ]
    for first, *_, last in (records for records in by_case.values() if len(records) > 1):
        columns = [
            (
                f"{record['full_evaluations']:.2f}" if "full_evaluations" in record else "not counted",
                f"{record['ratio_all']['grid']:,.0f}x",
                f"{record['fraction_of_peak']:.0%}",
                f"{record['ratio_decisive']['grid']:,.0f}x",
            )
            for record in (first, last)
        ]
        cells = " | ".join(f"{before} -> {after}" for before, after in zip(*columns, strict=True))
        lines.append(f"| {last['title']} | {cells} |")
    return "\n".join(lines)


def put_into_readme(mark: str, table: str) -> None:
    """Write a table into the README, between the two marks of this name."""
    put_into(README, mark, table)


def put_into(page: Path, mark: str, table: str) -> None:
    """Write a table into a page, between the two marks of this name."""
    begin, end = (f"<!-- {mark}: {side} -->" for side in ("begin", "end"))
    before, rest = page.read_text().split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}")


def format_table(records: list[dict[str, Any]]) -> str:
    """Return a Markdown table, in which every ratio is to the baseline of the same run."""
    first = records[0]
    machine = first["machine"]
    peaks = [record["peak_gflops"] for record in records]  # of a machine that others share they differ
    lines = [
        f"{machine['cpu']}, {first['threads']} threads, torch {first['versions']['torch']}, "
        f"engine {first['engine'].split(',')[0]}, peak {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s in float32, "
        "measured with each case. "
        "Seconds for all directions; ratios to the time of each baseline in the same run. Evaluations are those "
        "of one direction, in units of all its examples.",
        "",
        "| case | directions | all radii | evaluations | vs grid | vs bisection | vs vmap | of peak "
        "| decisive | vs grid |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        seconds, ratio = record["seconds"], record["ratio_all"]
        lines.append(
            f"| {record['title']} | {record['num_directions']} | {seconds['all']['median']:.2f} s "
            f"| {record['full_evaluations']:.2f} "
            f"| {ratio['grid']:,.0f}x | {ratio['bisection']:,.0f}x | {ratio['vmap']:,.0f}x "
            f"| {record['fraction_of_peak']:.0%} | {seconds['decisive']['median']:.2f} s "
            f"| {record['ratio_decisive']['grid']:,.0f}x |"
        )
    return "\n".join(lines)
