"""Checks of devices: a small matrix product and attention in each dtype, and the attention implementations."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

DTYPES = {"float32": 1e-3, "bfloat16": 4e-2, "float16": 5e-3}
"""Largest allowed error by dtype, relative to the largest entry; float32 may run as TF32."""
_DECODER: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}
ATTENTION = ("eager", "sdpa", "flex_attention", "flash_attention_2")


def devices() -> list[dict[str, str]]:
    """Name and description of the devices that torch sees."""
    import torch

    listed = [{"device": "cpu", "what": f"{torch.get_num_threads()} threads"}]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        memory, version = properties.total_memory / 2**30, f"{properties.major}.{properties.minor}"
        what = f"{properties.name}, {memory:.0f} GiB, compute capability {version}"
        listed.append({"device": f"cuda:{number}", "what": what})
    if torch.backends.mps.is_available():
        listed.append({"device": "mps", "what": "Apple GPU"})
    return listed


def compute(device: str, dtype: str) -> dict[str, Any]:
    """Check a matrix product and an attention on a device against float64 on the CPU.

    Returns:
        `status` and `detail` of a check.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention as attend

    kind = getattr(torch, dtype)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 4, 33, 32, generator=generator).to(kind) for _ in range(3))
    q, k, v = (x.to(device) for x in (query, key, value))
    exact_q, exact_k, exact_v = (x.double() for x in (query, key, value))
    results = {}
    for name, computed, expected in (
        ("matmul", q @ k.mT, exact_q @ exact_k.mT),
        ("attention", attend(q, k, v), attend(exact_q, exact_k, exact_v)),
    ):
        results[name] = float((computed.cpu().double() - expected).abs().max() / expected.abs().max())
    wrong = {name: error for name, error in results.items() if not error <= DTYPES[dtype]}
    if wrong:
        return {"status": "failed", "detail": f"wrong numbers: relative error {wrong}", "data": results}
    return {"status": "ok", "detail": f"relative error {max(results.values()):.0e}", "data": results}


def attention(device: str, implementation: str) -> dict[str, Any]:
    """Check an attention implementation in a two-layer decoder against eager attention.

    Returns:
        `status` and `detail` of a check.
    """
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    flash = implementation.startswith("flash")
    if flash and find_spec("flash_attn") is None:
        return {"status": "missing", "detail": "flash-attn is not installed"}
    if flash and not device.startswith("cuda"):
        return {"status": "missing", "detail": "needs a CUDA device"}
    dtype = torch.bfloat16 if flash else torch.float32
    torch.manual_seed(0)
    # Each has a config of its own, since a model writes its implementation into its config.
    plain, other = (
        AutoModelForCausalLM.from_config(LlamaConfig(**_DECODER), attn_implementation=name, dtype=dtype)
        for name in ("eager", implementation)
    )
    other.load_state_dict(plain.state_dict())
    plain, other = plain.to(device).eval(), other.to(device).eval()
    ids = torch.arange(24, device=device)[None]
    with torch.no_grad():
        expected, computed = plain(input_ids=ids).logits.double(), other(input_ids=ids).logits.double()
    error = float((computed - expected).abs().max() / expected.abs().max())
    allowed = 5e-2 if flash else 5e-3
    if not error <= allowed:
        return {"status": "failed", "detail": f"differs from eager attention by {error:.0e}, relative"}
    return {"status": "ok", "detail": f"agrees with eager to {error:.0e}"}
