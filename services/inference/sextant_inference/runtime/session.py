"""One loaded model version on onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from sextant_inference.domain.tensors import NUMPY, TensorSpec
from sextant_inference.runtime.tokenizer import Tokenizer
from sextant_shared.errors import InvalidInput

log = structlog.get_logger(__name__)
WARM_ROWS = (1, 8)


class Session:
    """A model that is ready to run; the first batch is as fast as the next, and its answer was looked at."""

    def __init__(self, directory: Path, threads: int) -> None:
        """Load, check and warm the model version in `directory`. Raises InvalidInput where it cannot be served."""
        about = json.loads((directory / "model.json").read_text())
        if about.get("format") != "onnx":
            raise InvalidInput(
                f"a model in the format {about.get('format')!r} cannot be served", field="model", accepted="onnx"
            )
        self.about: dict[str, Any] = about
        self.inputs = [TensorSpec.of(item) for item in about["inputs"]]
        self.outputs = [TensorSpec.of(item) for item in about["outputs"]]
        self._session = _load(directory / "model.onnx", threads)
        self._tokenizer = Tokenizer(directory, about["tokenizer"]) if "tokenizer" in about else None
        self._warm()

    def run(self, tensors: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs in the order of the description, for inputs that have been checked; safe from several threads."""
        if self._tokenizer is not None:
            tensors = {name: self._tokenizer(texts) for name, texts in tensors.items()}
        result: list[NDArray[Any]] = self._session.run([spec.name for spec in self.outputs], tensors)
        return result

    def _warm(self) -> None:
        for rows in WARM_ROWS:
            tensors: dict[str, NDArray[Any]] = {
                spec.name: np.full(
                    [rows if n == -1 else n for n in spec.shape],
                    "" if spec.datatype == "BYTES" else 0,
                    NUMPY[spec.datatype],
                )
                for spec in self.inputs
            }
            for spec, output in zip(self.outputs, self.run(tensors), strict=True):
                wanted = tuple(rows if n == -1 else n for n in spec.shape)
                if output.shape != wanted or not np.isfinite(output).all():
                    raise InvalidInput(f"the model answers {spec.name} with shape {output.shape}", field="model")


def _load(file: Path, threads: int) -> Any:
    # Only now: without a model the process is 31 MB smaller.
    import onnxruntime

    # From memory, without a path: so tensors that lie in another file (external data) are found nowhere.
    try:
        return onnxruntime.InferenceSession(file.read_bytes(), _options(threads), providers=["CPUExecutionProvider"])
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - the runtime's own, which have no class in common
        log.warning("session.refused", file=str(file), error=str(error)[:500])
        raise InvalidInput("model.onnx is no model that can be served", field="model") from None


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads must sleep: this machine has other work, and the idle stack must cost nothing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
