"""The Python module that target `torchtitan` writes: one model and one trainer config.

It is built from torchtitan's own parts, after the pattern of its `models/qwen3`, as there are no
config files of models. What is in braces is filled in from tables in `torchtitan.py`.
"""

from __future__ import annotations

from typing import Final

MODULE: Final = '''\
"""Candidate {name} for torchtitan {version}, written by phonesearch {phonesearch}.

`model_spec()` is the model, `train()` a config of the trainer to change as you like.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torchtitan.components.checkpoint import CheckpointManager
from torchtitan.components.loss import ChunkedLossWrapper, CrossEntropyLoss
from torchtitan.components.metrics import MetricsProcessor
from torchtitan.components.optimizer import LRSchedulersContainer, default_adamw
from torchtitan.config import TrainingConfig
from torchtitan.distributed.activation_checkpoint import SelectiveAC
from torchtitan.distributed.pipeline_parallel import pipeline_llm
from torchtitan.hf_datasets.text_datasets import HuggingFaceTextDataLoader
from torchtitan.models.common import CosSinRoPE, Embedding, Linear
from torchtitan.models.common.attention import GQAttention, QKVLinear
from torchtitan.models.common.config_utils import get_attention_config
from torchtitan.models.common.feed_forward import FeedForward
from torchtitan.models.common.nn_modules import RMSNorm
from torchtitan.models.common.param_init import skip_param_init
from torchtitan.models.qwen3.model import Qwen3Model, Qwen3TransformerBlock
from torchtitan.models.qwen3.parallelize import parallelize_qwen3
from torchtitan.models.qwen3.state_dict_adapter import Qwen3StateDictAdapter
from torchtitan.protocols.model_spec import ModelSpec
from torchtitan.trainer import Trainer

{numbers}

# The recipe of the first column of TRAINING.md.
{recipe}

STD = 0.02
RESIDUAL_STD = STD / (2 * N_LAYERS) ** 0.5  # of what writes to the residual stream (GPT-2)


def activation(x: torch.Tensor) -> torch.Tensor:
    return {activation}


class CandidateFeedForward(FeedForward):
    """The gated w2(act(w1(x)) * w3(x)), or the plain w2(act(w1(x)))."""

    @dataclass(kw_only=True, slots=True)
    class Config(FeedForward.Config):
        """As torchtitan's; where it is plain, w3 is only there to be given a sharding."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if not GATED:
            del self.w3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = activation(self.w1(x))
        return self.w2(inner * self.w3(x) if GATED else inner)


class CandidateStateDictAdapter(Qwen3StateDictAdapter):
    """Names of Hugging Face's checkpoints, for biases and plain networks too."""

    def __init__(self, model_config: Qwen3Model.Config, hf_assets_path: str | None) -> None:
        super().__init__(model_config, hf_assets_path)
        if not GATED:
            del self.from_hf_map["model.layers.{{}}.mlp.gate_proj.weight"]
            theirs = "layers.{{}}.feed_forward.w1.weight"
            self.from_hf_map["model.layers.{{}}.mlp.up_proj.weight"] = theirs
        for ours, theirs in list(self.from_hf_map.items()):
            if "_proj.weight" in ours:
                bias = ours.replace("_proj.weight", "_proj.bias")
                self.from_hf_map[bias] = theirs.replace(".weight", ".bias")


def linear(inputs: int, outputs: int, *, bias: bool = False, std: float = STD) -> Linear.Config:
    return Linear.Config(
        in_features=inputs,
        out_features=outputs,
        bias=bias,
        param_init={{"weight": partial(nn.init.normal_, std=std), "bias": nn.init.zeros_}},
    )


def norm(width: int) -> RMSNorm.Config:
    return RMSNorm.Config(
        normalized_shape=width, eps=NORM_EPS, param_init={{"weight": nn.init.ones_}}
    )


def layer() -> Qwen3TransformerBlock.Config:
    return Qwen3TransformerBlock.Config(
        attention_norm=norm(DIM),
        ffn_norm=norm(DIM),
        attention=GQAttention.Config(
            dim=DIM,
            n_heads=N_HEADS,
            n_kv_heads=N_KV_HEADS,
            head_dim=HEAD_DIM,
            qkv_linear=QKVLinear.Config(
                head_dim=HEAD_DIM,
                wq=linear(DIM, N_HEADS * HEAD_DIM, bias=QKV_BIAS),
                wkv=linear(DIM, N_KV_HEADS * HEAD_DIM, bias=QKV_BIAS),
            ),
            wo=linear(N_HEADS * HEAD_DIM, DIM, bias=OUT_BIAS, std=RESIDUAL_STD),
            qk_norm=norm(HEAD_DIM) if QK_NORM else None,
            inner_attention=get_attention_config("flex"),
            rope=CosSinRoPE.Config(dim=HEAD_DIM, max_seq_len=MAX_SEQ_LEN, theta=ROPE_THETA),
        ),
        feed_forward=CandidateFeedForward.Config(
            w1=linear(DIM, HIDDEN_DIM, bias=FFN_BIAS),
            w2=linear(HIDDEN_DIM, DIM, bias=FFN_BIAS, std=RESIDUAL_STD),
            w3=linear(DIM, HIDDEN_DIM, bias=FFN_BIAS),
        ),
    )


def model_spec() -> ModelSpec:
    table = skip_param_init if TIED else partial(nn.init.normal_, std=STD)
    return ModelSpec(
        name="qwen3",
        flavor="phonesearch-{name}",
        model=Qwen3Model.Config(
            dim=DIM,
            vocab_size=VOCAB_SIZE,
            enable_weight_tying=TIED,
            tok_embeddings=Embedding.Config(
                num_embeddings=VOCAB_SIZE, embedding_dim=DIM, param_init={{"weight": table}}
            ),
            norm=norm(DIM),
            lm_head=linear(DIM, VOCAB_SIZE),
            layers=[layer() for _ in range(N_LAYERS)],
        ),
        parallelize_fn=parallelize_qwen3,
        pipelining_fn=pipeline_llm,
        post_optimizer_build_fn=None,
        state_dict_adapter=CandidateStateDictAdapter,
    )


def train() -> Trainer.Config:
    return Trainer.Config(
        model_spec=model_spec(),
        hf_assets_path=".",
        loss=ChunkedLossWrapper.Config(
            loss_fn=CrossEntropyLoss.Config(global_vocab_size=VOCAB_SIZE)
        ),
        dataloader=HuggingFaceTextDataLoader.Config(dataset="c4"),
        optimizer=default_adamw(lr=PEAK_LR, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY),
        lr_scheduler=LRSchedulersContainer.Config(
            warmup_steps=WARMUP_STEPS, decay_type="cosine", min_lr_factor=MIN_LR_FACTOR
        ),
        training=TrainingConfig(
            local_batch_size=LOCAL_BATCH_SIZE,
            global_batch_size=GLOBAL_BATCH_SIZE,
            seq_len=MAX_SEQ_LEN,
            max_norm=MAX_NORM,
            steps=STEPS,
        ),
        metrics=MetricsProcessor.Config(log_freq=10),
        checkpoint=CheckpointManager.Config(enable=True, interval=1000),
        activation_checkpoint=SelectiveAC.Config(),
    )
'''
