"""`python -m training.prepare amazon-images`: fetch the pictures that reviews and metadata name.

In three rounds, each for what the round before could not give: of each product that is reviewed the
first picture of high resolution, then its first ordinary one, then the reviewers' own.
"""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lanistr.errors import InputError
from training.prepare.amazon.fetch import Again, Answer, Fetcher, FetchError, FetchOptions
from training.prepare.amazon.files import RawFiles, find_files
from training.prepare.amazon.pictures import Entry, Manifest, check_picture
from training.prepare.amazon.scan import Reporter, products, reviews
from training.prepare.kind import folder, options
from training.prepare.problems import Problems, problems_path

HELP = "a folder of images, downloaded, for Amazon's products and reviews"
EXAMPLE = "python -m training.prepare amazon-images --source raw/amazon --out raw/pictures"

_USUAL = FetchOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to fetch, and how politely."""
    parser.add_argument(
        "--source", required=True, type=Path, nargs="+", help="files or folders, as for `amazon`"
    )
    parser.add_argument(
        "--out", required=True, type=folder, help="folder of images; resumes if it exists"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="also retry permanent failures, such as a 404"
    )
    parser.add_argument(
        "--most-problems",
        type=int,
        default=1000,
        help="stop if more values than this in the files cannot be used (1000)",
    )
    parser.add_argument(
        "--allow-private-addresses",
        action="store_true",
        help="also fetch from hosts in private networks",
    )
    for name, kind, said in (
        ("at-once", int, "downloads at once"),
        ("per-host", int, "downloads at once from one host"),
        ("rate", float, "requests per second to one host"),
        ("tries", int, "attempts per address"),
        ("total-timeout", float, "seconds for one download"),
        ("longest-wait", float, "longest wait that a host may ask for (Retry-After), in seconds"),
        ("largest", int, "maximum size of an image, in bytes"),
        ("user-agent", str, "User-Agent header to send"),
    ):
        usual = getattr(_USUAL, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=kind, default=usual, help=f"{said} ({usual})")


def run(arguments: argparse.Namespace) -> None:
    """Fetch what is missing and say what there is."""
    wanted = options(
        FetchOptions,
        at_once=arguments.at_once,
        per_host=arguments.per_host,
        rate=arguments.rate,
        tries=arguments.tries,
        total_timeout=arguments.total_timeout,
        longest_wait=arguments.longest_wait,
        largest=arguments.largest,
        user_agent=arguments.user_agent,
        allow_private=arguments.allow_private_addresses,
    )
    out: Path = arguments.out
    files = find_files(arguments.source)
    out.mkdir(parents=True, exist_ok=True)
    problems = Problems(problems_path(out), limit=sys.maxsize)  # the reporters have the limits
    named = read_names(files, problems, arguments.most_problems)
    manifest = Manifest(out, forget_failures=arguments.retry_failed)
    found = asyncio.run(fetch_pictures(named, manifest, wanted))
    kept = sum(each.status == "kept" for each in found.values())
    failed = Counter(each.reason for each in found.values() if each.status == "failed")
    told = ", ".join(f"{count} {reason}" for reason, count in failed.most_common())
    print(f"{out}: {kept} images, {failed.total()} failed" + (f" ({told})" if told else ""))


@dataclass(frozen=True, slots=True)
class Named:
    """The addresses of pictures that the raw files name.

    Attributes:
        products: by reviewed product, of its pictures, the best first.
        reviewers: product and address of the reviewers' own.
    """

    products: Mapping[str, tuple[str, ...]]
    reviewers: Collection[tuple[str, str]]


def read_names(files: RawFiles, problems: Problems, most_problems: int) -> Named:
    """Read which pictures there are to fetch.

    Raises:
        DataError: too many lines or values cannot be used.
    """
    reporter = Reporter(problems, most_problems)
    reviewed: set[str] = set()
    reviewers: dict[tuple[str, str], None] = {}
    for _, review in tqdm(reviews(files, reporter), desc="reading", unit=" reviews", disable=None):
        reviewed.add(review.product)
        if review.picture:
            reviewers[review.product, review.picture] = None
    reporter.end()
    named: dict[str, tuple[str, ...]] = {}
    for product, addresses in products(files, Reporter(problems, most_problems)):
        if product in reviewed and addresses:
            named.setdefault(product, addresses)
    return Named(named, reviewers)


async def fetch_pictures(
    named: Named, manifest: Manifest, wanted: FetchOptions
) -> Mapping[str, Entry]:
    """Fetch what is missing into the manifest's folder; return what became of every address."""

    def rounds() -> Iterator[tuple[str, Iterable[str]]]:
        """Yield each round, when the one before is over."""
        products = named.products.values()
        yield "first pictures", (each[0] for each in products)
        failed = (each for each in products if not manifest.kept(each[0]))
        yield "second pictures", (each[1] for each in failed if len(each) > 1)
        yield (
            "reviewers' pictures",
            (
                address
                for product, address in named.reviewers
                if not any(map(manifest.kept, named.products.get(product, ())))
            ),
        )

    with manifest:
        async with Fetcher(wanted, _kind_of) as fetcher:
            for said, addresses in rounds():
                missing = [each for each in dict.fromkeys(addresses) if not manifest.settled(each)]
                with tqdm(total=len(missing), desc=said, unit=" pictures", disable=None) as bar:

                    def done(address: str, answer: Answer, bar: Any = bar) -> None:
                        _keep(manifest, address, answer)
                        bar.update()

                    await fetcher.fetch_all(missing, done)
    return manifest.entries


def _kind_of(address: str, data: bytes) -> str:
    """Decode a picture, as `Fetcher` asks for it."""
    try:
        return check_picture(data, address)
    except InputError as exc:
        # A picture that begins well may have been cut off on its way, by a server that did not
        # say how long it is.
        again: Again = "soon" if exc.code == "broken_image" else "never"
        raise FetchError(exc.code, f"{exc.message}; seen {exc.seen}", again=again) from exc


def _keep(manifest: Manifest, address: str, answer: Answer) -> None:
    if answer.error is None:
        assert answer.body is not None
        manifest.keep(address, answer.body, answer.kind)
    else:
        error = answer.error
        manifest.fail(address, error.reason, str(error), error.again == "never", answer.tries)
