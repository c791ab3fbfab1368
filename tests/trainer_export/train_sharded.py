"""Trains an exported folder sharded over processes by torch's FSDP, the model as it is.

    torchrun --nproc_per_node 2 train_sharded.py MODEL STEPS

Prints one JSON line: the loss of every step, of all the processes together, and how large a part of
the parameters the first process holds.
"""

from __future__ import annotations

import json
import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM

ROWS = 4


def main(folder: str, steps: int) -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    mesh = init_device_mesh("cpu", (world,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.randint(0, model.config.vocab_size, (ROWS, 32))[rank::world]
    losses = []
    for _ in range(steps):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        losses.append(float(mean) / world)
    parts = [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]
    held = sum(part.numel() for part in parts)
    if rank == 0:
        every = sum(p.numel() for p in model.parameters())
        print(json.dumps({"losses": losses, "share_held": held / every}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
