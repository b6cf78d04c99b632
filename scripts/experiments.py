"""What makes each committed result: the commands, what they need, and about how long they take.

Commands run in the repository's root. ``{out}`` is the JSON that is made, ``{work}`` a folder of
the experiment's own, ``{photos}`` and ``{classifier}`` what `scripts/reproduce.py` was given, and
``{held_out}`` and ``{others}`` every fourth of these photos, in the order of their names (the
fourth, the eighth, ...), and the rest: trials judge the same ones with ``--first-fold 3``.
"""

from dataclasses import dataclass
from pathlib import Path

LITE2 = "timm:tf_efficientnet_lite2"
_TRIALS = "python scripts/training_trials.py {photos} --work {work} --json {out}"
_PRECISION = "python scripts/benchmark_precision.py --rounds 15 --seconds 1.5 --json {out}"
_CLASSES = "python scripts/benchmark_classes.py --json {out}"
_HELD_OUT = "--first-fold 3"
_COUNTS = "--mask-counts 8,32"
_BOTH = "--class-names imagenet --variants efficientnet_lite0@224,self --judged 1"
_OWN_TRIALS = f"{_TRIALS} --backbone {{classifier}} {_BOTH} --rivals grad-cam"


@dataclass(frozen=True)
class Experiment:
    """One committed JSON.

    Attributes:
        result: its name in results/, without suffix.
        commands: make it, in this order.
        minutes: on two cores, to plan by.
        needs: ``photos`` (hundreds of ImageNet's kind), ``classifier`` (an ImageNet ResNet-50 of
            yours), ``gpu``.
        figures: paths into the JSON that text outside tables cites.
    """

    result: str
    commands: tuple[str, ...]
    minutes: int
    needs: frozenset[str] = frozenset()
    figures: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Where the committed one is."""
        return Path("results") / f"{self.result}.json"


def _make(target: str, variable: str) -> str:
    return f"make {target} {variable}={{out}}"


def _evaluation(model: str, options: str) -> str:
    return (
        f"ptame evaluate {model} --images {{held_out}} --steps 10 --no-gallery {options} "
        "-o {work}/evaluation --resume"
    )


_COPY = "cp {work}/evaluation/results.json {out}"
_PHOTOS, _OWN = frozenset({"photos"}), frozenset({"photos", "classifier"})
_QUANTIZE = "ptame quantize {work}/fp32 {others} --allow-drift"
_PAPER = "--preset paper --loss resnet50 --epochs 60 --precision bf16 --allow-no-gain -o {work}/e"

EXPERIMENTS = (
    Experiment("bench-cpu", ("python scripts/benchmark.py --json {out}",), 40),
    Experiment("bench-classes-cpu", (_CLASSES,), 6),
    Experiment(
        "bench-classes-resnet50-cpu",
        (f"{_CLASSES} --backbone {{classifier}} --class-names imagenet",),
        10,
        _OWN,
    ),
    Experiment(
        "bench-precision-cpu",
        (f"{_PRECISION} --backbone {LITE2} --backbone {{classifier}} --photos {{photos}}",),
        60,
        _OWN,
    ),
    Experiment(
        "bench-training-cpu",
        (_make("bench-train", "BENCH_TRAINING_JSON"),),
        5,
        figures=("times_faster", "memory_ratio"),
    ),
    Experiment("bench-cpp-cpu", (_make("bench-cpp", "BENCH_CPP_JSON"),), 5),
    Experiment("bench-serving-cpu", (_make("bench-serving", "BENCH_SERVING_JSON"),), 15),
    Experiment("bench-archive-cpu", (_make("bench-archive", "BENCH_ARCHIVE_JSON"),), 5),
    Experiment(
        "survey-timm",
        ("make survey SURVEY_JSON={out} SURVEY_TABLE={work}/survey.md",),
        60,
        figures=("passed",),
    ),
    Experiment(
        "soak-cpu",
        (_make("soak", "SOAK_JSON"),),
        30,
        figures=("serve.early_mb", "serve.late_mb", "explain.early_mb", "explain.late_mb"),
    ),
    Experiment(
        "evaluation-lite2-cpu",
        (
            f"ptame export --backbone {LITE2} -o {{work}}/fp32",
            f"{_QUANTIZE} --precision fp16 -o {{work}}/fp16",
            f"{_QUANTIZE} --precision int8 --target cpu -o {{work}}/int8-cpu",
            f"{_QUANTIZE} --precision int8 --target tensorrt -o {{work}}/int8-tensorrt",
            _evaluation(
                "--model {work}/fp32 --model {work}/fp16 --model {work}/int8-cpu "
                f"--model {{work}}/int8-tensorrt --backbone {LITE2}",
                "--rise-curve 3",
            ),
            _COPY,
        ),
        240,
        _PHOTOS,
    ),
    Experiment(
        "evaluation-resnet50-cpu",
        (
            "ptame export --backbone {classifier} --class-names imagenet -o {work}/fp32",
            f"{_QUANTIZE} --precision int8 --target cpu -o {{work}}/int8-cpu",
            _evaluation("--model {work}/fp32 --model {work}/int8-cpu --backbone {classifier}", ""),
            _COPY,
        ),
        300,
        _OWN,
    ),
    Experiment(
        "rise-curve-resnet50-cpu",
        (
            "ptame export --backbone {classifier} --class-names imagenet -o {work}/fp32",
            _evaluation(
                "--model {work}/fp32 --backbone {classifier}",
                "--limit 6 --methods rise --rise-masks 1000 --rise-curve 3 --sanity-photos 1 "
                "--measures drop-matched,insertion,deletion",
            ),
            _COPY,
        ),
        120,
        _OWN,
    ),
    Experiment(
        "compare-openvino-lite2-cpu",
        ("make compare-openvino TRAIN={others} PHOTOS={held_out} COMPARE_JSON={out}",),
        60,
        _PHOTOS,
    ),
    Experiment(
        "own-classifier-cpu",
        ("python scripts/own_classifier.py {work}/own --json {out}",),
        40,
        figures=("classifier.accuracy",),
    ),
    Experiment(
        "training-trials-lite2-cpu",
        (f"{_TRIALS} --backbone {LITE2} --variants efficientnet_lite0@224/plain",),
        90,
        _PHOTOS,
    ),
    Experiment(
        "training-trials-superpixels-lite2-cpu",
        (f"{_TRIALS} --backbone {LITE2} {_BOTH} {_HELD_OUT} {_COUNTS} --rivals grad-cam",),
        60,
        _PHOTOS,
    ),
    Experiment(
        "training-trials-superpixels-lite2-seed1-cpu",
        (f"{_TRIALS} --backbone {LITE2} {_BOTH} {_HELD_OUT} --rivals grad-cam,rise --seed 1",),
        240,
        _PHOTOS,
    ),
    Experiment(
        "training-trials-superpixels-lite2-seed2-cpu",
        (f"{_TRIALS} --backbone {LITE2} {_BOTH} {_HELD_OUT} --rivals grad-cam --seed 2",),
        50,
        _PHOTOS,
    ),
    *(
        Experiment(
            f"training-trials-superpixels-resnet50{name}-cpu",
            (f"{_OWN_TRIALS} {fold} --seed {seed}",),
            70,
            _OWN,
        )
        for seed, name, fold in ((0, "", _HELD_OUT), (1, "-seed1", "--first-fold 0"))
    ),
    *(
        Experiment(
            f"training-paper-{name}-h100",
            (
                f"ptame train {{photos}} --backbone {backbone} {_PAPER}",
                "cp {work}/e/explainer.json {out}",
            ),
            30,
            frozenset({"gpu", *needs}),
            figures=("training.gain.better.mean",),
        )
        for name, backbone, needs in (
            ("lite2", LITE2, _PHOTOS),
            ("resnet50", "{classifier}", _OWN),
        )
    ),
)
