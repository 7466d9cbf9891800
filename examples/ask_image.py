"""Ask about an image with a quarter of its visual tokens, and draw which ones those were.

python examples/ask_image.py
"""

from pathlib import Path

import vidcompress

HERE = Path(__file__).parent


def main(overlay: Path = Path("kept-image.png")) -> vidcompress.Answer:
    qa = vidcompress.VisualQA.from_pretrained(retention_ratio=0.25)  # the embedded tiny-onevision
    answer = qa.ask("what shape is the red object?", image=HERE / "scene.png")
    print(answer.text)
    print(answer.report)
    answer.overlay().save(overlay)
    return answer


if __name__ == "__main__":
    main()
