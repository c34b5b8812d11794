"""`ClassifyStream`: a stream's items -> their classifications, each message by the task as it is then."""

from collections import Counter
from collections.abc import Mapping

from extractor.errors import BackboneChanged, RequestInvalid
from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from extractor.stages import StageTimes
from headwater.service.answers import Options, kind_of, to_options
from headwater.service.calls import Call
from headwater.service.classifying import Classifying
from headwater.service.served import shown
from headwater.v1 import fewshot_pb2 as pb


class Classifications:
    """Answers a stream's items with what a task tells of them.

    Parameters
    ----------
    asked : Classifying
    call : Call
    """

    def __init__(self, asked: Classifying, call: Call) -> None:
        self._asked = asked
        self._call = call
        self._task = ""  # as the first message has both
        self._sent: pb.ClassifyOptions | None = None
        self._options = Options(1, 0, with_items=False, false_alarm_rate=None)

    async def backbone_of(self, message: pb.ClassifyStreamRequest) -> str:
        """Return the backbone of the task that the first message names."""
        self._options = to_options(message.options)
        self._task, self._sent = message.task, message.options
        facts = (await self._asked.task(message.task)).facts
        with self._asked.extractor(facts):  # it is there, and the one that it was
            return facts.backbone

    def check(self, message: pb.ClassifyStreamRequest, extractor: Extractor) -> None:
        """Raise RequestInvalid where a message names another task or other options."""
        if message.task not in ("", self._task):
            raise RequestInvalid(
                f"message names task {shown(message.task)}, the stream's first one {self._task!r}; open another stream"
            )
        if message.HasField("options") and message.options != self._sent:
            raise RequestInvalid("message has other options than the stream's first one; open another stream")

    async def answer(
        self, some: Mapping[int, Outcome], times: StageTimes, extractor: Extractor
    ) -> pb.ClassifyStreamResponse:
        """Return the message that tells what the task, as it is now, says of items."""
        task = await self._asked.task(self._task)
        if task.facts.fingerprint != extractor.fingerprint:
            raise BackboneChanged(f"task {self._task!r} is another one now, of another backbone; open another stream")
        outcomes = list(some.values())
        self._asked.sight.embedded(self._call, extractor.spec.name, outcomes, times)
        told = await self._asked.answer(self._options, task, outcomes, times, self._call)
        self._asked.sight.classified(self._call, Counter(map(kind_of, told.classifications)))
        return pb.ClassifyStreamResponse(
            ids=some, classifications=told.classifications, answer=told.answer, times=told.times
        )
