"""Ask several questions about a video, each with at most 40 visual tokens, all in one batch.

python examples/ask_video.py
"""

from pathlib import Path

import vidcompress

HERE = Path(__file__).parent
QUESTIONS = ("how many objects are there?", "which shape appears first?", "what digit is shown?")


def main(overlay: Path = Path("kept-video.png")) -> list[vidcompress.Answer]:
    qa = vidcompress.VisualQA.from_pretrained(method="vidcom2", max_tokens=40, num_frames=8)
    answers = qa.ask_batch([{"question": question, "video": HERE / "clip.mp4"} for question in QUESTIONS])
    for answer in answers:
        print(f"{answer.question} {answer.text}")
    print(answers[0].report)
    answers[0].overlay().save(overlay)
    return answers


if __name__ == "__main__":
    main()
