"""Plug and play: code that calls model.generate stays as it is; a `with` block around it compresses.

python examples/plug_and_play.py
"""

from pathlib import Path

from transformers import AutoModelForImageTextToText

import vidcompress
from vidcompress.loading.resources import find

HERE = Path(__file__).parent


def main() -> tuple[str, str]:
    model = AutoModelForImageTextToText.from_pretrained(find("models/tiny-next")).eval()
    processor = vidcompress.load_processor(model)
    content = [{"type": "image"}, {"type": "text", "text": "what shape is the red object?"}]
    inputs = processor(
        text=[processor.apply_chat_template([{"role": "user", "content": content}])],
        images=[HERE / "scene.png"],
    )

    def answer() -> str:  # the code of somebody who has never heard of vidcompress
        out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        return processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[
            0
        ].strip()

    stock = answer()
    with vidcompress.compress(model, method="globalcom2", retention_ratio=0.25) as session:
        compressed = answer()
    print(f"all tokens: {stock}   a quarter: {compressed}")
    print(session.report)
    return stock, compressed


if __name__ == "__main__":
    main()
