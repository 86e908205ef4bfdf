"""Writes the models that tests/pretrained.rs reads, and what their own programs make of an image: python make_models.py

Needs torch, timm, transformers and safetensors (made with 2.13.0, 1.0.31, 5.24.0 and 0.8.0). Small networks of random
weights, a folder for each, with config.json where that program writes one; expected.safetensors has the images and the
tokens, and where the program has one the feature of the whole image.
"""

import collections
import json
import pathlib

import timm
import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
NATIVE, OTHER = (16, 16), (12, 28)
expected = {}


def image(height, width):
    return torch.sin(torch.arange(3 * height * width, dtype=torch.float32) * 0.37).reshape(1, 3, height, width)


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if not parameter.is_floating_point():
            continue
        drawn = torch.randn(parameter.shape, generator=generator)
        is_gain = name.endswith("weight") and parameter.dim() == 1
        parameter.copy_(1 + 0.1 * drawn if is_gain else 0.15 * drawn)
    return model.eval()


def save(name, state, file="model.safetensors"):
    (HERE / name).mkdir(exist_ok=True)
    state = {key: value.contiguous().clone() for key, value in state.items()}
    save_file(state, HERE / name / file, {"format": "pt"})


def tokens(name, native, other=None, pooled=None):
    expected[f"{name}.native"] = native.contiguous()
    if other is not None:
        expected[f"{name}.other"] = other.contiguous()
    if pooled is not None:
        expected[f"{name}.pooled"] = pooled.contiguous()


SHAPE = dict(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2, num_classes=3)


def of_timm(name, seed, kind=timm.models.vision_transformer.VisionTransformer, write=True, **settings):
    model = randomise(kind(**SHAPE, dynamic_img_size=True, **settings), seed)
    native, other = (model.forward_features(image(*size)) for size in (NATIVE, OTHER))
    pooled = None if kind is not timm.models.vision_transformer.VisionTransformer else model.forward_head(native, True)
    tokens(name, native, other, pooled)
    if write:
        save(name, model.state_dict())
    return model


def of_transformers(name, seed, model):
    randomise(model, seed)
    if isinstance(model, transformers.ViTMAEForPreTraining):
        noise = torch.arange(16).float()[None]
        tokens(name, model.vit(image(*NATIVE), noise=noise).last_hidden_state)
    else:
        run = lambda size, **more: model(image(*size), **more).last_hidden_state
        more = {} if "dinov2" in model.config.model_type else {"interpolate_pos_encoding": True}
        tokens(name, run(NATIVE), run(OTHER, **more))
    (HERE / name).mkdir(exist_ok=True)
    model.save_pretrained(HERE / name)  # the names of version 4
    save(name, model.state_dict(), "names-of-version-5.safetensors")


expected["image.native"], expected["image.other"] = image(*NATIVE), image(*OTHER)
with torch.no_grad():
    of_timm("timm-plain", 1)
    of_timm("timm-no-embed-class", 2, no_embed_class=True)
    of_timm("timm-scaled-registers", 3, init_values=0.5, reg_tokens=4, no_embed_class=True)
    of_timm("timm-registers-with-positions", 4, reg_tokens=2)
    of_timm("timm-fc-norm", 5, global_pool="avg")
    of_timm("timm-gap", 6, global_pool="avg", fc_norm=False, class_token=False, reg_tokens=4, no_embed_class=True)
    of_timm("timm-no-qkv-bias", 7, qkv_bias=False)
    of_timm("timm-distilled", 8, timm.models.deit.VisionTransformerDistilled)

    # DINOv2: chunks of blocks, a position for the class token and none for the registers, beside other parts.
    model = of_timm("dinov2-registers", 9, init_values=0.5, reg_tokens=4, no_embed_class=True, write=False)
    state = model.state_dict()
    first = torch.full((1, 1, 16), 0.25)
    state["cls_token"] = state["cls_token"] - first
    state["pos_embed"] = torch.cat([first, state["pos_embed"]], 1)
    state["register_tokens"] = state.pop("reg_token")
    state["mask_token"] = torch.zeros(1, 16)
    backbone = {key.replace("blocks.", "blocks.0."): value for key, value in state.items() if not key.startswith("head")}
    teacher = {f"backbone.{key}": value for key, value in backbone.items()}
    teacher["dino_head.mlp.0.weight"] = torch.zeros(2, 16)
    (HERE / "dinov2-registers").mkdir(exist_ok=True)
    torch.save({"teacher": collections.OrderedDict(teacher), "iteration": 5}, HERE / "dinov2-registers" / "model.pth")

    # MAE before its decoder is thrown away.
    state = of_timm("mae", 10, write=False).state_dict()
    state = {key: value for key, value in state.items() if not key.startswith("head")}
    state |= {"mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 16)}
    state |= {"decoder_pos_embed": torch.zeros(1, 17, 8), "decoder_blocks.0.norm1.weight": torch.ones(8)}
    (HERE / "mae").mkdir(exist_ok=True)
    torch.save({"model": state}, HERE / "mae" / "model.pth")

    hf = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=4)
    vit = dict(hf, intermediate_size=32)
    of_transformers("hf-vit", 11, transformers.ViTModel(transformers.ViTConfig(**vit)))
    of_transformers("hf-deit", 12, transformers.DeiTModel(transformers.DeiTConfig(**vit)))
    dino = dict(hf, mlp_ratio=2)
    of_transformers("hf-dinov2", 13, transformers.Dinov2Model(transformers.Dinov2Config(**dino)))
    registers = transformers.Dinov2WithRegistersConfig(**dino)
    of_transformers("hf-dinov2-registers", 14, transformers.Dinov2WithRegistersModel(registers))
    decoder = dict(decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=2)
    mae = transformers.ViTMAEConfig(**vit, **decoder, decoder_intermediate_size=8, mask_ratio=0.0)
    of_transformers("hf-mae", 15, transformers.ViTMAEForPreTraining(mae))

save_file({key: value.contiguous().clone() for key, value in expected.items()}, HERE / "expected.safetensors")
print(json.dumps({key: list(value.shape) for key, value in expected.items()}, indent=1))
