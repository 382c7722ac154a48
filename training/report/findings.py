"""What a report shows beyond the figures: curves, calibration, confusion, coverage, as numbers.

Everything is plain enough for JSON, so that the page shows nothing that `report-SPLIT.json` does
not say.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from lanistr.calibration import Calibration, softmax
from lanistr.tasks import LabelSpec
from training.bootstrap import draws, percentile_interval
from training.metrics import Floats, Integers, Ranks, known, log_odds, measure

COVERAGE = 0.9
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MOST_CLASSES = 12
"""With more classes there is one mean curve, and pairs instead of a matrix."""

_GRID = np.linspace(0, 1, 101)
_BINS = 10
_MOST_POINTS = 300
_MOST_PAIRS = 20
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Json = dict[str, Any]


def findings(
    logits: Floats,
    targets: Floats,
    patterns: NDArray[np.str_],
    groups: NDArray[np.str_],
    label: LabelSpec,
    calibration: Calibration,
) -> Json:
    """Find what the kind of label has to show.

    Args:
        logits: (N, C) of the head, before the temperature; (N, 1) for regression.
        targets: (N,) class index or number, none NaN.
        patterns: (N,) which modalities each case brings.
        groups: (N,) the patient or product of each case.
        label: what outputs and targets mean.
        calibration: of the run.
    """
    found: Json = {"conformal": _conformal(logits, targets, patterns, label, calibration)}
    if label.kind == "regression":
        residuals = logits[:, 0].astype(np.float64) - targets
        return found | {"residuals": _spread(residuals)}
    truth = targets.astype(np.int64)
    outputs = logits / calibration.temperature
    p = softmax(outputs)
    found["confusion"] = _confusion(truth, calibration.decision.predicted(p, label), label)
    found["calibration"] = _calibration(logits, truth, label, calibration.temperature)
    found["curves"] = _curves(outputs, truth, groups, label)
    if label.kind == "binary":
        found["operating_points"] = [_operating_point(p[:, 1], truth, t) for t in THRESHOLDS]
    if label.kind == "ordinal":
        expected = p @ np.asarray(label.values)
        found["expected"] = {
            name: _spread(expected[truth == code]) for code, name in enumerate(label.classes)
        }
    return found


# ---- curves -------------------------------------------------------------------------------------


def _curves(outputs: Floats, truth: Integers, groups: NDArray[np.str_], label: LabelSpec) -> Json:
    """Return ROC and PR curves: of the second of two classes, or of each against the rest."""
    codes = [1] if label.kind == "binary" else range(len(label.classes))
    curves: dict[str, list[Json]] = {"roc": [], "pr": []}
    on_grid: dict[str, list[Floats]] = {"roc": [], "pr": []}
    for code in codes:
        positive, score = truth == code, log_odds(outputs, code)
        if not 0 < positive.sum() < len(truth):
            continue  # with one side alone there is no curve
        ranks, once = Ranks(score, positive), np.ones((1, len(truth)))
        _, _, found, passed = ranks(once)
        recall, precision = found[0] / positive.sum(), found[0] / passed[0]
        roc, steps = metrics.roc_curve(positive, score)[:2], np.append(0.0, recall)
        # Average precision is the area below steps that end where a positive case is found.
        pr = steps, np.append(precision[0], precision)
        areas = metrics.roc_auc_score(positive, score), precision @ np.diff(steps)
        about = {"name": label.classes[code], "cases": int(positive.sum())}
        for kind, points, area in zip(("roc", "pr"), (roc, pr), areas, strict=True):
            curves[kind].append(about | {"area": known(float(area))} | _points(*points))
        for kind, rows in _on_grid(ranks, once).items():
            on_grid[kind].extend(rows)
        if label.kind == "binary" and len(np.unique(groups)) > 1:
            for kind, band in _bands(ranks, groups).items():
                curves[kind][-1]["band"] = band
    for kind, of_classes in curves.items():
        if len(of_classes) > 1:
            area = known(float(np.mean([each["area"] for each in of_classes])))
            macro = {"name": "mean of the classes", "cases": len(truth), "area": area}
            macro |= _points(_GRID, np.mean(on_grid[kind], axis=0))
            curves[kind] = [macro, *(of_classes if len(of_classes) <= MOST_CLASSES else [])]
    return curves


def _bands(ranks: Ranks, groups: NDArray[np.str_]) -> dict[str, Json]:
    """Return where the curves of 95% of the bootstrap draws run, at each place by itself."""
    drawn: dict[str, list[Floats]] = {"roc": [], "pr": []}
    for weights in draws(groups):
        for kind, rows in _on_grid(ranks, weights).items():
            drawn[kind].extend(rows)
    bands = {}
    for kind, rows in drawn.items():
        edges = np.array([percentile_interval(column) for column in np.array(rows).T])
        low, high = edges.T
        bands[kind] = {"x": _short(_GRID), "low": _short(low), "high": _short(high)}
    return bands


def _on_grid(ranks: Ranks, weights: Floats) -> dict[str, list[Floats]]:
    """Return, per row of weights, sensitivity over false-positive rate and precision over recall.

    Only scores that positive cases have are walked: between two of them sensitivity stays, at one
    that negative cases have too it rises in a slope, and precision is highest at them.
    """
    roc, pr = [], []
    for hit, tie, true, all_, cases in zip(*ranks(weights), weights.sum(axis=1), strict=True):
        total = hit.sum()
        if not 0 < total < cases:
            roc.append(np.full(len(_GRID), np.nan))
            pr.append(np.full(len(_GRID), np.nan))
            continue
        drawn = hit > 0
        wrong, negatives = all_ - true, cases - total
        x = np.stack([wrong - tie, wrong], axis=1)[drawn].ravel() / negatives
        y = np.stack([true - hit, true], axis=1)[drawn].ravel() / total
        # Of several places of one rate the last one, which is the highest, counts.
        roc.append(np.interp(_GRID, [0, *x, 1], [0, *y, 1]))
        recall = true[drawn] / total
        # A share of 101ths may miss the recall that it equals by rounding.
        needed = np.minimum(np.searchsorted(recall, _GRID - 1e-9), len(recall) - 1)
        pr.append((true[drawn] / all_[drawn])[needed])
    return {"roc": roc, "pr": pr}


# ---- calibration --------------------------------------------------------------------------------


def _calibration(logits: Floats, truth: Integers, label: LabelSpec, temperature: float) -> Json:
    """Compare probabilities with what came true, before and after the temperature."""
    found: Json = {"temperature": round(temperature, 6)}
    binary = label.kind == "binary"
    found["of"] = label.classes[1] if binary else "the most likely class"
    for when, divisor in (("before", 1.0), ("after", temperature)):
        p = softmax(logits / divisor)
        of_truth = np.take_along_axis(p, truth[:, None], axis=1)[:, 0]
        chance, came_true = (
            (p[:, 1], truth == 1) if binary else (p.max(axis=1), p.argmax(axis=1) == truth)
        )
        figures = measure(logits / divisor, truth.astype(np.float64), label)
        found[when] = {
            "log_loss": known(float(-np.log(np.maximum(of_truth, 1e-12)).mean())),
            "brier": known(figures["brier"]),
            "ece": known(figures["ece"]),
            "mean_probability": known(float(chance.mean())),
            "observed": known(float(came_true.mean())),
            "bins": _reliability(chance, came_true),
        }
    return found


def _reliability(chance: Floats, came_true: NDArray[np.bool_]) -> list[Json]:
    """Return, for bins of equal width, the mean probability and how often it came true."""
    which = np.minimum((chance * _BINS).astype(np.int64), _BINS - 1)
    bins = []
    for each in range(_BINS):
        inside = which == each
        cases, hits = int(inside.sum()), int(came_true[inside].sum())
        bins.append(
            {
                "from": each / _BINS,
                "to": (each + 1) / _BINS,
                "cases": cases,
                "mean": known(float(chance[inside].mean())) if cases else None,
                "observed": known(hits / cases) if cases else None,
                "interval": wilson(hits, cases),
            }
        )
    return bins


def wilson(hits: int, cases: int) -> list[float] | None:
    """Return the 95% interval of a share; None of no case.

    Source: Wilson 1927.
    """
    if not cases:
        return None
    z = 1.959964
    share, extra = hits / cases, z**2 / cases
    middle = share + extra / 2
    half = z * np.sqrt(share * (1 - share) / cases + extra / (4 * cases))
    return [round(float((middle + sign * half) / (1 + extra)), 6) for sign in (-1, 1)]


# ---- confusion, thresholds ----------------------------------------------------------------------


def _confusion(truth: Integers, guess: Integers, label: LabelSpec) -> Json:
    """Count true (rows) against predicted classes; with many classes the pairs mixed up most."""
    classes = len(label.classes)
    if classes <= MOST_CLASSES:
        counts = np.bincount(truth * classes + guess, minlength=classes**2)
        return {"matrix": counts.reshape(classes, classes).tolist()}
    wrong = truth != guess
    pairs, counts = np.unique(truth[wrong] * classes + guess[wrong], return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_MOST_PAIRS]
    return {
        "pairs": [
            {
                "true": label.classes[pairs[i] // classes],
                "guess": label.classes[pairs[i] % classes],
                "cases": int(counts[i]),
                "of": int((truth == pairs[i] // classes).sum()),
            }
            for i in most
        ]
    }


def _operating_point(p: Floats, truth: Integers, threshold: float) -> Json:
    """Say what follows from acting on every case whose probability reaches a threshold."""
    acted, positive = p >= threshold, truth == 1
    tp, fp = int((acted & positive).sum()), int((acted & ~positive).sum())
    fn, tn = int((~acted & positive).sum()), int((~acted & ~positive).sum())

    def share(part: int, rest: int) -> float | None:
        return round(part / (part + rest), 6) if part + rest else None

    return {
        "threshold": threshold,
        "true_positives": tp,
        "false_positives": fp,
        "false_negatives": fn,
        "true_negatives": tn,
        "sensitivity": share(tp, fn),
        "specificity": share(tn, fp),
        "ppv": share(tp, fp),
        "npv": share(tn, fn),
    }


# ---- coverage -----------------------------------------------------------------------------------


def _conformal(
    logits: Floats,
    targets: Floats,
    patterns: NDArray[np.str_],
    label: LabelSpec,
    calibration: Calibration,
) -> Json | None:
    """Count how often sets or intervals of 90% hold what came true; None if none are given."""
    found = calibration.covers(logits, targets, label, COVERAGE, patterns)
    if found is None:
        return None
    covered, size = found

    def group(chosen: NDArray[np.bool_]) -> Json:
        cases, hits = int(chosen.sum()), int(covered[chosen].sum())
        return {
            "cases": cases,
            "covered": round(hits / cases, 6),
            "interval": wilson(hits, cases),
            "mean_size": known(float(size[chosen].mean())),
        }

    return {
        "promised": COVERAGE,
        "calibrated_on": len(calibration.scores),
        "calibrated_by_presence": {
            name: len(scores) for name, scores in calibration.by_pattern.items()
        },
        "all": group(np.ones(len(targets), dtype=bool)),
        "by_presence": {str(each): group(patterns == each) for each in np.unique(patterns)},
    }


# ---- as it is written down ----------------------------------------------------------------------


def _spread(values: Floats) -> Json:
    """Return number, mean and quantiles; None where there is no value."""
    if not len(values):
        return {"cases": 0, "mean": None, "quantiles": None}
    quantiles = np.quantile(values, _QUANTILES)
    return {
        "cases": len(values),
        "mean": known(float(values.mean())),
        "quantiles": {
            f"{q:g}": known(float(v)) for q, v in zip(_QUANTILES, quantiles, strict=True)
        },
    }


def _points(x: Floats, y: Floats) -> Json:
    """Return a curve of no more points than an eye can tell apart, both ends kept."""
    if len(x) > _MOST_POINTS:
        kept = np.unique(np.linspace(0, len(x) - 1, _MOST_POINTS).round().astype(np.int64))
        x, y = x[kept], y[kept]
    return {"x": _short(x), "y": _short(y)}


def _short(values: Floats) -> list[float | None]:
    return [None if np.isnan(each) else round(float(each), 4) for each in values]
