#!/usr/bin/env python3
"""Writes metrics.json: inputs and the values reference implementations give them, read by tests/metric_golden.rs.

usage: metrics.py > metrics.json
needs: numpy scipy scikit-learn pycocotools

Every case has the metric's declaration, model outputs and annotations (a position in `data`), and the reference's value. Sources: scikit-learn for
classification, log loss and ROC; scipy for correlations; pycocotools for COCO's average precision. Perplexity, PSNR, mean
IoU, error rates and Pascal VOC's average precision are a few plain lines of numpy here, after their definitions.
"""
import contextlib
import io
import json
import sys

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import stats
from sklearn import metrics as sk

rng = np.random.default_rng(20261123)
data, cases = [], []


def f32(array):
    return np.asarray(array, np.float32)


def case(name, kind, parameters, outputs, annotations, value, tolerance=1e-12):
    """`outputs`: per sample a dict of arrays; `tolerance` is absolute."""
    shortest = lambda array: [float(str(x)) for x in f32(array).ravel()]  # what reads back as the same f32
    samples = dict(
        outputs=[[dict(name=k, shape=list(v.shape), values=shortest(v)) for k, v in o.items()] for o in outputs],
        annotations=annotations,
    )
    if samples not in data:
        data.append(samples)
    declaration = dict(name=name, kind=kind, parameters=parameters)
    cases.append(dict(**declaration, data=data.index(samples), value=float(value), tolerance=tolerance))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def classification():
    n, c = 60, 5
    y = rng.integers(0, c - 1, n)  # the last class is predicted at times, and never true
    logits = f32(rng.normal(size=(n, c)) + 1.5 * np.eye(c)[y])
    outs = [dict(scores=row[None]) for row in logits]
    labels = [dict(label=int(k)) for k in y]
    pred = logits.argmax(1)
    for average in ("macro", "micro", "weighted"):
        for kind, f in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
            value = f(y, pred, average=average, zero_division=0)
            case(f"{kind} {average}", kind, dict(average=average), outs, labels, value)
    case("matthews", "mcc", {}, outs, labels, sk.matthews_corrcoef(y, pred))
    for k in (1, 2, 3):
        value = sk.top_k_accuracy_score(y, logits, k=k, labels=range(c))
        case(f"accuracy top {k}", "accuracy", dict(top_k=k), outs, labels, value)
    p = softmax(logits.astype(np.float64))
    case("log loss of logits", "log_loss", {}, outs, labels, sk.log_loss(y, p, labels=range(c)))
    p32 = f32(p)
    shares = [dict(scores=row[None]) for row in p32]
    value = np.mean([-np.log(np.float64(row[k])) for row, k in zip(p32, y)])
    case("log loss of probabilities", "log_loss", dict(softmax=False), shares, labels, value)
    gains = [sk.ndcg_score(np.eye(c)[[k]], row[None], k=3) for k, row in zip(y, logits)]
    case("ndcg", "ndcg", dict(top_k=3), outs, labels, np.mean(gains))

    y = rng.integers(0, 2, n)
    score = f32(np.round(rng.normal(size=n) + y, 1))  # rounded: there are ties
    labels = [dict(label=int(k)) for k in y]
    one = [dict(scores=np.array([[s]])) for s in score]
    case("auc of one score", "roc_auc_score", {}, one, labels, sk.roc_auc_score(y, score))
    two = [dict(scores=np.array([[0.25, s]])) for s in score]
    case("auc of two scores", "roc_auc_score", {}, two, labels, sk.roc_auc_score(y, score))
    pred = (score > 0.25).astype(int)
    for label in (0, 1):
        for kind, f in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
            value = f(y, pred, pos_label=label)
            case(f"{kind} of class {label}", kind, dict(average="binary", pos_label=label), two, labels, value)
    y = rng.integers(0, c, n)
    logits = f32(rng.normal(size=(n, c)) + np.eye(c)[y])
    p = softmax(logits.astype(np.float64))
    outs, labels = [dict(scores=row[None]) for row in logits], [dict(label=int(k)) for k in y]
    case("auc of five classes", "roc_auc_score", {}, outs, labels, sk.roc_auc_score(y, p, multi_class="ovr"))

    y = (rng.random((n, c)) < 0.3).astype(int)
    y[:, 4] = 0
    score = f32(rng.random((n, c)) * 0.6 + 0.3 * y)
    score[:, 4] = 0
    outs = [dict(scores=row[None]) for row in score]
    labels = [dict(labels=[int(k) for k in np.flatnonzero(row)]) for row in y]
    pred = (score >= np.float32(0.5)).astype(int)
    for average in ("macro", "micro", "weighted"):
        for kind, f in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
            value = f(y, pred, average=average, zero_division=0)
            case(f"{kind} {average} of several labels", kind, dict(average=average, threshold=0.5), outs, labels, value)


def regression():
    n, d = 20, 7
    x, y = f32(rng.normal(size=(n, d))), f32(rng.normal(size=(n, d)))
    outs = [dict(out=row[None]) for row in x]
    targets = [dict(values=[float(v) for v in row]) for row in y]
    x, y = x.astype(np.float64), y.astype(np.float64)
    case("mse", "mse", {}, outs, targets, sk.mean_squared_error(y.ravel(), x.ravel()))
    case("rmse", "rmse", {}, outs, targets, sk.root_mean_squared_error(y.ravel(), x.ravel()))
    case("mae", "mae", {}, outs, targets, sk.mean_absolute_error(y.ravel(), x.ravel()))
    cosine = [sk.pairwise.cosine_similarity(a[None], b[None])[0, 0] for a, b in zip(x, y)]
    case("cosine", "cosine_similarity", {}, outs, targets, np.mean(cosine))
    psnr = [10 * np.log10(4.0 / np.mean((a - b) ** 2)) for a, b in zip(x, y)]
    case("psnr", "psnr", dict(data_range=2), outs, targets, np.mean(psnr), 1e-11)
    x = f32(rng.normal(size=40))
    y = f32(np.round(0.7 * x + 0.5 * rng.normal(size=40), 1))
    outs = [dict(out=np.array([[v]])) for v in x]
    targets = [dict(values=[float(v)]) for v in y]
    x, y = x.astype(np.float64), y.astype(np.float64)
    case("pearson", "pearson_correlation_coef", {}, outs, targets, stats.pearsonr(x, y).statistic)
    case("spearman", "spearman_correlation_coef", {}, outs, targets, stats.spearmanr(x, y).statistic)


def tokens():
    n, length, vocabulary = 6, 9, 11
    logits = f32(3 * rng.normal(size=(n, length, vocabulary)))
    ids = rng.integers(0, vocabulary, (n, length))
    ids[0, 5:] = -100
    outs = [dict(logits=row[None]) for row in logits]
    truth = [dict(tokens=[int(t) for t in row]) for row in ids]
    lp = np.log(softmax(logits.astype(np.float64)))
    judged = lambda ids, lp: [lp[i, j, t] for i, row in enumerate(ids) for j, t in enumerate(row) if t != -100]
    case("perplexity", "perplexity", {}, outs, truth, np.exp(-np.mean(judged(ids, lp))), 1e-10)
    value = np.exp(-np.mean(judged(ids[:, 1:], lp)))
    case("perplexity of the next token", "perplexity", dict(shift=True), outs, truth, value, 1e-10)


def runs(mask):
    out = []
    for v in mask.ravel():
        if out and out[-1][0] == v:
            out[-1][1] += 1
        else:
            out.append([int(v), 1])
    return dict(mask=dict(height=mask.shape[0], width=mask.shape[1], runs=out))


def segmentation():
    n, c, h, w = 4, 4, 6, 5
    truth = rng.integers(0, c - 1, (n, h, w))
    logits = f32(rng.normal(size=(n, c, h, w)) + 1.2 * np.eye(c)[truth].transpose(0, 3, 1, 2))
    truth[0, :2] = 255
    pred = logits.argmax(1)
    outs = [dict(map=row[None]) for row in logits]
    seen = truth != 255
    value = sk.jaccard_score(truth[seen], pred[seen], average="macro", zero_division=0)
    case("mean iou", "mean_iou", dict(ignore_label=255), outs, [runs(m) for m in truth], value)
    given = [dict(map=m[None]) for m in pred]
    case("mean iou of class maps", "mean_iou", dict(ignore_label=255, use_argmax=False), given, [runs(m) for m in truth], value)
    large = truth.repeat(2, 1).repeat(3, 2)
    case("mean iou of larger truth", "mean_iou", dict(ignore_label=255), outs, [runs(m) for m in large], value)
    binary = (truth == 1).astype(int)
    score = f32(rng.random((n, 1, h, w)) * 0.7 + 0.3 * binary[:, None])
    value = sk.jaccard_score(binary.ravel(), (score[:, 0] >= np.float32(0.5)).ravel(), average="macro")
    outs = [dict(map=row[None]) for row in score]
    case("mean iou of one score", "mean_iou", dict(threshold=0.5), outs, [runs(m) for m in binary], value)


def distance(a, b):
    d = np.zeros((len(a) + 1, len(b) + 1), int)
    d[:, 0], d[0] = range(len(a) + 1), range(len(b) + 1)
    for i in range(len(a)):
        for j in range(len(b)):
            d[i + 1, j + 1] = min(d[i, j + 1] + 1, d[i + 1, j] + 1, d[i, j] + (a[i] != b[j]))
    return int(d[-1, -1])


def text():
    alphabet = " abcdeé"
    truths = ["a bad cab", "bead", "", "dad fed é"]
    outs, said = [], []
    for truth in truths:
        steps = []
        for ch in (truth or "a").replace("f", "b"):
            if steps and steps[-1] == ch:
                steps.append("")  # a blank tells repeated characters apart
            steps += [ch] * int(rng.integers(1, 3))
            if rng.random() < 0.2:
                steps.append(str(rng.choice(list(alphabet))))
        classes = [alphabet.index(s) + 1 if s else 0 for s in steps]
        outs.append(dict(scores=f32(np.eye(8)[classes] + 0.4 * rng.random((len(classes), 8)))[None]))
        kept = [k for i, k in enumerate(classes) if k and (i == 0 or classes[i - 1] != k)]
        said.append("".join(alphabet[k - 1] for k in kept))
    adapter = dict(type="ctc_greedy_search_decoder", alphabet=alphabet, blank_label=0)
    annotations = [dict(text=t) for t in truths]
    edits = sum(distance(s, t) for s, t in zip(said, truths))
    case("character error rate", "cer", dict(adapter=adapter), outs, annotations, edits / sum(map(len, truths)))
    edits = sum(distance(s.split(), t.split()) for s, t in zip(said, truths))
    case("word error rate", "wer", dict(adapter=adapter), outs, annotations, edits / sum(len(t.split()) for t in truths))
    last = dict(type="ctc_greedy_search_decoder", alphabet=list(alphabet), blank_label=7)
    turned = [dict(scores=np.roll(o["scores"], -1, 2).transpose(1, 0, 2)) for o in outs]
    edits = sum(distance(s, t) for s, t in zip(said, truths))
    value = edits / sum(map(len, truths))
    case("character error rate, steps first", "cer", dict(adapter=last), turned, annotations, value)


def detection():
    """Decoded candidates [1, N, 5 + classes] around true boxes, some of them crowds or difficult."""
    n, c, size = 12, 4, 256
    outs, annotations, images, truths, found = [], [], [], [], []
    for image in range(n):
        w, h = int(rng.integers(100, 500)), int(rng.integers(100, 500))
        images.append(dict(id=image + 1, width=w, height=h))
        boxes, rows = [], []
        for _ in range(int(rng.integers(0, 9))):
            bw, bh = rng.uniform(0.02, 0.6, 2) * (w, h)
            x, y = rng.uniform(0, 1, 2) * (w - bw, h - bh)
            k, crowd, difficult = int(rng.integers(0, c)), bool(rng.random() < 0.15), bool(rng.random() < 0.2)
            area = float(bw * bh * rng.uniform(0.5, 1))
            boxes.append(
                dict(**{"class": k}, bbox=[float(v) for v in (x, y, bw, bh)], area=area, is_crowd=crowd, is_difficult=difficult)
            )
            truths.append(
                dict(id=len(truths) + 1, image_id=image + 1, category_id=k, bbox=[float(v) for v in (x, y, bw, bh)], area=area, iscrowd=int(crowd))
            )
            for _ in range(int(rng.integers(0, 4))):
                jitter = rng.normal(scale=0.12, size=4) * (bw, bh, bw, bh)
                cx, cy, dw, dh = np.array([x + bw / 2, y + bh / 2, bw, bh]) + jitter
                rows.append((cx / w * size, cy / h * size, abs(dw) / w * size, abs(dh) / h * size, k))
        for _ in range(int(rng.integers(0, 6))):
            rows.append((*rng.uniform(20, 200, 2), *rng.uniform(5, 60, 2), int(rng.integers(0, c))))
        out = np.zeros((1, max(len(rows), 1), 5 + c), np.float32)
        for i, (cx, cy, bw, bh, k) in enumerate(rows):
            score = np.float32(round(float(rng.uniform(0.05, 1)), 1))  # rounded: there are ties
            out[0, i, :4], out[0, i, 4], out[0, i, 5 + k] = (cx, cy, bw, bh), 1, score
            cx, cy, bw, bh = (np.float64(v) / size for v in out[0, i, :4])
            box = [(cx - bw / 2) * w, (cy - bh / 2) * h, bw * w, bh * h]
            found.append(dict(image_id=image + 1, category_id=k, bbox=[float(v) for v in box], score=float(score)))
        outs.append(dict(out=out))
        annotations.append(dict(boxes=dict(width=w, height=h, boxes=boxes)))
    adapter = dict(type="yolo_v5", input_size=size, conf_threshold=0.01)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(images=images, annotations=truths, categories=[dict(id=k, name=str(k)) for k in range(c)])
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(found), "bbox")
        judge.params.maxDets = [1, 3, 100]
        judge.evaluate(), judge.accumulate()
    precision = judge.eval["precision"]  # thresholds, recalls, classes, areas, detections

    def mean(thresholds, area, most):
        p = precision[thresholds, :, :, area, most]
        return p[p > -1].mean()

    every = slice(None)
    case("coco", "coco_precision", dict(adapter=adapter), outs, annotations, mean(every, 0, 2))
    case("coco at 0.5", "coco_precision", dict(adapter=adapter, threshold=0.5), outs, annotations, mean([0], 0, 2))
    case("coco at 0.75", "coco_precision", dict(adapter=adapter, threshold=0.75), outs, annotations, mean([5], 0, 2))
    for area, name in enumerate(("small", "medium", "large"), 1):
        case(f"coco {name}", "coco_precision", dict(adapter=adapter, area=name), outs, annotations, mean(every, area, 2))
    few = dict(adapter=adapter, max_detections=1)
    case("coco, one detection", "coco_precision", few, outs, annotations, mean(every, 0, 0))
    few = dict(adapter=adapter, max_detections=3)
    case("coco, three detections", "coco_precision", few, outs, annotations, mean(every, 0, 1))

    for integral in ("max", "11point"):
        for margin in (0, 1):
            for ignore in (False, True):
                value = np.mean([voc(k, annotations, found, integral, margin, ignore) for k in range(c)])
                parameters = dict(
                    adapter=adapter, integral=integral, include_boundaries=bool(margin), ignore_difficult=ignore
                )
                name = f"voc {integral}, margin {margin}, difficult {'ignored' if ignore else 'counted'}"
                case(name, "map", parameters, outs, annotations, value)


def voc(k, annotations, found, integral, margin, ignore):
    """Average precision of one class: detections of all images from the surest on, each judged by its best object."""
    objects = [[b for b in a["boxes"]["boxes"] if b["class"] == k] for a in annotations]
    total = sum(not (ignore and b["is_difficult"]) for image in objects for b in image)
    taken, tp, fp = set(), [], []
    order = sorted((d for d in found if d["category_id"] == k), key=lambda d: -d["score"])
    for d in order:
        x, y, w, h = d["bbox"]
        best, at = -1, None
        for j, b in enumerate(objects[d["image_id"] - 1]):
            u, v, s, t = b["bbox"]
            iw = min(x + w, u + s) - max(x, u) + margin
            ih = min(y + h, v + t) - max(y, v) + margin
            inter = max(iw, 0) * max(ih, 0)
            iou = inter / ((w + margin) * (h + margin) + (s + margin) * (t + margin) - inter)
            if iou > best:
                best, at = iou, j
        hit = miss = 0
        if best >= 0.5 and ignore and objects[d["image_id"] - 1][at]["is_difficult"]:
            pass
        elif best >= 0.5 and (d["image_id"], at) not in taken:
            taken.add((d["image_id"], at))
            hit = 1
        else:
            miss = 1
        tp.append(hit)
        fp.append(miss)
    tp, fp = np.cumsum(tp), np.cumsum(fp)
    recall, precision = tp / total, tp / np.maximum(tp + fp, 1)
    if integral == "11point":
        return np.mean([max(precision[recall >= t], default=0) for t in np.linspace(0, 1, 11)])
    recall, precision = np.r_[0, recall, 1], np.r_[0, precision, 0]
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return np.sum(np.diff(recall) * precision[1:])


classification(), regression(), tokens(), segmentation(), text(), detection()
json.dump(dict(data=data, cases=cases), sys.stdout, ensure_ascii=False)
sys.stdout.write("\n")
