"""`FewShotService`: requests over gRPC -> few-shot tasks that are taught, asked, looked at and moved."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from extractor.errors import BackboneChanged, RequestInvalid
from extractor.pipeline import Extractor
from extractor.stages import StageTimes
from headwater.convert import RequestLimits
from headwater.service import answers, auditing, lists, suggesting, task_files, taught, teaching
from headwater.service.calls import Calls, Context
from headwater.service.classify_stream import Classifications
from headwater.service.classifying import Classifying, check_reads_names
from headwater.service.extractor import extract_and
from headwater.service.once import Once
from headwater.service.served import Served, shown
from headwater.service.stream import Stream
from headwater.service.tasks import Tasks
from headwater.service.upload import next_message
from headwater.v1 import fewshot_pb2 as pb
from headwater.v1 import fewshot_pb2_grpc

if TYPE_CHECKING:
    from classifiers.tasks import Task


class Change(Protocol):
    """A request for a change of a task."""

    task: str


class FewShotService(fewshot_pb2_grpc.FewShotServiceServicer):
    """Serves the few-shot tasks under HEADWATER_HOME on embeddings of the backbones that are served.

    Parameters
    ----------
    served : Served
    calls : Calls
    limits : RequestLimits
    tasks : Tasks
    """

    def __init__(self, served: Served, calls: Calls, limits: RequestLimits, *, tasks: Tasks) -> None:
        self._served = served
        self._calls = calls
        self._limits = limits
        self._tasks = tasks
        self._asked = Classifying(served, calls, limits, tasks)

    async def CreateTask(self, request: pb.CreateTaskRequest, context: Context) -> pb.Task:
        """Make a task."""
        async with self._calls.accept(context, "CreateTask"):
            with self._served.using(request.backbone) as extractor:
                if request.fingerprint and request.fingerprint != extractor.fingerprint:
                    raise BackboneChanged(
                        f"the task is to be of the fingerprint {shown(request.fingerprint)}, and backbone "
                        f"{extractor.spec.name!r} has {extractor.fingerprint}; name the backbone that it is of"
                    )
                return await self._tasks.on_disk(self._create, request, extractor)

    async def UpdateTask(self, request: pb.UpdateTaskRequest, context: Context) -> pb.Task:
        """Change how a task classifies."""
        async with self._calls.accept(context, "UpdateTask"):
            task = await self._asked.task(request.task)
            if request.settings.zero_shot and not task.settings.zero_shot:
                with self._asked.extractor(task.facts) as extractor:
                    check_reads_names(extractor)
            return await self._tasks.on_disk(self._update, task, request)

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.Task:
        """Describe a task."""
        async with self._calls.accept(context, "GetTask"):
            task = await self._asked.task(request.task)
            return await self._tasks.answering(self._described, task)

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> pb.ListTasksResponse:
        """List the tasks."""
        async with self._calls.accept(context, "ListTasks"):
            return await self._tasks.on_disk(lists.tasks, self._tasks, self._limits.max_message_bytes)

    async def DeleteTask(self, request: pb.DeleteTaskRequest, context: Context) -> pb.DeleteTaskResponse:
        """Delete a task."""
        async with self._calls.accept(context, "DeleteTask"):
            await self._tasks.on_disk(self._tasks.delete, request.task, teaching.if_version(request))
            return pb.DeleteTaskResponse()

    async def AddExamples(self, request: pb.AddExamplesRequest, context: Context) -> pb.AddExamplesResponse:
        """Add examples; on disk when it is answered."""
        async with self._calls.accept(context, "AddExamples") as call:
            task = await self._asked.task(request.task)
            examples, facts = request.examples, task.facts
            n = self._asked.count(len(examples.items), examples.embeddings, facts.dim)
            teaching.check(examples, n, task.limits)
            call.charge(n)
            if examples.items:
                with self._asked.extractor(facts) as extractor:
                    task.check_version(teaching.if_version(request))  # before it costs anything
                    contents = [item.data for item in examples.items]
                    add = partial(teaching.add_items, task, request)
                    outcomes, times, added = await extract_and(extractor, contents, call, self._tasks.on_disk, add)
                    self._calls.sight.extracted(call, extractor.spec.name, outcomes, times)
                return added if added is not None else await self._tasks.on_disk(add, outcomes, times)
            call.n_items += n
            if not n:
                return await self._tasks.on_disk(teaching.add_items, task, request, [], StageTimes())
            X = self._given(examples, task)
            return await self._tasks.on_disk(teaching.add_embeddings, task, request, X, n)

    async def RemoveExamples(self, request: pb.RemoveExamplesRequest, context: Context) -> pb.TaskVersion:
        """Remove examples."""
        return await self._change(
            "RemoveExamples", request, context, lambda task, v: task.remove(request.ids, if_version=v)
        )

    async def RelabelExamples(self, request: pb.RelabelExamplesRequest, context: Context) -> pb.TaskVersion:
        """Give examples other labels."""
        return await self._change(
            "RelabelExamples", request, context, lambda task, v: task.relabel(dict(request.labels), if_version=v)
        )

    async def RenameClass(self, request: pb.RenameClassRequest, context: Context) -> pb.TaskVersion:
        """Give a class another label."""
        return await self._change(
            "RenameClass", request, context, lambda task, v: task.rename_class(request.label, request.to, if_version=v)
        )

    async def MergeClasses(self, request: pb.MergeClassesRequest, context: Context) -> pb.TaskVersion:
        """Put classes into another one."""
        return await self._change(
            "MergeClasses",
            request,
            context,
            lambda task, v: task.merge_classes(request.labels, request.into, if_version=v),
        )

    async def RemoveClass(self, request: pb.RemoveClassRequest, context: Context) -> pb.TaskVersion:
        """Remove a class with its examples."""
        return await self._change(
            "RemoveClass", request, context, lambda task, v: task.remove_class(request.label, if_version=v)
        )

    async def UndoChanges(self, request: pb.UndoChangesRequest, context: Context) -> pb.TaskVersion:
        """Take back the last changes."""
        return await self._change(
            "UndoChanges", request, context, lambda task, v: task.undo(request.n or 1, if_version=v)
        )

    async def ListChanges(self, request: pb.ListChangesRequest, context: Context) -> pb.ListChangesResponse:
        """List the last changes."""
        async with self._calls.accept(context, "ListChanges"):
            task = await self._asked.task(request.task)
            return await self._tasks.on_disk(lists.changes, task, request.n, self._limits.max_message_bytes)

    async def ListExamples(self, request: pb.ListExamplesRequest, context: Context) -> pb.ListExamplesResponse:
        """List examples, a page at a time."""
        async with self._calls.accept(context, "ListExamples"):
            task = await self._asked.task(request.task)
            return await self._tasks.on_disk(lists.examples, task, request, self._limits.max_message_bytes)

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        """Tell the labels of items or embeddings."""
        async with self._calls.accept(context, "Classify") as call:
            options = answers.to_options(request.options)
            task = await self._asked.task(request.task)
            facts = task.facts
            n = self._asked.count(len(request.items), request.embeddings, facts.dim)
            call.charge(n)
            if request.items:
                contents = [item.data for item in request.items]
                response = await self._asked.classify(options, task, contents, call)
            else:
                X = self._given(request, task) if n else np.zeros((0, facts.dim), np.float32)
                response = await self._asked.answer(options, task, answers.as_outcomes(X), StageTimes(), call)
            self._calls.sight.classified(call, Counter(map(answers.kind_of, response.classifications)))
            return response

    async def ClassifyStream(self, requests: AsyncIterator[pb.ClassifyStreamRequest], context: Context) -> None:
        """Tell the labels of a stream of items, each as it is done."""
        async with self._calls.accept(context, "ClassifyStream") as call:
            told = Classifications(self._asked, call)
            await Stream(requests, context, call, self._served, self._limits, self._calls, told).run()

    async def ClassifyWithExamples(
        self, request: pb.ClassifyWithExamplesRequest, context: Context
    ) -> pb.ClassifyResponse:
        """Tell the labels of items by examples that come in the same call, and keep nothing."""
        async with self._calls.accept(context, "ClassifyWithExamples") as call:
            response = await Once(request, call, self._asked).classify(self._served)
            self._calls.sight.classified(call, Counter(map(answers.kind_of, response.classifications)))
            return response

    async def Suggest(self, requests: AsyncIterator[pb.SuggestRequest], context: Context) -> pb.SuggestResponse:
        """Tell which items of a pool to label next."""
        async with self._calls.accept(context, "Suggest") as call:
            first = await next_message(requests)
            if first is None:
                raise RequestInvalid("no message came; send the task, and the items to choose from")
            task = await self._asked.task(first.task)
            _check_n(first.n, suggesting.MAX_SUGGESTIONS)
            async with suggesting.Pool(task, call, self._asked) as pool:
                await pool.fill(first, requests)
                return await pool.suggest(first.n or suggesting.SUGGESTIONS)

    async def Audit(self, request: pb.AuditRequest, context: Context) -> pb.AuditResponse:
        """Tell what in a task deserves a look."""
        async with self._calls.accept(context, "Audit"):
            _check_n(request.n, auditing.MAX_FINDINGS)
            task = await self._asked.task(request.task)
            response = await self._tasks.apart(auditing.audited, task, request.n or auditing.FINDINGS)
            return lists.bounded(response, self._limits.max_message_bytes, "ask for fewer findings")

    async def ExportTask(self, request: pb.ExportTaskRequest, context: Context) -> None:
        """Give a task as one file, in parts."""
        async with self._calls.accept(context, "ExportTask"):
            await task_files.send(self._tasks, await self._asked.task(request.task), context)

    async def ImportTask(self, requests: AsyncIterator[pb.ImportTaskRequest], context: Context) -> pb.Task:
        """Make a task of a file that comes in parts."""
        async with self._calls.accept(context, "ImportTask"):
            task = await task_files.receive(self._tasks, requests, self._served)
            return await self._tasks.answering(self._described, task)

    def _given(self, sent: pb.NewExamples | pb.ClassifyRequest, task: "Task") -> NDArray[np.float32]:
        facts = task.facts
        return answers.given(sent.embeddings, sent.fingerprint, facts.fingerprint, facts.dim, f"task {facts.name!r}")

    async def _change(
        self, method: str, request: Change, context: Context, change: "Callable[[Task, int | None], int]"
    ) -> pb.TaskVersion:
        async with self._calls.accept(context, method):
            task = await self._asked.task(request.task)
            return pb.TaskVersion(version=await self._tasks.on_disk(change, task, teaching.if_version(request)))

    def _create(self, request: pb.CreateTaskRequest, extractor: Extractor) -> pb.Task:
        settings = taught.to_settings(request.settings)
        if settings.zero_shot:
            check_reads_names(extractor)
        task = self._tasks.store.create(
            request.name,
            backbone=extractor.spec.name,
            fingerprint=extractor.fingerprint,
            dim=extractor.dim,
            settings=settings,
            labels=request.labels,
            keep_items=request.keep_items,
        )
        return self._described(task)

    def _update(self, task: "Task", request: pb.UpdateTaskRequest) -> pb.Task:
        teaching.update(task, request)
        return self._described(task)

    def _described(self, task: "Task") -> pb.Task:
        return lists.bounded(taught.from_task(task), self._limits.max_message_bytes, "merge classes, or shorten labels")


def _check_n(n: int, most: int) -> None:
    if n > most:
        raise RequestInvalid(f"n is {n:,}, the limit is {most:,}; ask for fewer")
