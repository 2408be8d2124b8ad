"""The specification of each job kind, as a user writes it in YAML, JSON or Python."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, field_validator, model_validator

from sextant_planner.configuration import ParallelConfig
from sextant_shared.contracts.annotations import Annotations
from sextant_shared.contracts.augmentation import Augmentation
from sextant_shared.contracts.base import Accepted, Name, Text
from sextant_shared.contracts.cleaning import (
    BOX_STEPS,
    IMAGE_STEPS,
    SERIES_STEPS,
    TABLE_STEPS,
    TEXT_STEPS,
    Deduplicate,
    Step,
)
from sextant_shared.contracts.limits import Limits
from sextant_shared.contracts.models import CodeModel, Model, Scalar, ZooModel
from sextant_shared.contracts.references import DataInput, EndpointInput, ModelInput, StepRef

Task = Literal[
    "image-classification", "defect-detection", "text-classification", "tabular", "forecasting", "anomaly-detection"
]
SERIES_TASKS = ("forecasting", "anomaly-detection")


class Retry(Accepted):
    """How often a job is tried again after an error that may pass."""

    max_attempts: int = Field(3, ge=1, le=20)
    backoff_s: float = Field(2.0, ge=0.0, le=3600.0)


class Resources(Accepted):
    """What a job needs to run: `ranks` training processes, each taking one slot of a trainer node."""

    ranks: int = Field(1, ge=1, le=4096)
    min_ranks: int | None = Field(None, ge=1, description="run with fewer where there are fewer, but not under this")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min_ranks is not None and self.min_ranks > self.ranks:
            raise ValueError(f"min_ranks must be at most ranks ({self.ranks})")
        return self


class JobSpec(Accepted):
    """What all kinds have in common."""

    name: Name | None = None
    priority: int = Field(0, ge=-100, le=100)
    retry: Retry = Retry()

    def references(self) -> dict[str, StepRef]:
        """The fields of this spec that take the output of another step."""
        return {f: v for f in type(self).model_fields if isinstance(v := getattr(self, f), StepRef)}


class ProbeSpec(JobSpec):
    """A job that does as it is told: for health checks, chaos tests and benchmarks."""

    kind: Literal["probe"] = "probe"
    sleep_s: float = Field(0.0, ge=0.0, le=3600.0)
    outcome: Literal["succeed", "fail", "fail-once", "crash", "crash-once"] = "succeed"
    returns: dict[Name, Scalar] = Field(default_factory=dict, max_length=64)


class Split(Accepted):
    """Shares of the rows held out; the rest is the training split."""

    val: float = Field(0.1, gt=0.0, lt=1.0)
    test: float = Field(0.2, gt=0.0, lt=1.0)
    column: Text | None = Field(None, description="a column that says train, val or test; the shares do not count then")
    group: Text | None = Field(None, description="a column whose equal values go together, such as a customer's number")
    time: Text | None = Field(None, description="a column of times: the first rows train, the last ones test")
    rows: list[Annotated[int, Field(ge=1, lt=2**40)]] | None = Field(
        None, min_length=3, max_length=3, description="rows of train, val and test in their order (series)"
    )

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> Self:
        if self.val + self.test >= 1.0:
            raise ValueError("val and test together must leave rows to train on (their sum must be under 1)")
        if self.column is not None and self.column == self.group:
            raise ValueError("column and group must be different columns")
        if self.time is not None and (self.column or self.group):
            raise ValueError("time goes with neither column nor group")
        return self


class Window(Accepted):
    """What a forecaster sees of a series, and how far it looks ahead, in rows."""

    input: int = Field(96, ge=1, le=65_536)
    horizon: int = Field(24, ge=1, le=4096)


PACKAGE_SET = re.compile(r"package://[a-z0-9_-]+/[a-z0-9_-]+")
"""How a set of a package is named; which there are, is known where data are prepared."""


class PrepareSpec(JobSpec):
    """Raw data -> a cleaned, typed, split, content-addressed dataset version."""

    kind: Literal["prepare"] = "prepare"
    source: Text = Field(description="package://sklearn/NAME or upload://ID[/PATH]")
    task: Task
    target: Text | None = Field(None, description="the column of labels (tables and text; 0 or 1 for anomalies)")
    text: Text | None = Field(None, description="the column that holds the text (text-classification)")
    columns: list[Text] | None = Field(
        None, min_length=1, max_length=4096, description="what is forecast; all columns of numbers (series)"
    )
    window: Window | None = Field(None, description="steps that are seen and forecast (series)")
    boxes: Annotations | None = Field(None, description="where images and their boxes lie (defect-detection)")
    clean: list[Step] = Field(default=[], max_length=64, description="cleaning steps, in order")
    split: Split = Split()
    seed: int = Field(0, ge=0, lt=2**31)
    max_bad_share: float = Field(0.01, ge=0.0, le=1.0, description="share of bad rows that fails the job")
    reuse: bool = Field(True, description="take over the pieces that earlier jobs have finished")
    register_as: Name | None = Field(None, description="the dataset's name; the job's name otherwise")

    @field_validator("source")
    @classmethod
    def _names_a_set_of_a_package(cls, source: str) -> str:
        if source.startswith("package://") and not PACKAGE_SET.fullmatch(source):
            raise ValueError(f"{source[:80]!r} names no set of a package; accepted: package://sklearn/NAME")
        return source

    @model_validator(mode="after")
    def _has_steps_of_its_own_modality(self) -> Self:
        by_task = {"tabular": TABLE_STEPS, "text-classification": TEXT_STEPS, "defect-detection": BOX_STEPS}
        by_task["image-classification"] = IMAGE_STEPS
        known = SERIES_STEPS if self.task in SERIES_TASKS else by_task[self.task]
        for step in self.clean:
            if step.do not in known:
                accepted = ", ".join(known) or "none"
                raise ValueError(f"clean: {step.do!r} is no step for the task {self.task}; accepted: {accepted}")
            exact = ("tabular", "defect-detection", *SERIES_TASKS)
            if isinstance(step, Deduplicate) and step.near is not None and self.task in exact:
                raise ValueError(f"clean: `near` is for texts and images with classes; {self.task} has exact ones")
        by_column = self.split.column or self.split.group or self.split.time
        if self.source.startswith("package://") and (self.clean or by_column):
            raise ValueError("clean, split.column, split.group and split.time are for uploads")
        if self.task == "image-classification" and by_column:
            raise ValueError("split.column, split.group and split.time are for tables and text")
        return self

    @model_validator(mode="after")
    def _has_boxes_where_they_are_learnt(self) -> Self:
        if (self.boxes is None) == (self.task == "defect-detection"):
            raise ValueError("boxes, which says where images and boxes lie, is for defect-detection, and needed there")
        if self.boxes is None:
            return self
        if self.target or self.text or self.split.time or self.source.startswith("package://"):
            raise ValueError("target, text, split.time and packages are not for defect-detection")
        for name in (self.split.group, self.split.column):
            if name is not None and name not in self.boxes.fields:
                accepted = ", ".join(self.boxes.fields)
                raise ValueError(f"split: {name[:80]!r} is no field of the path of images; accepted: {accepted}")
        return self

    @model_validator(mode="after")
    def _has_the_fields_of_its_task(self) -> Self:
        if self.task not in SERIES_TASKS:
            given = {"columns": self.columns, "window": self.window, "split.rows": self.split.rows}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(f"{name} is for the tasks {', '.join(SERIES_TASKS)}, not {self.task}")
            return self
        if self.split.time is None or self.window is None:
            raise ValueError(f"{self.task} needs split.time, the column of times, and window: {{input, horizon}}")
        if self.text or (self.target and self.task == "forecasting"):
            raise ValueError(f"target and text are not for {self.task}; columns names what is forecast")
        if self.task == "anomaly-detection" and self.target is None:
            raise ValueError("anomaly-detection needs target, the column that says by 1 which rows are anomalies")
        if self.target and self.target in (self.columns or []):
            raise ValueError("target must be none of columns")
        if self.columns and len(set(self.columns)) < len(self.columns):
            raise ValueError("columns names one twice")
        return self


ClassWeight = Annotated[float, Field(gt=0.0, le=1e6)]


class Distillation(Accepted):
    """How a teacher counts beside the data."""

    weight: float = Field(0.5, gt=0.0, le=1.0, description="of what the teacher says; the rest is the data's")
    temperature: float = Field(2.0, ge=0.1, le=100.0, description="what logits of both are divided by")


class TrainConfig(Accepted):
    """Hyper-parameters of a training run; a tune job searches over these and over the model's own settings."""

    epochs: int = Field(10, ge=1, le=10_000)
    batch_size: int = Field(64, ge=1, le=65_536, description="samples a step, over all ranks")
    learning_rate: float = Field(1e-3, gt=0.0, le=10.0)
    weight_decay: float = Field(0.0, ge=0.0, le=10.0)
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    class_weights: Literal["balanced"] | dict[Text, ClassWeight] | None = Field(
        None, description="what an error of each class counts: by name, 1 for the others, or balanced"
    )
    calibrate: bool = Field(False, description="divide logits by the temperature with the least loss on validation")
    out_of_scope: Text | None = Field(
        None, description="the class of rows that belong to none: not learnt, but told by a threshold of probability"
    )
    prototypes: int | None = Field(
        None, ge=1, le=100_000, description="rows of each class whose mean the head of a pretrained model begins with"
    )
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    precision: Literal["float32", "mixed"] = Field(
        "float32", description="mixed computes in bfloat16 where the device has instructions for it"
    )
    ema: float | None = Field(
        None, gt=0.0, lt=1.0, description="decay of a moving average of the weights, which is kept in their place"
    )
    augment: Augmentation | None = Field(None, description="for images")
    quantise: Literal["int8"] | None = Field(None, description="train for an export in eight bits")
    distil: Distillation | None = Field(None, description="how a teacher counts")
    clip_norm: float | None = Field(None, gt=0.0, le=1e6, description="largest norm of the gradients of a step")
    iou: float = Field(0.5, gt=0.0, lt=1.0, description="intersection over union of a box that is found (boxes)")
    level: float | None = Field(
        None, ge=0.0, le=1000.0, description="weight of the distance from the usual level (anomalies)"
    )
    patience: int | None = Field(None, ge=1, le=10_000, description="epochs without a better one that end the run")
    seed: int = Field(0, ge=0, lt=2**31)
    checkpoint_every_steps: int = Field(50, ge=1, le=1_000_000)
    model: dict[Name, Scalar] = Field(default_factory=dict, max_length=64, description="settings of the architecture")


CodeSource = Annotated[str, Field(pattern=r"^upload://[0-9a-f-]{36}$")]
"""An upload that holds the files of a user's own code: `sextant submit --code DIR` makes one."""


class TrainSpec(JobSpec):
    """A dataset version and a model -> a trained model version, on one or more ranks."""

    kind: Literal["train"] = "train"
    data: DataInput
    model: Model | None = Field(None, description="may come with config from a tune step instead")
    teacher: ModelInput | None = Field(None, description="a trained model to learn from beside the data")
    code: CodeSource | None = Field(None, description="where model.code is found")
    config: TrainConfig | StepRef = TrainConfig()
    resources: Resources = Resources()
    parallel: ParallelConfig | None = Field(None, description="let the planner choose; data-parallel ranks otherwise")
    register_as: Name | None = Field(None, description="the model's name; the job's name otherwise")

    @model_validator(mode="after")
    def _has_a_model(self) -> Self:
        if self.model is None and not isinstance(self.config, StepRef):
            raise ValueError("model is needed unless config comes from a tune step")
        if isinstance(self.model, CodeModel) != (self.code is not None):
            raise ValueError("code and model.code go together: the upload with the files, and what builds the model")
        if self.teacher is None and isinstance(self.config, TrainConfig) and self.config.distil is not None:
            raise ValueError("config.distil needs a teacher: {step: NAME} or {model: NAME}")
        return self

    @model_validator(mode="after")
    def _degrees_fit(self) -> Self:
        if self.parallel is None:
            return self
        if self.parallel.global_batch is not None:
            raise ValueError("parallel.global_batch is config.batch_size here")
        if not self.parallel.auto_tune:
            self.parallel.require_fit(self.resources.ranks)
            if self.resources.min_ranks not in (None, self.resources.ranks) and any(self.parallel.degrees):
                raise ValueError("resources.min_ranks goes with parallel.auto_tune, or without degrees")
        return self


class ScriptLimits(Limits):
    """How much a script may use; an administrator may have set tighter limits."""

    memory_mb: int = Field(8192, ge=256, lt=2**31, description="MiB")
    cpu_s: int = Field(24 * 3600, ge=1, lt=2**31, description="seconds of one core")
    disk_mb: int = Field(20 * 1024, ge=1, lt=2**31, description="outputs, temporary files and log, MiB")
    processes: int = Field(64, ge=1, lt=2**22)


class ScriptSpec(JobSpec):
    """A user's own script, run as it is -> the files that it leaves, as a model version."""

    kind: Literal["script"] = "script"
    code: CodeSource = Field(description="the upload that holds the script and what it imports")
    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,254}\.py$")] = "train.py"
    arguments: list[Text] = Field(default=[], max_length=256)
    config: dict[Name, Scalar] = Field(default_factory=dict, max_length=256, description="given to it as JSON")
    data: DataInput | None = None
    model: ModelInput | None = None
    limits: ScriptLimits = ScriptLimits()
    register_as: Name | None = Field(None, description="the name of what it leaves; the job's name otherwise")

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        if ".." in self.run.split("/"):
            raise ValueError("run must be a path inside of the code, without '..'")
        return self


class FloatRange(Accepted):
    """A real number between `low` and `high`."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be under high")
        if self.log and self.low <= 0:
            raise ValueError("low must be over 0 for a logarithmic range")
        return self


class IntRange(Accepted):
    """A whole number between `low` and `high`, both included."""

    type: Literal["int"]
    low: int
    high: int
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be under high")
        if self.log and self.low < 1:
            raise ValueError("low must be 1 or more for a logarithmic range")
        return self


class Choice(Accepted):
    """One of a list of values."""

    choices: list[Scalar] = Field(min_length=1, max_length=100)


SearchRange = IntRange | FloatRange | Choice


class TuneSpec(JobSpec):
    """A search for the hyper-parameters that make a metric best; each trial is a train job of its own."""

    kind: Literal["tune"] = "tune"
    data: DataInput
    model: ZooModel
    config: TrainConfig = TrainConfig()
    space: dict[Name, SearchRange] | None = Field(
        None, max_length=64, description="by TrainConfig field or model.SETTING; the zoo's own space otherwise"
    )
    trials: int = Field(8, ge=1, le=10_000)
    parallel: int = Field(1, ge=1, le=256)
    maximize: Name | None = None
    minimize: Name | None = None
    resources: Resources = Resources()
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _has_one_objective(self) -> Self:
        if (self.maximize is None) == (self.minimize is None):
            raise ValueError("give exactly one of maximize and minimize")
        return self

    @property
    def metric(self) -> str:
        """The metric that the search makes best."""
        return self.maximize or self.minimize or ""


class ExportSpec(JobSpec):
    """A trained model version -> one that any runtime can serve, checked against the original."""

    kind: Literal["export"] = "export"
    model: ModelInput
    format: Literal["onnx"] = "onnx"
    tolerance: float = Field(1e-4, gt=0.0, le=1.0, description="largest accepted difference of outputs")
    precision: Literal["float32", "int8"] = "float32"
    agreement: float = Field(0.95, ge=0.0, le=1.0, description="least share of rows that int8 calls as float32 does")
    register_as: Name | None = None


class DeploySpec(JobSpec):
    """An exported model version -> a live endpoint."""

    kind: Literal["deploy"] = "deploy"
    model: ModelInput
    endpoint: Name
    max_batch_size: int = Field(32, ge=1, le=4096)
    max_wait_ms: float = Field(0.0, ge=0.0, le=1000.0, description="how long a request may wait for company")


class EvaluateSpec(JobSpec):
    """Metrics of a live endpoint on a split of a dataset, with requirements that fail the job."""

    kind: Literal["evaluate"] = "evaluate"
    endpoint: EndpointInput
    data: DataInput
    split: Literal["train", "val", "test"] = "test"
    require: dict[Name, Annotated[str, Field(pattern=r"^(>=|<=|>|<)\s*-?[0-9]+(\.[0-9]+)?$")]] = Field(
        default_factory=dict, max_length=16, description='for example {accuracy: ">= 0.97"}'
    )
    iou: float = Field(0.5, gt=0.0, lt=1.0, description="intersection over union of a box that is found (boxes)")


StepSpec = Annotated[
    ProbeSpec | PrepareSpec | TrainSpec | ScriptSpec | TuneSpec | ExportSpec | DeploySpec | EvaluateSpec,
    Field(discriminator="kind"),
]


class PipelineSpec(JobSpec):
    """A directed acyclic graph of jobs; what one step makes feeds the next."""

    kind: Literal["pipeline"] = "pipeline"
    steps: dict[Name, StepSpec] = Field(min_length=1, max_length=256)
    after: dict[Name, list[Name]] = Field(default_factory=dict, description="order beyond what the inputs imply")
    on_failure: Literal["fail", "skip"] = Field("fail", description="what becomes of the dependents of a failed step")

    @model_validator(mode="after")
    def _is_acyclic_and_closed(self) -> Self:
        graph = self._needs()
        for step, needs in graph.items():
            unknown = sorted(needs - set(self.steps))
            if unknown:
                raise ValueError(
                    f"step {step!r} takes its input from {unknown[0]!r}; the steps are {sorted(self.steps)}"
                )
        for step in self.after:
            if step not in self.steps:
                raise ValueError(f"after names {step!r}; the steps are {sorted(self.steps)}")
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            raise ValueError("the steps form a cycle: " + " -> ".join(error.args[1])) from None
        return self

    def dependencies(self) -> dict[str, set[str]]:
        """For each step, the steps that must succeed before it may start; a step stands behind all that it needs."""
        needs = self._needs()
        ready = TopologicalSorter({name: sorted(needs[name]) for name in sorted(needs)})
        return {name: needs[name] for name in ready.static_order()}

    def _needs(self) -> dict[str, set[str]]:
        return {
            name: {ref.step for ref in spec.references().values()} | set(self.after.get(name, []))
            for name, spec in self.steps.items()
        }


AnySpec = Annotated[
    ProbeSpec | PrepareSpec | TrainSpec | ScriptSpec | TuneSpec | ExportSpec | DeploySpec | EvaluateSpec | PipelineSpec,
    Field(discriminator="kind"),
]

SPEC: TypeAdapter[Any] = TypeAdapter(AnySpec)
BY_KIND: dict[str, type[JobSpec]] = {
    "probe": ProbeSpec,
    "prepare": PrepareSpec,
    "train": TrainSpec,
    "script": ScriptSpec,
    "tune": TuneSpec,
    "export": ExportSpec,
    "deploy": DeploySpec,
    "evaluate": EvaluateSpec,
    "pipeline": PipelineSpec,
}
KINDS = tuple(BY_KIND)
CELERY_KINDS = ("probe", "prepare", "export", "evaluate")
CONTROLLER_KINDS = ("pipeline", "tune")
