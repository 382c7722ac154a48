"""Predict from values in a task's own units and words: consumer.py BUNDLE [int8] < RECORD.json."""

import binascii
import io
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer

bundle, precision, record = Path(sys.argv[1]), (*sys.argv[2:], "fp32")[0], json.load(sys.stdin)
files = (bundle / f"{name}.json" for name in ("manifest", "arrays", "task", "calibration"))
manifest, rules, task, calibration = (json.loads(file.read_bytes()) for file in files)
builds = {(each["runtime"], each["precision"]): each["graphs"] for each in manifest["builds"]}
graphs, tokens = builds["onnx", precision], {modality: [] for modality in rules}


def _run(name, **arrays):  # a graph on one row of its arrays
    row = {key: np.array([a], graphs[name]["inputs"][key]["dtype"]) for key, a in arrays.items()}
    return onnxruntime.InferenceSession(bundle / graphs[name]["file"]).run(None, row)[0][0]


def _show(column, values):  # what stands in a column
    if (value := values.get(column["of"])) is None:
        return column["missing"]
    word = value if isinstance(value, str) else json.dumps(value).removesuffix(".0")  # 1.0, true
    if "codes" in column:
        return column["codes"].get(word, column["other"])
    if "buckets" in column:
        return column["first"] + binascii.crc32(word.encode()) % column["buckets"]
    return ((np.log1p(value) if column["log"] else value) - column["mean"]) / column["std"]


for note in np.atleast_1d(record.get("text") or []):
    words = json.loads((bundle / "tokenizer.json").read_bytes()) | rules["text"]["token_ids"]
    ids = Tokenizer.from_str(json.dumps(words)).encode(note).ids
    tokens["text"].append(_run("text", token_ids=ids, attention_mask=[1] * len(ids)))
for picture in np.atleast_1d(record.get("image") or []):  # a path has a dot, base64 has none
    photo = Image.open(picture if "." in picture else io.BytesIO(binascii.a2b_base64(picture)))
    square = ImageOps.fit(ImageOps.exif_transpose(photo).convert("RGB"), **rules["image"]["pixels"])
    tokens["image"].append(_run("image", pixels=np.asarray(square).transpose(2, 0, 1)))
if row := {name: each for name, each in (record.get("tabular") or {}).items() if each is not None}:
    arrays = {name: [_show(c, row) for c in columns] for name, columns in rules["tabular"].items()}
    tokens["tabular"].append(_run("tabular", **arrays))
if rows := sorted(record.get("timeseries") or [], key=lambda row: row["hours"]):
    series, held, values = rules["timeseries"], rules["timeseries"]["start"], []
    for a, b in series["steps"]:
        seen = {n: v for r in rows if a <= r["hours"] < b for n, v in r.items() if v is not None}
        full = {total: of for total, of in series["sums"].items() if seen.keys() >= set(of)}
        seen = {total: sum(int(seen[part]) for part in of) for total, of in full.items()} | seen
        held = held | seen
        values.append([_show(c, held if c["carried"] else seen) for c in series["values"]])
    tokens["timeseries"].append(_run("timeseries", values=values))
fused = np.concatenate([np.mean(each, axis=0) for each in tokens.values() if each])
output = _run("fusion", tokens=fused, mask=[True] * len(fused)) / calibration["temperature"]
shares = np.exp(output - np.logaddexp.reduce(output)) if task["label"]["classes"] else output
print(json.dumps(dict(zip(task["label"]["classes"] or ["value"], shares.tolist(), strict=True))))
