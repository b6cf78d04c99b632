"""Evaluations as `ptame evaluate` would record them: a usual one, a bare one, a hostile one.

The numbers are made up to look plausible; they say nothing about any method.
"""

from bench.evaluation.results import (
    CascadeStep,
    ContrastRecord,
    Cost,
    Evaluation,
    EvaluationSettings,
    GalleryEntry,
    MapTime,
    MeasureRecord,
    MethodRecord,
    RiseCurve,
    RisePoint,
    SanityRecord,
    Subject,
    Verdict,
)  # fmt: skip
from bench.results import Device
from ptame_deploy.bootstrap import Interval
from ptame_deploy.provenance import Provenance

HOSTILE = "<script>alert(1)</script> | \"a\" 'b' `c` *d* & \u202eevil\x00\n=1+1 http://x.example/"
REFERENCE = "p-tame"
PHOTOS = 200
_ROAD, _RISE = "Rong et al., ROAD, ICML 2022", "Petsiuk et al., RISE, BMVC 2018, section 3.3"
_AD = "Chattopadhay et al., Grad-CAM++, WACV 2018, section 4.1"
# Each as `method` takes it; goodness is in [0, 1].
_METHODS = (
    (REFERENCE, "P-TAME", "p-tame", 0.80, 4.3, 1, 0, 200),
    ("p-tame-int8-cpu", "P-TAME INT8, cpu form", "p-tame", 0.79, 2.1, 1, 0, 200),
    ("p-tame-pytorch", "P-TAME in PyTorch", "p-tame", 0.80, 9.0, 1, 0, 200),
    ("grad-cam", "Grad-CAM", "cam", 0.74, 9.8, 1, 1, 200),
    ("grad-cam++", "Grad-CAM++", "cam", 0.72, 10.1, 1, 1, 200),
    ("score-cam", "Score-CAM", "cam", 0.76, 1900.0, 513, 0, 50),
    ("layer-cam", "LayerCAM", "cam", 0.735, 9.9, 1, 1, 200),
    ("integrated-gradients", "Integrated Gradients", "gradient", 0.55, 420.0, 50, 50, 200),
    ("smooth-grad", "SmoothGrad", "gradient", 0.52, 210.0, 25, 25, 200),
    ("rise", "RISE", "perturbation", 0.88, 16400.0, 4000, 0, 50),
    ("lime", "LIME", "perturbation", 0.66, 4300.0, 1000, 0, 50),
    ("gaussian", "Centred Gaussian", "floor", 0.60, 0.02, 0, 0, 200),
    ("random", "Random map", "floor", 0.20, 0.03, 0, 0, 200),
)


def interval(mean, half=1.0, photos=PHOTOS):
    return Interval(mean=mean, low=mean - half, high=mean + half, photos=photos)


def measures():
    def column(name, label, better, moves, high, source):
        settings = {"steps": 20.0} if source == _RISE else {"percent": "100,50,15"}
        return MeasureRecord(
            name=name, label=label, better=better, contrast_moves=moves, low=-high if name == "road"
            else 0.0, high=high, source=source, settings=settings,
        )  # fmt: skip

    ranks = [
        column("insertion", "Insertion", "higher", False, 100.0, _RISE),
        column("deletion", "Deletion", "lower", False, 100.0, _RISE),
        column("road", "ROAD", "higher", False, 100.0, _ROAD),
    ]
    drops = [
        column(f"{short}{percent}_{form}", f"{short.upper()} {percent} % ({form})", better,
               form == "published", 100.0, _AD)
        for form in ("matched", "published")
        for percent in (100, 50, 15)
        for short, better in (("ad", "lower"), ("ic", "higher"))
    ]  # fmt: skip
    return [*ranks, *drops]


def value(measure, goodness):
    """What a method of this goodness gets on a column."""
    share = goodness if measure.better == "higher" else 1 - goodness
    if measure.name.startswith("ic"):
        share *= 0.5
    return measure.low + (measure.high - measure.low) * share


def cascade(layers, *, fixed=False):
    return [
        CascadeStep(layers=n, of=layers, deepest=f"layer{n}",
                    similarity=interval(1.0, 0.0) if fixed else interval(1 - n / 9, 0.05))
        for n in (1, 2, 4, layers)
    ]  # fmt: skip


def method(name, label, family, goodness, ms, forward, backward, photos):
    values, reference, gaussian = {}, {}, {}
    for measure in measures():
        half = 0.019 * (measure.high - measure.low) * (PHOTOS / photos) ** 0.5
        mine = value(measure, goodness)
        values[measure.name] = interval(mine, half, photos)
        for target, other in ((reference, 0.80), (gaussian, 0.60)):
            target[measure.name] = interval(mine - value(measure, other), half, photos)
    # Against the trend of their other columns: who loses where it wins elsewhere.
    for rival, column, mine in (("grad-cam", "deletion", 17.0), ("p-tame-int8-cpu", "road", 50.0)):
        if name == rival:
            measure = next(each for each in measures() if each.name == column)
            values[column] = interval(mine, 2.0)
            reference[column] = interval(mine - value(measure, 0.80))
            gaussian[column] = interval(mine - value(measure, 0.60))
    reference = {} if name == REFERENCE else reference
    gaussian = {} if name == "gaussian" else gaussian
    steps = [k / 20 for k in range(21)]
    floor = family == "floor"
    source = name == "p-tame-pytorch"
    graph = family == "p-tame" and not source
    checks = SanityRecord(
        other_class=interval(0.4, 0.05, 50), noise=interval(0.97, 0.01, 50),
        cascade=[] if graph else cascade(8, fixed=source),
        own_cascade=cascade(6) if source else [],
        reasons={"cascade": "the graph's weights are fixed"} if graph else {},
    )  # fmt: skip
    if forward + backward > 400:
        why = "takes too many passes"
        checks = SanityRecord(reasons={"other_class": why, "noise": why, "cascade": why})
    return MethodRecord(
        name=name, label=label, family=family, status="measured",
        reason="many passes a photo: on the first 50 photos only" if photos < PHOTOS else None,
        runtime=None if floor else "onnxruntime, CPU" if family == "p-tame" else "PyTorch, CPU",
        precision=None if floor else "int8" if "int8" in name else "fp32",
        settings={"masks": 4000, "probability": 0.5} if name == "rise" else {},
        cautions=["drifts from the FP32 graph"] if "int8" in name else [],
        cost=Cost(forward=forward, backward=backward),
        time=MapTime(median_ms=ms, p25_ms=ms, p75_ms=ms, batch=1, runs=1) if photos < PHOTOS
        else MapTime(median_ms=ms, p25_ms=0.97 * ms, p75_ms=1.05 * ms, batch=8, runs=7),
        photos=photos, other_class=2 if "int8" in name else 0, values=values,
        against_reference=reference, against_gaussian=gaussian,
        curves={
            "insertion": [0.02 + 0.9 * x ** (2 - 1.7 * goodness) for x in steps],
            "deletion": [0.02 + 0.9 * (1 - x) ** (1 + 6 * goodness) for x in steps],
        },
        sanity=None if floor else checks,
    )  # fmt: skip


def evaluation(**changes):
    """A usual one."""
    columns = measures()
    names = [each.name for each in columns if not each.contrast_moves]
    verdicts = [
        Verdict(column=name, winner=None, best=REFERENCE, undecided=["p-tame-int8-cpu"])
        for name in names
    ]
    verdicts[1] = Verdict(column="deletion", winner="grad-cam", best="grad-cam")
    verdicts[2] = Verdict(column="road", winner=REFERENCE, best=REFERENCE)
    power = [
        ContrastRecord(exponent=exponent, values={
            "ad100_published": interval(20 * exponent**0.8),
            "ic100_published": interval(18 / exponent),
            "ad100_matched": interval(24.0), "insertion": interval(80.0, 2.0),
        })
        for exponent in (0.5, 1.0, 2.0, 4.0)
    ]  # fmt: skip
    rise = RiseCurve(
        photos=50, seeds=(0, 1), reference={"insertion": interval(79.0, 2.0, 50)},
        points=[
            RisePoint(masks=masks, correlation=interval(share, 0.02, 50), values={
                "insertion": interval(35 + 55 * share, 3.0, 50)})
            for masks, share in ((100, 0.35), (500, 0.62), (1000, 0.78), (2000, 0.88), (4000, 0.94))
        ],
    )  # fmt: skip
    fields = {
        "provenance": Provenance(
            created="2025-11-03T10:00:00+00:00", command="ptame evaluate model photos", seed=0,
            versions={"python": "3.12.1", "torch": "2.9.0", "onnxruntime": "1.23.0"},
        ),
        "packages": {"grad-cam": "1.5.5", "captum": "0.8.0"},
        "device": Device(cpu="A CPU", cores=8, system="Linux 6.1", gpu=None),
        "subject": Subject(
            classifier="resnet50.a1_in1k", classifier_sha256="ab" * 32, classes=1000,
            input_size=(224, 224), auxiliary="tf_efficientnet_lite0", explainer_state="trained",
            graph_sha256="cd" * 32, cautions=[],
        ),
        "judge": "resnet50.a1_in1k, fp32, onnxruntime on the CPU",
        "judge_sha256": "ef" * 32, "photos": PHOTOS, "photos_sha256": "01" * 32,
        "values_sha256": "23" * 32,
        "skipped": ["broken.jpg: truncated"],
        "settings": EvaluationSettings(
            seed=0, batch=8, limit=200, costly_passes=400, costly_limit=50, costly_budget=25000,
            sanity_photos=50, bootstrap=2000, interval_percent=95.0,
        ),
        "measures": columns,
        "fractions": {name: [k / 20 for k in range(21)] for name in ("insertion", "deletion")},
        "reference": REFERENCE,
        "methods": [
            *[method(*row) for row in _METHODS],
            MethodRecord(name="shap", label="SHAP", family="perturbation", status="skipped",
                         reason="the package shap is not installed"),
        ],
        "verdicts": verdicts, "contrast": power, "rise_curve": rise,
        "gallery_column": "insertion", "peak_memory_mb": 1234.5,
    }  # fmt: skip
    return Evaluation(**{**fields, **changes})


def only_skipped():
    """Nothing could run: no reference, no curves, no numbers."""
    return evaluation(
        methods=[MethodRecord(name=REFERENCE, label="P-TAME", family="p-tame",
                              status="skipped", reason="no graph")],
        verdicts=[], contrast=[], rise_curve=None, fractions={}, photos=0,
    )  # fmt: skip


def single():
    """One method on one photo, without time, curves or anything to compare it with."""
    row = method("grad-cam", "Grad-CAM", "cam", 0.7, 9.8, 1, 1, 1)
    row = row.model_copy(update={
        "time": None, "cost": None, "curves": {}, "sanity": None, "against_reference": {},
        "against_gaussian": {}, "values": {"insertion": interval(70.0, 0.0, 1)}, "reason": None,
    })  # fmt: skip
    return evaluation(methods=[row], reference=None, verdicts=[], contrast=[], rise_curve=None,
                      fractions={}, photos=1, skipped=[], measures=measures()[:1])  # fmt: skip


def hostile(**changes):
    """Every name is an attack, numbers are not numbers, and a verdict breaks the rule."""
    nan = float("nan")
    broken = Interval(mean=nan, low=nan, high=nan, photos=3)
    wide = Interval(mean=50.0, low=float("-inf"), high=float("inf"), photos=3)
    row = method("grad-cam", HOSTILE, "cam", 0.7, nan, 1, 1, PHOTOS)
    values = {**row.values, "insertion": broken, "deletion": wide}
    row = row.model_copy(update={
        "values": values, "cautions": [HOSTILE], "runtime": HOSTILE, "reason": HOSTILE,
        "settings": {HOSTILE: HOSTILE}, "curves": {"insertion": [nan] * 21},
    })  # fmt: skip
    usual = evaluation()
    subject = usual.subject.model_copy(update={"classifier": HOSTILE, "cautions": [HOSTILE]})
    fields = {
        "methods": [usual.methods[0], row, MethodRecord(
            name=HOSTILE, label=HOSTILE, family="floor", status="skipped", reason=HOSTILE)],
        "subject": subject, "skipped": [HOSTILE], "warnings": [HOSTILE], "judge": HOSTILE,
        "verdicts": [Verdict(column="ad100_published", winner=REFERENCE, best=REFERENCE)],
        "gallery": [GalleryEntry(photo=HOSTILE, choice="best", title=HOSTILE, score=nan,
                                 picture=HOSTILE.replace("\x00", ""), overlays={HOSTILE: HOSTILE})],
    }  # fmt: skip
    return evaluation(**{**fields, **changes})
