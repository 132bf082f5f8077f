"""Prints what was measured, so that a person likes to read it."""

from collections.abc import Sequence

from bench.figures import Bar, Table


def print_table(table: Table) -> None:
    """Print one table: first column left, numbers right."""
    rows = [list(table.heads), *[list(row) for row in table.rows]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.heads))]
    print(f"\n{table.title}")
    rule = "  " + "─" * (sum(widths) + 3 * (len(widths) - 1))
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  " + "   ".join(cells).rstrip())
        if number == 0:
            print(rule)
    if table.note:
        print(f"  {table.note}")


def print_bars(bars: Sequence[Bar]) -> bool:
    """Print what was reached; return whether every bar that decides is met."""
    rows = []
    for bar in sorted(bars, key=lambda bar: not bar.decides):
        mark = "≤" if bar.sense == "at most" else "≥"
        if not bar.reaches(bar.must):
            verdict = "✘ missed" if bar.decides else "· not yet"
        else:
            verdict = "★ ambition" if bar.reaches(bar.ambition) else "✔ met"
        ambition = "" if bar.ambition is None else f"{mark} {bar.ambition:g}"
        rows.append((bar.name, f"{bar.value:.2f} {bar.unit}".rstrip(), f"{mark} {bar.must:g}", ambition, verdict))
    missed = [bar for bar in bars if bar.decides and not bar.reaches(bar.must)]
    print_table(Table("What it had to reach", ("", "measured", "must", "ambition", ""), rows))
    deciding = sum(bar.decides for bar in bars)
    if missed:
        print(f"\n{len(missed)} of {deciding} bars missed: {', '.join(bar.name for bar in missed)}.")
    else:
        print(f"\nAll {deciding} bars that decide are met.")
    return not missed
