"""Small models with random weights, written as the files that a user would have. No test here."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from imgflow.engines.compute import Compute
from imgflow.engines.held import Bench
from imgflow.engines.shelf.cards import Card, CardFile
from imgflow.engines.shelf.shelf import Shelf


def on_shelf(root: Path, name: str, **fields: Any) -> Shelf:
    """A shelf where all files that lie in `root/name` belong to a model of that card."""
    folder = root / name
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name != "card.json"
    )
    card = Card.model_validate(
        {
            "title": name,
            "licence": "MIT",
            "files": [CardFile(path=path.relative_to(folder).as_posix()) for path in files],
            **fields,
        }
    )
    (folder / "card.json").write_text(card.model_dump_json(exclude_defaults=True))
    return Shelf(root)


def bench(**fields: Any) -> Bench:
    return Bench(Compute(**{"device": "cpu", "precision": "float32", **fields}))


def folder_of(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compact(path: Path, scale: int = 2, *, features: int = 8, seed: int = 0) -> Path:
    """A Compact (SRVGG) super-resolution network, as safetensors or as a pickle of tensors."""
    from safetensors.torch import save_file
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    torch.manual_seed(seed)
    network = SRVGGNetCompact(
        num_in_ch=3, num_out_ch=3, num_feat=features, num_conv=2, upscale=scale, act_type="prelu"
    )
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, str(path))
    else:
        torch.save({"params": state}, path)
    return path


def swinir(path: Path, scale: int = 2) -> Path:
    """A SwinIR of two blocks, as a pickle of tensors. It makes masks in float32 as it works."""
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = SwinIR(
            upscale=scale,
            in_chans=3,
            img_size=16,
            window_size=8,
            img_range=1.0,
            depths=[2],
            embed_dim=16,
            num_heads=[2],
            mlp_ratio=2,
            upsampler="pixelshuffledirect",
        )
    torch.save({"params": network.state_dict()}, path)
    return path


def lama(path: Path) -> Path:
    """LaMa as it is, in half precision: spandrel knows it in one size only."""
    from safetensors.torch import save_file
    from spandrel.architectures.LaMa.__arch.LaMa import LaMa

    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = LaMa(in_nc=4, out_nc=3).state_dict()
    state = {}
    for key, value in shapes.items():
        if not value.is_floating_point():
            state[key] = torch.zeros(value.shape, dtype=value.dtype)
        elif value.dim() == 1:  # of normalisations: 1 changes nothing
            state[key] = torch.ones(value.shape, dtype=torch.float16)
        else:
            state[key] = (torch.rand(value.shape) - 0.5).mul_(0.02).half()
    save_file(state, str(path))
    return path


class PlainFill(torch.nn.Module):
    """Fills with the mean of what is known: what LaMa's interface is, in one line."""

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        known = 1 - mask
        mean = (image * known).sum(dim=(2, 3), keepdim=True) / known.sum().clamp(min=1)
        return image * known + mean * mask


def torchscript(path: Path, network: torch.nn.Module | None = None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network or PlainFill()).save(str(path))
    return path


def _tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer with the letters only."""
    from transformers import CLIPTokenizer

    letters = [chr(each) for each in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{each}</w>" for each in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )


def pipeline(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """A Stable Diffusion pipeline of 4-channel blocks. kind: inpaint, upscale or generate."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        DDPMScheduler,
        StableDiffusionInpaintPipeline,
        StableDiffusionPipeline,
        StableDiffusionUpscalePipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    tokenizer = _tokenizer(folder / "tokenizer")
    channels = {"inpaint": 9, "upscale": 7, "generate": 4}[kind]
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
        num_class_embeds=1000 if kind == "upscale" else None,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8) if kind == "upscale" else (8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * (3 if kind == "upscale" else 4),
        up_block_types=("UpDecoderBlock2D",) * (3 if kind == "upscale" else 4),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )
    words = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer) + 1,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    parts: dict[str, Any] = {
        "vae": vae,
        "text_encoder": words,
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": DDIMScheduler(),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "upscale":
            made: Any = StableDiffusionUpscalePipeline(
                low_res_scheduler=DDPMScheduler(), max_noise_level=350, **parts
            )
        else:
            chosen = (
                StableDiffusionInpaintPipeline if kind == "inpaint" else StableDiffusionPipeline
            )
            made = chosen(
                safety_checker=None, feature_extractor=None, requires_safety_checker=False, **parts
            )
        made.save_pretrained(str(folder), safe_serialization=True)
    return folder
