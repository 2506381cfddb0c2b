"""Self-training in the node: set by parameters, fed with estimates, reported in diagnostics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper

from crisp_ros.adaptation.buffer import samples_path
from crisp_ros.adaptation.reference_set import load_reference, reference_path
from crisp_ros.adaptation.self_trainer import SelfTrainingSettings, Status
from crisp_ros.adaptation.self_training_worker import SelfTrainingWorker, WorkerSettings
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.pipeline import Estimator, Trace

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class SelfTrainingError(RuntimeError):
    """Request to self-training that cannot be met; the text gives the cause."""


class SelfTraining:
    """Background worker in the lifecycle of the node; does nothing if it is switched off."""

    def __init__(self) -> None:
        self._worker: SelfTrainingWorker | None = None
        self._note = ""

    def configure(self, estimator: Estimator, parameters: Parameters, checkpoint: Path) -> None:
        """Prepare the worker, if the parameters enable it.

        Args:
            checkpoint: file of the estimator's model. The reference set is next to it, unless the
                parameters name another one; samples of an earlier run are next to it, too.

        Raises:
            ReferenceSetError: there is no reference set for this model.
            ValueError: the model has no shape library, or normalised shapes.
        """
        self.release()
        if not parameters.self_training:
            return
        given = parameters.self_training_reference
        path = Path(given) if given else reference_path(checkpoint)
        reference = load_reference(path, estimator.model)
        settings = WorkerSettings(
            SelfTrainingSettings(
                buffer=parameters.self_training_buffer,
                steps_per_candidate=parameters.self_training_steps,
            ),
            parameters.self_training_max_duty,
            parameters.self_training_threads,
        )
        self._worker = SelfTrainingWorker(estimator, reference, settings)
        if samples_path(checkpoint).is_file():
            self._note = self._worker.restore_samples(samples_path(checkpoint))

    def start(self) -> None:
        """Start to train."""
        if self._worker is not None:
            self._worker.start()

    def stop(self) -> None:
        """Pause; the weights stay."""
        if self._worker is not None:
            self._worker.stop()

    def release(self) -> None:
        """End the worker and drop unsaved weights."""
        self.stop()
        self._worker, self._note = None, ""

    def estimating(self) -> contextlib.AbstractContextManager[None]:
        """While the context is open, the worker starts no step."""
        return contextlib.nullcontext() if self._worker is None else self._worker.estimating()

    def offer(self, trace: Trace, ids: Mapping[int, str]) -> None:
        """Offer a frame to the worker; returns immediately.

        Args:
            trace: of the frame.
            ids: of the objects, by label.
        """
        if self._worker is not None:
            self._worker.offer(trace, ids)

    def save_checkpoint(self, path_of: Callable[[str], Path]) -> tuple[Path, str]:
        """Write the current weights to a model file, with the samples next to it.

        Args:
            path_of: returns the file for a model's version.

        Returns:
            The file and the model's version.

        Raises:
            SelfTrainingError: self-training is off.
            OSError: a file cannot be written.
        """
        return self._enabled_worker().save(path_of)

    def rollback(self) -> str:
        """Restore the weights before the last swap; return the model's version.

        Raises:
            SelfTrainingError: self-training is off, or there was no swap.
        """
        done, version = self._enabled_worker().roll_back("requested by ~/rollback")
        if not done:
            raise SelfTrainingError(f"there is no swap to roll back: model {version}")
        return version

    def _enabled_worker(self) -> SelfTrainingWorker:
        if self._worker is None:
            raise SelfTrainingError("self-training is off: set the parameter self_training")
        return self._worker

    def report(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        """Fill in the diagnostic status."""
        if self._worker is None:
            stat.summary(OK, "off")
            return stat
        status = self._worker.status
        if self._worker.error:
            stat.summary(ERROR, f"ended: {self._worker.error}")
        elif self._note:
            stat.summary(WARN, f"samples of the last run not used: {self._note}")
        else:
            stat.summary(OK, status.event or f"{status.buffered} certified samples, no swap yet")
        stat.add("pseudo-labels", self._worker.solver)
        for key, value in _values(status).items():
            stat.add(key, value)
        return stat


def _values(status: Status) -> dict[str, str]:
    values = {
        "model version": status.version,
        "steps": str(status.steps),
        "swaps": str(status.swaps),
        "swaps halfway to a candidate": str(status.halved),
        "candidates refused": str(status.refused),
        "rollbacks": str(status.rollbacks),
        "limits broken": ", ".join(f"{name} {n}" for name, n in status.broken.items()),
        "certified samples": str(status.buffered),
        "held-back samples": str(status.held_back),
        "memory of samples (MB)": f"{status.nbytes / 1e6:.1f}",
        "certified share": f"{status.share:.2f}",
    }
    if status.losses is not None:
        values["PNC error, rms (mm)"] = f"{1e3 * status.losses.pnc_m2**0.5:.1f}"
        values["shape code error"] = f"{status.losses.code:.3f}"
    if status.verdict is not None:
        values["reference pose accuracy"] = f"{status.verdict.accuracy.pose:.3f}"
        values["reference shape accuracy"] = f"{status.verdict.accuracy.shape:.3f}"
        values["score of held-back samples"] = f"{status.verdict.live:.3f}"
    return values
