"""Several questions about one clip, which is encoded and compressed once.

python examples/conversation.py
"""

from pathlib import Path

import vidcompress

CLIP = Path(__file__).parent / "clip.mp4"
QUESTIONS = ("which shape appears first?", "what digit is shown?", "what color is the circle?")


def main() -> list[vidcompress.Answer]:
    qa = vidcompress.VisualQA.from_pretrained("tiny-onevision", retention_ratio=0.25)
    chat = qa.chat(video=CLIP, history=False)  # each question for itself; history=True is a conversation
    for question in QUESTIONS:
        print(f"{question} ", end="", flush=True)
        for piece in chat.stream(question):
            print(piece, end="", flush=True)
        print(f"   ({chat.answers[-1].timing_ms['total']:.0f} ms)")
    return chat.answers


if __name__ == "__main__":
    main()
