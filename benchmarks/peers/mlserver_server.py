"""MLServer: a ModelInfer of JPEGs as BYTES -> their embeddings.

Tuned: requests run in threads beside the event loop, one a core; raw contents both ways; the rows leave as one element
of BYTES, which spares MLServer the way over a list of floats; no metrics, no debug log. Its own parallel workers are
processes that requests are pickled to; threads are faster here, as decode and session release the interpreter's lock.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from arguments import arguments
from embed import Embedder
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Embeddings(MLModel):
    """Every item a task for the threads, so that one request of many items uses every core too."""

    async def load(self) -> bool:
        """Open the session and the threads."""
        extra = self.settings.parameters.extra
        self._embedder = Embedder(Path(extra["folder"]))
        self._threads = ThreadPoolExecutor(extra["workers"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Embed the items of one request."""
        loop = asyncio.get_running_loop()
        jpegs = payload.inputs[0].data.root
        rows = await asyncio.gather(*(loop.run_in_executor(self._threads, self._embedder.row, one) for one in jpegs))
        output = ResponseOutput(name="embeddings", datatype="BYTES", shape=[1], data=[np.stack(rows).tobytes()])
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main() -> None:
    """Serve until killed."""
    given = arguments()
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        grpc_port=given.port,
        http_port=given.port + 1,
        metrics_endpoint=None,
        parallel_workers=0,
        grpc_max_message_length=1 << 26,
    )
    extra = {"folder": str(given.folder), "workers": given.workers}
    model = ModelSettings(name="backbone", implementation=Embeddings, parameters=ModelParameters(extra=extra))
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main())
