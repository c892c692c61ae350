#!/usr/bin/env python3
"""Draws when a decoded token's query should be routed to cached latents, and when the latents fetched to it.

    docs/figures/route_or_fetch.py > docs/figures/route_or_fetch.svg

Runs `tessera run kimi_linear_sharded` (cost model; its first MLA layer) for every fabric, batch and context under
both policies, and draws the ratio of the layer's times. Needs Python 3 and nothing else; $TESSERA, if it is set, is the
command to run."""
import json
import math
import os
import pathlib
import subprocess
import sys

TESSERA = os.environ.get("TESSERA", str(pathlib.Path(__file__).resolve().parents[2] / "tessera"))
FABRICS = [("nvlink4_nvswitch", "NVLink 4, 450 GB/s"), ("infiniband_ndr", "InfiniBand NDR, 50 GB/s"),
           ("ethernet_100g_lan", "Ethernet, 12.5 GB/s")]
BATCHES = [(1, "#1b6ca8"), (8, "#c8553d"), (64, "#5b8c5a")]
CONTEXTS = [2 ** p for p in range(6, 21, 2)]
STEPS = 16
LAYER = 3  # of four: the first that is MLA


def layer_us(fabric, batch, context, policy):
    keys = {"model.num_hidden_layers": LAYER + 1, "fabric": fabric, "workload.latents": policy,
            "workload.batch": batch, "workload.prefill_tokens": context, "workload.cached_tokens": "all",
            "workload.decode_steps": STEPS}
    command = [TESSERA, "run", "kimi_linear_sharded", "--fidelity", "cost", "--json", "-"]
    for key, value in keys.items():
        command += ["--set", f"{key}={value}"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(result.stderr)
    return next(l["decode_us"] for l in json.loads(result.stdout)["layers"] if l["layer"] == LAYER)


LEFT, TOP, WIDTH, HEIGHT, GAP = 50, 78, 250, 200, 26
LOW, HIGH = 0.5, 300.0  # of the ratio drawn


def x_of(panel, context):
    low, high = math.log2(CONTEXTS[0]), math.log2(CONTEXTS[-1])
    return LEFT + panel * (WIDTH + GAP) + WIDTH * (math.log2(context) - low) / (high - low)


def y_of(ratio):
    at = min(max(ratio, LOW), HIGH)
    return TOP + HEIGHT * math.log(HIGH / at) / math.log(HIGH / LOW)


def text(x, y, words, anchor="middle", size=12, more=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}"{more}>{words}</text>'


def main():
    width, height = LEFT + len(FABRICS) * (WIDTH + GAP), TOP + HEIGHT + 66
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           text(LEFT, 20, "Time if cached latents are fetched to the query / time if the query is routed to them", "start", 14),
           text(LEFT, 40, f"one MLA layer of Kimi-Linear, decoding {STEPS} tokens over 4 CompNodes and 2 x 2 AttnNodes",
                "start", 12, ' fill="#555"')]
    for panel, (fabric, title) in enumerate(FABRICS):
        left, bottom = LEFT + panel * (WIDTH + GAP), TOP + HEIGHT
        out.append(text(left + WIDTH / 2, TOP - 8, title, size=13))
        out.append(f'<rect x="{left}" y="{y_of(1):.1f}" width="{WIDTH}" height="{bottom - y_of(1):.1f}" fill="#f1f1ee"/>')
        for ratio in (1, 10, 100):
            y = y_of(ratio)
            dash = "" if ratio == 1 else ' stroke-dasharray="2 3"'
            out.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#888"{dash}/>')
            if panel == 0:
                out.append(text(left - 6, y + 4, f"{ratio:g}", "end", 11))
        for context in CONTEXTS:
            x = x_of(panel, context)
            name = str(context) if context < 1024 else f"{context // 1024}K" if context < 2 ** 20 else "1M"
            out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="#444"/>')
            out.append(text(x, bottom + 17, name, size=10))
        out.append(f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#444"/>')
        for batch, colour in BATCHES:
            points = []
            for context in CONTEXTS:
                times = {p: layer_us(fabric, batch, context, p) for p in ("route", "fetch")}
                ratio = times["fetch"] / times["route"]
                print(f"{fabric} batch {batch} context {context}: route {times['route']:.1f} us, "
                      f"fetch {times['fetch']:.1f} us", file=sys.stderr)
                points.append((x_of(panel, context), y_of(ratio)))
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x, y in points]
    out.append(text(LEFT + 8, TOP + 18, "routing is faster", "start", 11, ' fill="#555"'))
    out.append(text(LEFT + WIDTH - 8, TOP + HEIGHT - 7, "fetching is faster", "end", 11, ' fill="#555"'))
    out.append(text(LEFT + (len(FABRICS) * (WIDTH + GAP) - GAP) / 2, TOP + HEIGHT + 36, "cached tokens of each sequence"))
    for i, (batch, colour) in enumerate(BATCHES):
        x = LEFT + (len(FABRICS) * (WIDTH + GAP) - GAP) / 2 + (i - 1) * 110
        y = TOP + HEIGHT + 54
        out.append(f'<line x1="{x - 46}" x2="{x - 26}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="2"/>')
        out.append(text(x - 20, y, f"batch {batch}", "start"))
    out.append("</svg>")
    print("\n".join(out))


main()
