"""`ClassifierService`: requests over gRPC -> heads that are asked, trained, activated and deleted."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from extractor.errors import BackboneChanged, RequestInvalid, RequestTooLarge, UndecodableItem
from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from extractor.stages import StageTimes
from headwater import dumps, shelf
from headwater.convert import RequestLimits
from headwater.errors import DumpInvalid, HeadNotFound, JobCancelled
from headwater.heads import EMBEDDING, from_job, from_prediction
from headwater.order import KINDS, SINGLE, Order
from headwater.prediction import MAX_SHOWN, Prediction
from headwater.service import predicted
from headwater.service.calls import Call, Calls, Context
from headwater.service.door import Pass
from headwater.service.extractor import extract
from headwater.service.heads import Heads, LoadedHead
from headwater.service.jobs import Job, Jobs
from headwater.service.served import Served, shown
from headwater.service.upload import Requests, Upload, check_size, matrix, next_message
from headwater.status import ROOTS
from headwater.v1 import classifier_pb2 as pb
from headwater.v1 import classifier_pb2_grpc, extractor_pb2

MAX_REFERENCE = 210  # a name, '@', and an alias


class ClassifierService(classifier_pb2_grpc.ClassifierServiceServicer):
    """Serves the heads under HEADWATER_HOME on embeddings of the backbones that are served.

    Parameters
    ----------
    served : Served
    calls : Calls
    limits : RequestLimits
    heads : Heads
    jobs : Jobs
    dumps_folder : Path, optional
        Below it are the dumps that may be trained on; by default none may.
    """

    def __init__(
        self,
        served: Served,
        calls: Calls,
        limits: RequestLimits,
        *,
        heads: Heads,
        jobs: Jobs,
        dumps_folder: Path | None = None,
    ) -> None:
        self._served = served
        self._calls = calls
        self._limits = limits
        self._heads = heads
        self._jobs = jobs
        self._dumps = dumps_folder

    async def TrainHead(self, requests: Requests, context: Context) -> None:
        """Train a head on examples that stream in, and tell how far it is."""
        async with self._calls.accept(context, "TrainHead") as call:
            first = await next_message(requests)
            if first is None or first.WhichOneof("part") != "order":
                raise RequestInvalid("the first message must hold the order; send that, and then the examples")
            with self._served.using(first.order.backbone) as extractor:
                order = await self._heads.aside(self._order, first.order, extractor)
                job = self._jobs.open(order, _visitor(call))
                telling = asyncio.create_task(_tell(job, context, detach=first.order.detach))
                try:
                    await Upload(requests, call, extractor, job, self._limits, self._calls.sight).run()
                except BaseException as error:
                    telling.cancel()
                    await self._jobs.leave(job, error if isinstance(error, ROOTS) else None)
                    raise
            try:
                await self._jobs.start(job)
                await telling
            finally:
                telling.cancel()

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> None:
        """Tell how a job is, until it has ended."""
        async with self._calls.accept(context, "WatchJob") as call:
            await _tell(self._jobs.find(request.id, _visitor(call)), context)

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.Job:
        """Tell how a job is."""
        async with self._calls.accept(context, "GetJob") as call:
            return from_job(self._jobs.find(request.id, _visitor(call)).info)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """List the caller's jobs."""
        async with self._calls.accept(context, "ListJobs") as call:
            return pb.ListJobsResponse(jobs=map(from_job, self._jobs.all_of(_visitor(call))))

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.Job:
        """Cancel a job."""
        async with self._calls.accept(context, "CancelJob") as call:
            job = self._jobs.find(request.id, _visitor(call))
            await self._jobs.cancel(job, JobCancelled(f"{call.caller.name!r} cancelled the job; train again"))
            return from_job(job.info)

    async def ListHeads(self, request: pb.ListHeadsRequest, context: Context) -> pb.ListHeadsResponse:
        """List the heads."""
        async with self._calls.accept(context, "ListHeads"):
            return pb.ListHeadsResponse(heads=await self._heads.aside(predicted.listed))

    async def GetHead(self, request: pb.GetHeadRequest, context: Context) -> pb.HeadVersion:
        """Describe one version of a head."""
        async with self._calls.accept(context, "GetHead"):
            loaded = await self._loaded(request.head)
            return await self._heads.aside(predicted.described, loaded)

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        """Tell the labels of items or embeddings."""
        async with self._calls.accept(context, "Predict") as call:
            self._check(request)
            loaded = await self._loaded(request.head)
            if request.items:
                outcomes, times = await self._embedded(request, loaded, call)
            else:
                self._check_items(len(request.embeddings) // (4 * loaded.manifest.dim))
                outcomes, times = _given(request, loaded), StageTimes()
                call.charge(len(outcomes))
            response = await self._heads.aside(_response, loaded, outcomes, request.top or 1, times)
            self._calls.sight.predicted(call, loaded.version.name, Counter(map(_kind_of, response.predictions)))
            return response

    async def ActivateHead(self, request: pb.ActivateHeadRequest, context: Context) -> pb.ActivateHeadResponse:
        """Let an alias stand for a version, which is loaded before."""
        async with self._calls.accept(context, "ActivateHead"):
            loaded = await self._loaded(request.head)
            previous = await self._heads.aside(_activate, loaded, request.alias or shelf.PRODUCTION)
            return pb.ActivateHeadResponse(version=str(loaded.version), previous=previous)

    async def DeleteHead(self, request: pb.DeleteHeadRequest, context: Context) -> pb.DeleteHeadResponse:
        """Delete a version of a head, or all of them."""
        async with self._calls.accept(context, "DeleteHead"):
            _check_reference(request.head)
            await self._heads.aside(_delete, request.head)
            return pb.DeleteHeadResponse()

    def _order(self, message: pb.TrainingOrder, extractor: Extractor) -> Order:
        """Return a checked order; reads the disk where it names a dump."""
        if message.kind not in ("", *KINDS):
            raise RequestInvalid(f"there is no kind of head {shown(message.kind)}; there are: {', '.join(KINDS)}")
        shelf.check_name(message.name)
        if message.dump and message.kind not in ("", SINGLE):
            raise RequestInvalid(
                f"a dump has one label an item, and a {message.kind} head takes other targets; send them"
            )
        dump = self._dump(message.dump) if message.dump else None
        of = message.fingerprint
        if dump is not None:
            facts = dumps.facts(dump)
            check_size(facts.n_rows, 4 * extractor.dim)
            of = facts.fingerprint
        if of and of != extractor.fingerprint:
            raise BackboneChanged(
                f"the examples are of the fingerprint {shown(of)}, and backbone {extractor.spec.name!r} has "
                f"{extractor.fingerprint}; name the backbone that they are of, or extract them again"
            )
        options = {field.name: value for field, value in message.options.ListFields()}
        order = Order(
            name=message.name,
            backbone=extractor.spec.name,
            fingerprint=extractor.fingerprint,
            dim=extractor.dim,
            kind=message.kind or SINGLE,
            options=options,
            activate=message.activate if message.HasField("activate") else True,
            dump=str(dump or ""),
        )
        order.check()
        return order

    def _dump(self, relative: str) -> Path:
        if self._dumps is None:
            raise DumpInvalid("this server trains on no dumps; serve with --dumps FOLDER, or send the embeddings")
        return dumps.find(self._dumps, relative)

    def _check(self, request: pb.PredictRequest) -> None:
        if request.items and request.embeddings:
            raise RequestInvalid("the request has items and embeddings; send them in two")
        if request.top > MAX_SHOWN:
            raise RequestInvalid(f"top is {request.top}, the limit is {MAX_SHOWN}; ask for fewer labels")
        self._check_items(len(request.items))

    def _check_items(self, n_items: int) -> None:
        if n_items > self._limits.max_items:
            raise RequestTooLarge(
                f"request has {n_items:,} items, the limit is {self._limits.max_items:,}; send them in several"
            )

    async def _loaded(self, reference: str) -> LoadedHead:
        _check_reference(reference)
        return await self._heads.loaded(reference)

    async def _embedded(
        self, request: pb.PredictRequest, loaded: LoadedHead, call: Call
    ) -> tuple[list[Outcome], StageTimes]:
        """Embed a request's items with the backbone that the head was trained on; no other will do."""
        manifest = loaded.manifest
        with self._served.using(request.backbone or manifest.backbone) as extractor:
            if (extractor.fingerprint, extractor.dim) != (manifest.fingerprint, manifest.dim):
                raise BackboneChanged(
                    f"head {loaded.version} was trained on {manifest.backbone!r} {shown(manifest.fingerprint)} "
                    f"({manifest.dim}-d), and {extractor.spec.name!r} is {extractor.fingerprint} ({extractor.dim}-d) "
                    "here; serve the backbone that it was trained on, or train it again"
                )
            call.charge(len(request.items))
            outcomes, times = await extract(extractor, [item.data for item in request.items], call)
            self._calls.sight.embedded(call, extractor.spec.name, outcomes, times)
            return outcomes, times


def _visitor(call: Call) -> Pass:
    assert call.admitted is not None  # noqa: S101  # for mypy: it was let in
    return call.admitted


async def _tell(job: Job, context: Context, *, detach: bool = False) -> None:
    """Write how a job is until it has ended, or, to detach, until it has its examples."""
    async for info in job.states():
        try:
            await context.write(pb.JobEvent(job=from_job(info)))
        except grpc.aio.InternalError:  # the receiver is gone, and gRPC is about to cancel this call
            raise asyncio.CancelledError from None
        if detach and info.state != EMBEDDING:
            return


def _check_reference(reference: str) -> None:
    if len(reference) > MAX_REFERENCE:
        raise HeadNotFound(f"{shown(reference)} is no head's name: it has more than {MAX_REFERENCE} characters")


def _given(request: pb.PredictRequest, loaded: LoadedHead) -> list[Outcome]:
    """Return the embeddings of a request as outcomes; one that is not finite is an error of its own."""
    manifest = loaded.manifest
    if request.embeddings and request.fingerprint != manifest.fingerprint:
        if not request.fingerprint:
            raise RequestInvalid("the request has embeddings and does not say of what; give their fingerprint")
        raise BackboneChanged(
            f"head {loaded.version} was trained on {manifest.backbone!r} {shown(manifest.fingerprint)}, and the "
            f"embeddings are of {shown(request.fingerprint)}; extract them with that backbone, or train it again"
        )
    X = matrix(request.embeddings, manifest.dim)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(X).all(axis=1))
    error = UndecodableItem("the embedding holds NaN or infinity; extract its item again")
    return [Outcome(row) if good else Outcome(error=error) for row, good in zip(X, finite, strict=True)]


def _of_item(outcome: Outcome, found: Iterator[Prediction]) -> Prediction:
    """Return what is told of an item: the next prediction, or the item's own error."""
    if outcome.error is not None:
        return Prediction(error=outcome.error)
    told = next(found)
    return told if told.error else replace(told, cached=outcome.cached, truncated=outcome.truncated)


def _response(loaded: LoadedHead, outcomes: list[Outcome], top: int, times: StageTimes) -> pb.PredictResponse:
    """Ask a head about outcomes; in a thread, for a hundred labels of a thousand items are many messages."""
    rows = [outcome.embedding for outcome in outcomes if outcome.embedding is not None]
    found = iter(predicted.predict(loaded, np.array(rows, np.float32).reshape(len(rows), loaded.manifest.dim), top))
    rejection = loaded.head.rejection
    response = pb.PredictResponse(
        head=str(loaded.version),
        kind=loaded.head.kind,
        fingerprint=loaded.manifest.fingerprint,
        rejection=pb.Rejection(**vars(rejection)) if rejection is not None else None,
        times=extractor_pb2.StageTimes(**vars(times)),
    )
    response.predictions.extend(from_prediction(_of_item(outcome, found)) for outcome in outcomes)
    return response


def _kind_of(prediction: pb.Prediction) -> str:
    if prediction.HasField("error"):
        return "error"
    return "unknown" if prediction.unknown else "known"


def _activate(loaded: LoadedHead, alias: str) -> str:
    """Move an alias, and return what it stood for."""
    try:
        previous = shelf.activate(loaded.version, alias)
    except OSError as error:
        raise shelf.not_writable(error) from None
    return f"{loaded.version.name}@{previous}" if previous is not None else ""


def _delete(reference: str) -> None:
    try:
        if "@" in reference:
            shelf.delete_version(shelf.find_version(reference))
        else:
            shelf.delete_head(reference)
    except OSError as error:
        raise shelf.not_writable(error) from None
