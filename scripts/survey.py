"""Which timm models become one graph: export and parity of many families, at their own size.

What `make survey` runs: `ptame export` with random weights (parity does not ask what a network
knows) for models of over 60 families, each in a process of its own. What was done is kept in
--work, so that a kill loses one model. Writes one JSON, and a table with each failure's reason.

    python scripts/survey.py --json results/survey-timm.json --table docs/survey.md
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.device import describe_device
from ptame_deploy.artifacts import GRAPH_MANIFEST
from ptame_deploy.provenance import Provenance
from ptame_deploy.storage import write_text

# Family: models, small ones where there is a choice.
FAMILIES = {
    "ResNet": ["resnet18", "resnet50d", "resnext50_32x4d", "seresnet50"],
    "ResNetV2": ["resnetv2_50"],
    "Res2Net": ["res2net50_26w_4s"],
    "ResNeSt": ["resnest14d"],
    "VGG": ["vgg11_bn"],
    "DenseNet": ["densenet121"],
    "RDNet": ["rdnet_tiny"],
    "Inception": ["inception_v3", "inception_v4"],
    "Xception": ["xception41"],
    "DPN": ["dpn68"],
    "DLA": ["dla34"],
    "HRNet": ["hrnet_w18_small"],
    "SelecSLS": ["selecsls42b"],
    "VoVNet": ["vovnet39a"],
    "CSPNet": ["cspresnet50"],
    "MobileNet": ["mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_small_100"],
    "MobileNetV4": ["mobilenetv4_conv_small"],
    "MobileOne": ["mobileone_s0"],
    "MNASNet": ["mnasnet_100"],
    "GhostNet": ["ghostnet_100"],
    "RepGhost": ["repghostnet_050"],
    "EfficientNet": ["efficientnet_b0", "tf_efficientnetv2_b0", "efficientnet_lite0"],
    "ReXNet": ["rexnet_100"],
    "RegNet": ["regnetx_002", "regnety_002"],
    "NFNet": ["dm_nfnet_f0"],
    "RepVGG": ["repvgg_a0"],
    "StarNet": ["starnet_s1"],
    "FasterNet": ["fasternet_t0"],
    "SHViT": ["shvit_s1"],
    "HGNet": ["hgnetv2_b0"],
    "ConvNeXt": ["convnext_atto", "convnextv2_atto"],
    "ConvMixer": ["convmixer_768_32"],
    "InceptionNeXt": ["inception_next_atto"],
    "MetaFormer": ["poolformer_s12"],
    "FocalNet": ["focalnet_tiny_srf"],
    "MambaOut": ["mambaout_femto"],
    "ViT": ["vit_tiny_patch16_224", "vit_tiny_patch16_384"],
    "DeiT": ["deit_tiny_patch16_224"],
    "BEiT": ["beit_base_patch16_224"],
    "EVA": ["eva02_tiny_patch14_224"],
    "CaiT": ["cait_xxs24_224"],
    "XCiT": ["xcit_nano_12_p16_224"],
    "VOLO": ["volo_d1_224"],
    "CrossViT": ["crossvit_tiny_240"],
    "PiT": ["pit_ti_224"],
    "TNT": ["tnt_s_patch16_224"],
    "LeViT": ["levit_128s"],
    "EfficientFormer": ["efficientformer_l1", "efficientformerv2_s0"],
    "EfficientViT": ["efficientvit_b0", "efficientvit_m0"],
    "MobileViT": ["mobilevit_xxs", "mobilevitv2_050"],
    "EdgeNeXt": ["edgenext_xx_small"],
    "FastViT": ["fastvit_t8"],
    "RepViT": ["repvit_m0_9"],
    "TinyViT": ["tiny_vit_5m_224"],
    "Next-ViT": ["nextvit_small"],
    "DaViT": ["davit_tiny"],
    "MViT": ["mvitv2_tiny"],
    "PVT": ["pvt_v2_b0"],
    "Swin": ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"],
    "Twins": ["twins_pcpvt_small"],
    "CoaT": ["coat_tiny"],
    "MaxViT": ["coatnet_nano_rw_224", "maxvit_nano_rw_256"],
    "GCViT": ["gcvit_xxtiny"],
    "Hiera": ["hiera_tiny_224"],
    "MLP": ["mixer_s32_224", "gmlp_s16_224", "resmlp_12_224"],
    "Sequencer": ["sequencer2d_s"],
    "Visformer": ["visformer_tiny"],
    "NesT": ["nest_tiny"],
    "Attention in ResNet": ["halonet26t", "botnet26t_256", "lambda_resnet26t"],
}
PASSED_SHARE = 0.95


def main() -> int:
    """Run the survey; exit 1 where under 95 % pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--work", type=Path, default=Path("bench-work/survey"))
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for one model")
    parser.add_argument("--json", type=Path, default=Path("bench-work/survey.json"))
    parser.add_argument("--table", type=Path, default=Path("bench-work/survey.md"))
    arguments = parser.parse_args()
    wanted = [
        (family, model)
        for family, models in FAMILIES.items()
        for model in models
        if not arguments.models or model in arguments.models
    ]
    rows = []
    for number, (family, model) in enumerate(wanted, start=1):
        row = _surveyed(family, model, arguments.work, arguments.limit)
        print(
            f"{number}/{len(wanted)} {model}: {row['reason'] or 'ok'} ({row['seconds']:.0f} s)",
            flush=True,
        )
        rows.append(row)
    passed = sum(row["reason"] is None for row in rows)
    report = {
        "schema_version": 1,
        "kind": "survey",
        "provenance": Provenance.here(seed=0).model_dump(mode="json"),
        "device": describe_device().model_dump(mode="json"),
        "weights": "random",
        "auxiliary": "mobilenet_v3_small, random weights",
        "passed": passed,
        "models": rows,
    }
    write_text(arguments.json, json.dumps(report, indent=2) + "\n")
    write_text(arguments.table, _table(report))
    print(f"{passed} of {len(rows)} passed; wrote {arguments.json} and {arguments.table}")
    return 0 if passed >= PASSED_SHARE * len(rows) else 1


def _surveyed(family: str, model: str, work: Path, limit: float) -> dict[str, Any]:
    kept = work / f"{model}.json"
    if kept.is_file():
        row: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return row
    folder = work / model
    command = [
        sys.executable, "-m", "ptame_deploy", "export", "--backbone", f"timm:{model}",
        "--weights", "random", "--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random",
        "-o", str(folder),
    ]  # fmt: skip
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, check=False, env=os.environ
        )
        reason = None if done.returncode == 0 else _reason(done.stderr, done.returncode)
    except subprocess.TimeoutExpired:
        reason = f"took over {limit:.0f} s"
    row = {"family": family, "model": model, "reason": reason,
           "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    if reason is None:
        manifest = json.loads((folder / GRAPH_MANIFEST).read_text(encoding="utf-8"))
        row["input_size"] = manifest["preprocessing"]["input_size"]
        row["classes"] = manifest["classifier"]["num_classes"]
        for output in ("logits", "saliency"):
            row[output] = max(
                one["difference"] for one in manifest["parity"] if one["output"] == output
            )
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    write_text(kept, json.dumps(row))
    return row


def _reason(stderr: str, code: int) -> str:
    lines = [line for line in stderr.splitlines() if line.startswith("Error:")]
    return lines[-1].removeprefix("Error: ") if lines else f"exit code {code}"


def _table(report: dict[str, Any]) -> str:
    rows = report["models"]
    versions = report["provenance"]["versions"]
    families = len({row["family"] for row in rows})
    said = (
        "`ptame export` with random weights, at each model's own input size; the largest "
        "difference between ONNX Runtime and PyTorch at batch 1, 2 and 5 (logits relative to the "
        f"largest one, maps absolutely). timm {versions['timm']}, torch {versions['torch']}, ONNX "
        f"Runtime {versions['onnxruntime']}. Made by `make survey`."
    )
    lines = [
        f"# Survey: {report['passed']} of {len(rows)} timm models of {families} families",
        "",
        said,
        "",
        "| family | model | input | logits | maps | |",
        "|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        if row["reason"] is None:
            size = "x".join(map(str, row["input_size"]))
            cells = f"{size} | {row['logits']:.0e} | {row['saliency']:.0e} | ok"
        else:
            cells = f" | | | {row['reason'].replace('|', '/')}"
        lines.append(f"| {row['family']} | `{row['model']}` | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
