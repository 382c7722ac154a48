"""The models that are served, by task and version; exchanged while requests run.

A folder that holds another bundle than before is opened beside the model in use, tried, and takes
its place; one that is damaged or does not compute is refused, and what was served goes on being
served.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lanistr.bundle import Bundle
from lanistr.errors import BundleError, InputError, LanistrError, unknown_name
from lanistr.manifest import bad_bundle, read_manifest
from service.engine.predictor import Predictor
from service.engine.remote import RunnerLostError
from service.examples import example
from service.folders import Stamp, bundle_folders, no_bundle, open_bundle, stamp_of
from service.garbage import freeze_objects

_GRACE = 2.0
"""Seconds that a model stays after it was replaced: by then requests that got it have entered."""

_AGAIN_SECONDS = 0.2

_PATIENCE = 60.0
"""Seconds that a new model has to answer its example, once it was read."""

_DEATHS = 2
"""Deaths of runners while they answer an example, from which on the model is to blame."""

_log = logging.getLogger(__name__)


class Models(Mapping[str, Predictor]):
    """The predictors by task: of several versions, the one that was exported last.

    Args:
        folder: a bundle, or a folder of bundles.
        open_predictor: prepares a bundle for requests; may take a while.

    Raises:
        BundleError: there is no bundle that can be read, or one is damaged. Of folders that cannot
            be looked into, beside others, the log says so.
        OSError: the folder cannot be read.
    """

    def __init__(self, folder: Path, open_predictor: Callable[[Bundle], Predictor]) -> None:
        self._folder = folder
        self._open = open_predictor
        self._held: dict[Path, Predictor] = {}
        self._seen: dict[Path, Stamp] = {}
        self._complaints: dict[Path, str] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._look = asyncio.Event()
        self.changes = 0
        """How often what is served has changed."""
        fault = None
        for place in bundle_folders(folder):
            try:
                self._seen[place] = stamp_of(place)
            except OSError as exc:  # another's bundle, or none: the lost+found of a disk
                self._complain(place, fault := exc)
                continue
            self._hold({place: open_predictor(open_bundle(place))})
        if not self._held:
            raise no_bundle(folder, fault) from fault

    # ---- asking ---------------------------------------------------------------------------------

    def __getitem__(self, task: str) -> Predictor:
        """Return the newest model of a task."""
        return self._newest[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._newest)

    def __len__(self) -> int:
        return len(self._newest)

    def versions(self, task: str) -> dict[str, Predictor]:
        """Return all models of a task by version, the newest first."""
        return self._by_task.get(task, {})

    @property
    def available(self) -> bool:
        """Whether all of them can compute."""
        return all(each.engine.available for each in self._held.values())

    def find(self, task: str, version: str | None = None) -> Predictor:
        """Return what answers a task.

        Raises:
            InputError: the task, or the version of it, is not served.
        """
        if task not in self:
            raise InputError(
                "no such task",
                code="unknown_task",
                field="task",
                seen=task,
                accepted=unknown_name(task, self),
            )
        versions = self.versions(task)
        if version is None:
            return self[task]
        if version not in versions:
            raise InputError(
                "no such version of the model",
                code="unknown_version",
                field="version",
                seen=version,
                accepted=" or ".join(versions),
            )
        return versions[version]

    # ---- starting and ending --------------------------------------------------------------------

    def start(self) -> None:
        """Let what was opened begin to work, on the running event loop."""
        for each in self._held.values():
            each.engine.start()

    async def warm_up(self) -> None:
        """Send each task's example down the whole way once; again while runners die of others.

        Raises:
            Exception: whatever else went wrong.
        """
        for each in self._held.values():
            tried = False
            while not tried:
                with suppress(RunnerLostError):
                    await _try(each)
                    tried = True

    async def close(self) -> None:
        """Finish what is waiting."""
        for leaving in self._leaving:
            leaving.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for each in self._held.values():
            await each.close()

    # ---- changing -------------------------------------------------------------------------------

    async def watch(self, seconds: float) -> None:
        """Look for changed folders whenever so much time has passed (0: never), or `look` says."""
        while True:
            await self.look_once(seconds)

    async def look_once(self, seconds: float) -> None:
        """See `watch`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._look.wait(), seconds or None)
        self._look.clear()
        try:
            await self.refresh()
        except (BundleError, OSError) as exc:  # it may be there again soon
            self._complain(self._folder, exc)

    def look(self) -> None:
        """Look for changed folders now."""
        self._look.set()

    async def refresh(self) -> None:
        """Take what is new into service, and what is no longer there out of it.

        Where no bundle is left at all, those served go on being served.

        Raises:
            BundleError: no bundle is left that can be used.
            OSError: the folder cannot be read.
        """
        places = await asyncio.to_thread(bundle_folders, self._folder)
        self._seen = {place: self._seen[place] for place in places if place in self._seen}
        for place in self._complaints.keys() - {*places, self._folder}:
            del self._complaints[place]
        held = {place: each for place, each in self._held.items() if place in places}
        try:
            for place in places:
                await self._look_into(place, held)
        finally:
            if held and held != self._held:
                self._exchange(held)
        if self._folder in places:  # what is wrong with that was said
            return
        if not held:
            raise no_bundle(self._folder)
        self._complaints.pop(self._folder, None)

    async def _look_into(self, place: Path, held: dict[Path, Predictor]) -> None:
        """Put into `held` what stands in a folder, if that is new and can be used.

        What is wrong with a bundle is said once, until something changes in its folder. What only
        kept it from being tried is said too, and it is tried again at the next look.
        """
        try:
            stamp = await asyncio.to_thread(stamp_of, place)
            self._complaints.pop(place, None)
            if self._seen.get(place) == stamp:
                return
            held[place] = await self._replacement(place, held.get(place))
        except LanistrError as exc:
            _log.error("bundle not loaded: %s", exc)
        except OSError as exc:
            self._complain(place, exc)
            return
        except Exception:
            _log.exception("bundle not loaded: %s", place)
        self._seen[place] = stamp

    def _complain(self, place: Path, exc: Exception) -> None:
        """Say what went wrong with a folder, unless that was the last thing said of it."""
        said = str(exc) or type(exc).__name__
        if self._complaints.get(place) == said:
            return
        self._complaints[place] = said
        if place == self._folder:
            _log.error("cannot check for bundles: %s", said)
        else:
            _log.error("bundle not loaded yet: %s: %s", place, said)

    async def _replacement(self, place: Path, before: Predictor | None) -> Predictor:
        """Open what stands in a folder now, and try it.

        Raises:
            LanistrError: it cannot be used.
            OSError: it cannot be read, or nothing is there to run it.
        """
        version = (await asyncio.to_thread(read_manifest, place)).version
        if before is not None and before.bundle.manifest.version == version:
            return before
        bundle = await asyncio.to_thread(open_bundle, place)
        found = await asyncio.to_thread(self._open, bundle)
        found.engine.start()
        try:
            async with asyncio.timeout(_PATIENCE):
                await _try(found)
        except BaseException as exc:
            away = not found.engine.available
            await found.close()
            if not isinstance(exc, Exception) or (isinstance(exc, TimeoutError) and away):
                raise
            fault = f"the model cannot predict its own example: {type(exc).__name__}"
            raise bad_bundle(place, fault) from exc
        return found

    def _exchange(self, held: dict[Path, Predictor]) -> None:
        kept = set(map(id, held.values()))
        gone = [each for each in self._held.values() if id(each) not in kept]
        for place, each in held.items():
            if self._held.get(place) is not each:
                _log.info("%s: now served, from %s", named(each), place)
        for each in gone:
            _log.info("%s: no longer served", named(each))
            leaving = asyncio.create_task(_retire(each))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._forget)
        self._held = {}
        self._hold(held)
        self.changes += 1
        freeze_objects()

    def _forget(self, leaving: asyncio.Task[None]) -> None:
        self._leaving.discard(leaving)
        if not leaving.cancelled():  # else the service itself ends
            freeze_objects()

    def _hold(self, more: dict[Path, Predictor]) -> None:
        self._held |= more
        newest_first = sorted(
            self._held.values(), key=lambda each: each.bundle.manifest.created, reverse=True
        )
        by_task: dict[str, dict[str, Predictor]] = {}
        for each in newest_first:
            by_task.setdefault(each.bundle.task.name, {}).setdefault(
                each.bundle.manifest.version, each
            )
        self._by_task = dict(sorted(by_task.items()))
        self._newest = {
            task: next(iter(versions.values())) for task, versions in self._by_task.items()
        }


def named(predictor: Predictor) -> str:
    """Return task, model and version, for people."""
    manifest = predictor.bundle.manifest
    return f"{manifest.task}: model {manifest.name} version {manifest.version}"


async def _try(predictor: Predictor) -> None:
    """Have a model answer its task's example, once there is something to run it.

    Raises:
        RunnerLostError: what runs it died of it twice.
        Exception: whatever else went wrong.
    """
    record: Callable[[], Any] = partial(example, predictor.bundle.task)
    lost = 0
    while True:
        while not predictor.engine.available:  # noqa: ASYNC110 - a process, which notifies nobody
            await asyncio.sleep(_AGAIN_SECONDS)
        try:
            # The limit is for requests; whether the model works is to be seen in any case.
            await predictor.predict(record, explain=True, limited=False)
        except RunnerLostError:  # of this, or of another's work
            lost += 1
            if lost == _DEATHS:
                raise
        else:
            return


async def _retire(predictor: Predictor) -> None:
    """Close a model that gets no more requests once those inside are answered."""
    await asyncio.sleep(_GRACE)
    await predictor.admission.left()
    await predictor.close()
