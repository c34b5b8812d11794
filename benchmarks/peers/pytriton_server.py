"""pytriton: a ModelInfer of JPEGs as BYTES -> their embeddings, by Triton Inference Server and Python callables.

Tuned: an instance of the callable a core, each with a session of one thread; batching on, without delay, so that
Triton hands over several requests in one trip to Python; images are computed one by one all the same.
"""

import numpy as np
from arguments import arguments
from embed import Embedder
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

MAX_BATCH_SIZE = 32


def main() -> None:
    """Serve until killed."""
    given = arguments()
    embedder = Embedder(given.folder)

    @batch
    def embed(images: np.ndarray) -> dict[str, np.ndarray]:
        return {"embeddings": embedder.rows(images[:, 0])}

    config = TritonConfig(grpc_port=given.port, http_port=given.port + 1, metrics_port=given.port + 2, log_verbose=0)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="backbone",
            infer_func=[embed] * given.workers,
            inputs=[Tensor(name="images", dtype=np.bytes_, shape=(1,))],
            outputs=[Tensor(name="embeddings", dtype=np.float32, shape=(embedder.dim,))],
            config=ModelConfig(max_batch_size=MAX_BATCH_SIZE, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()


if __name__ == "__main__":
    main()
