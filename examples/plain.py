"""The plain way: make the model's inputs shorter, then call the model's own generate.

python examples/plain.py
"""

from pathlib import Path

from transformers import AutoModelForImageTextToText

import vidcompress
from vidcompress.loading.resources import find

HERE = Path(__file__).parent


def main() -> str:
    path = find("models/tiny-onevision")  # or a hub id, such as "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    model = AutoModelForImageTextToText.from_pretrained(path).eval()
    processor = vidcompress.load_processor(model)

    message = {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "what shape is the red object?"}],
    }
    prompt = processor.apply_chat_template([message])
    inputs = processor(text=[prompt], images=[HERE / "scene.png"])

    shorter = vidcompress.compress_inputs(model, inputs, method="globalcom2", retention_ratio=0.25)
    out = model.generate(**shorter, max_new_tokens=8, do_sample=False)

    answer = processor.batch_decode(out[:, shorter["input_ids"].shape[1] :], skip_special_tokens=True)[
        0
    ].strip()
    print(answer)
    print(f"prompt: {inputs['input_ids'].shape[1]} -> {shorter['input_ids'].shape[1]} tokens")
    print(shorter.report)
    return answer


if __name__ == "__main__":
    main()
