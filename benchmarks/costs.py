"""What a corpus costs by arithmetic: hours, memory, disk and money, from rates that were measured and prices that you give.

    python benchmarks/costs.py [--documents 2000 200000 10000000] [--chunks-per-document 20] [--cores 2]
        [--price NAME,CURRENCY,CORE_HOUR,GB_HOUR,DISK_GB_MONTH ...] [--rate embed=0.015 ...]

Rates are seconds of one core of the machine in docs/performance.md, and bytes. Building is paid by the core-hour; answering by
the hour of the memory that an index wants (a server's cores come with it) and by the disk, for a month of 730 hours.

The prices are those of two public lists, second hand: public repositories quote them. AWS in us-east-1 on demand: c7i.large at
$0.08925 an hour (its price list asked in September 2026), r7i.large at $0.1323, gp3 at $0.08. Hetzner Cloud in Germany, new
orders since 15 June 2026, without tax: CCX33, 8 dedicated cores and 32 GiB at €138.49 a month, and volumes at €0.0572.
A list may have changed since, so give your own.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from machine import describe

MONTH = 730

RATES = {
    "read": 0.022,  # a document of Markdown, counting its tokens included
    "cut": 0.00058,  # a chunk
    "embed": 0.0150,  # all-MiniLM-L6-v2 in int8
    "embed-static": 1 / 3_200,
    "terms": 0.00024,
    "documents": 0.00008,
    "vectors": 0.00005,  # IVF-PQ of 3 million
}
"""Seconds of one core for a document or chunk."""

BYTES = {"vectors": 800, "codes": 60, "terms": 800, "documents": 300, "text": 700}
"""A chunk's bytes in the files of an index; `codes` are the part of its vector that IVF-PQ keeps in memory."""

FLAT_UP_TO = 500_000
"""Chunks up to which whole vectors are held in memory."""
ONE_MACHINE_UP_TO = 30_000_000
"""Chunks beyond which a server of several nodes answers: two copies of vectors and terms in memory."""


@dataclass(frozen=True, slots=True)
class Prices:
    """One list: a core for an hour, a GB of a server's memory for an hour, a GB of disk for a month."""

    name: str
    currency: str
    core_hour: float
    gb_hour: float
    disk_month: float

    @staticmethod
    def of(text: str) -> Prices:
        """NAME,CURRENCY,CORE_HOUR,GB_HOUR,DISK_GB_MONTH."""
        name, currency, *numbers = text.split(",")
        core, memory, disk = map(float, numbers)
        return Prices(name, currency, core, memory, disk)


LISTS = ("AWS,$,0.0446,0.00827,0.08", "Hetzner,€,0.0237,0.00593,0.0572")


def rate(text: str) -> tuple[str, float]:
    """NAME=SECONDS."""
    name, _, value = text.partition("=")
    if name not in RATES:
        raise argparse.ArgumentTypeError(f"no rate {name!r}: one of {', '.join(RATES)}")
    return name, float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[2_000, 200_000, 10_000_000])
    parser.add_argument("--chunks-per-document", type=float, default=20)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--price", type=Prices.of, action="append")
    parser.add_argument("--rate", type=rate, action="append", default=[])
    arguments = parser.parse_args()
    rates = RATES | dict(arguments.rate)
    prices = arguments.price or [Prices.of(text) for text in LISTS]
    print(describe())
    for documents in arguments.documents:
        chunks = documents * arguments.chunks_per_document
        others = {
            "reading": documents * rates["read"],
            "cutting": chunks * rates["cut"],
            "BM25 and documents": chunks * (rates["terms"] + rates["documents"]),
            "vector index": chunks * (rates["vectors"] if chunks > FLAT_UP_TO else 0),
        }
        print(f"\n{documents:,} documents, {chunks:,.0f} chunks; hours of one core:")
        print("  " + ", ".join(f"{name} {seconds / 3600:,.2f}" for name, seconds in others.items()))
        for name in ("embed", "embed-static"):
            embedding = chunks * rates[name]
            hours = (sum(others.values()) + embedding) / 3600
            paid = ", ".join(f"{price.currency}{hours * price.core_hour:,.2f} {price.name}" for price in prices)
            model = "MiniLM" if name == "embed" else "a static model"
            print(
                f"  with {model}: embedding {embedding / 3600:,.2f}, a build {hours:,.2f} core-hours: {paid}; "
                f"embedding on {arguments.cores} cores {embedding / 3600 / arguments.cores:,.2f} h"
            )
        several = chunks > ONE_MACHINE_UP_TO
        held = BYTES["vectors"] if several or chunks <= FLAT_UP_TO else BYTES["codes"]
        memory = max(2.0, chunks * (held + BYTES["terms"] + BYTES["documents"]) / 1e9 * (2 if several else 1))
        disk = chunks * (sum(BYTES.values()) - BYTES["codes"]) / 1e9 * (2 if several else 1)
        paid = ", ".join(
            f"{price.currency}{memory * price.gb_hour * MONTH + disk * price.disk_month:,.0f} {price.name}" for price in prices
        )
        where = "on a server, two copies" if several else "on one machine"
        print(f"  answering {where}: {memory:,.1f} GB of memory, {disk:,.1f} GB of disk, a month {paid}")


if __name__ == "__main__":
    main()
