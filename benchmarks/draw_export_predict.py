"""Candidates a second through draw, structure export and predicted timing, on one core.

    OMP_NUM_THREADS=1 python benchmarks/draw_export_predict.py [--budget 1.5B] [--candidates 300]

Draws are random legal points of the default space. Rates are per second of this process' own
CPU time, so that a neighbour on a shared machine does not count; the wall clock stands beside.
As a yardstick for the machine, parsing the same graphs from bytes with protobuf is timed in the
same loop. Solving the space for the budget is done once a run and stands apart.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import onnx

from phonesearch import files
from phonesearch.catalog import resolve
from phonesearch.device.cost import predict
from phonesearch.device.profile import read_profile
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.space.grid import at_budget
from phonesearch.space.schema import SearchSpace
from phonesearch.units import parse_count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="1.5B")
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--device", default="snapdragon8gen3")
    arguments = parser.parse_args()
    profile = read_profile(str(resolve(arguments.device, "device_profiles")))

    started_s = time.perf_counter()
    space = at_budget(
        files.read(resolve("decoder", "search_spaces"), SearchSpace),
        parse_count(arguments.budget),
    )
    solve_s = time.perf_counter() - started_s

    generator = np.random.default_rng(0)
    parse_s, whole_s, wall_s = 0.0, 0.0, 0.0
    slowest_s, layers = 0.0, 0
    for _ in range(arguments.candidates):
        wall_started_s, started_s = time.perf_counter(), time.process_time()
        candidate = space.candidate(int(generator.integers(len(space))))
        structure = build_structure(candidate, GraphSettings())
        predict(structure, profile, engine=None, prompt_tokens=128, generate_tokens=128)
        took_s = time.process_time() - started_s
        wall_s += time.perf_counter() - wall_started_s
        whole_s += took_s
        slowest_s = max(slowest_s, took_s)
        layers += candidate.num_hidden_layers
        content = structure.SerializeToString()
        started_s = time.process_time()
        onnx.ModelProto.FromString(content)
        parse_s += time.process_time() - started_s
    found = {
        "candidates_per_cpu_s": arguments.candidates / whole_s,
        "candidates_per_wall_s": arguments.candidates / wall_s,
        "mean_cpu_s": whole_s / arguments.candidates,
        "slowest_cpu_s": slowest_s,
        "mean_layers": layers / arguments.candidates,
        "times_parsing_the_graph": whole_s / parse_s,
        "solve_space_once_s": solve_s,
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
