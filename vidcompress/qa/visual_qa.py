"""Question answering about images and videos: load a model once, ask one question or many."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch
from transformers.processing_utils import ProcessorMixin
from transformers.utils.quantization_config import QuantizationConfigMixin

from vidcompress.adapters.base import adapter_for
from vidcompress.checks import DEFAULT_MAX_FRAMES, flag, whole_number
from vidcompress.core.budget import Policy, Ratio, Separators
from vidcompress.core.config import (
    DEFAULT_METHOD,
    DEFAULT_RATIO,
    NO_SAVING,
    CompressionConfig,
    EncoderSaving,
    read_config,
)
from vidcompress.core.devices import DeviceMap, input_device
from vidcompress.core.foreign_arguments import ASKING, LOADING, instead, refuse
from vidcompress.core.method import Mass, Method, Positions
from vidcompress.core.prompt import ViewText
from vidcompress.core.wrappers import Model
from vidcompress.errors import ArgumentError, shown
from vidcompress.loading.arguments import GenerateOptions, check_model
from vidcompress.loading.compile import check_compile, compile_decoder
from vidcompress.loading.load import DType, load_model, one_dtype, resolve
from vidcompress.loading.quantization import Quantization
from vidcompress.loading.resources import model_name
from vidcompress.media import ImageSource, MediaProcessor, VideoSource, load_processor
from vidcompress.media.preprocessing.stock_processor import processor_of
from vidcompress.media.video.backends import BackendName, get_backend
from vidcompress.media.video.sampling import NumFrames, read_sampling
from vidcompress.progress import question_progress
from vidcompress.qa.answer import Answer
from vidcompress.qa.chat import Chat
from vidcompress.qa.compare.grid import Variant, plan_comparison
from vidcompress.qa.compare.result import Comparison
from vidcompress.qa.compare.row_stream import RowStream
from vidcompress.qa.compare.run import run_comparison
from vidcompress.qa.memory.memory_file import check_target, read_memory, write_memory
from vidcompress.qa.memory.remembering import ask_memory, remember, streaming_pipeline
from vidcompress.qa.memory.watch import Watch
from vidcompress.qa.pipeline import Pipeline
from vidcompress.qa.question import Question, QuestionItem, read_question, remarked
from vidcompress.qa.streaming import check_streamable, stream_text

_FOR_ALL_ROWS = (
    "policy",
    "separators",
    "positions",
    "encoder_saving",
    "view_text",
    "mass",
    "mass_strength",
    "mass_cap",
)
"""Fields of the configuration that all rows of a comparison share."""


class CompareOptions(GenerateOptions, total=False):
    """Arguments of `VisualQA.compare` for all rows: how to compress, and those of the model's `generate`."""

    policy: Policy
    separators: Separators | None
    positions: Positions | None
    encoder_saving: EncoderSaving
    view_text: ViewText
    mass: Mass | None
    mass_strength: float
    mass_cap: float | None


class VisualQA:
    """Answers questions about images and videos with a quarter of the visual tokens, or as many as you say.

    Make one with `from_pretrained`, or around a model and a processor of your own. Nothing in the model is changed.

    Args:
        model: a transformers vision-language model of a family that an adapter serves, or a wrapper around one.
        processor: from `vidcompress.load_processor`; or a processor of transformers, or one of your own that meets
            `vidcompress.media.MediaProcessor`.
        method: registered name of the method, also with options as in "globalcom2:tau=5", or a `Method`.
        config: a `CompressionConfig`; replaces the method, its options, the budget and the other arguments of
            compression, which must then keep their defaults.
        retention_ratio: share of the visual tokens that reach the language model, 0 < R <= 1. With neither this
            nor `max_tokens`: 0.25, and 1.0 for the method "none".
        max_tokens: visual tokens per question instead, at least 1.
        num_frames: frames taken from a clip; with neither this nor `fps`, the checkpoint's own number (else 32) of
            a file and all of a list of frames; "all" for every one, up to `max_frames`.
        fps: frames taken per second of clip time, instead of `num_frames`.
        max_frames: most frames of a clip.
        backend: video decoder, "auto", "pyav", "decord", "torchcodec" or "pillow"; see `vidcompress.media.read_video`.
        time_instruction: put a line with the times of the frames before the question, as in LLaVA-Video's training;
            other families have no such line.
        policy, separators, positions, max_views, max_patches, encoder_saving, view_text: as for `CompressionConfig`.
        hold, mass, mass_strength, mass_cap: as there.
        **options: of the method, such as tau=10.0.

    Attributes:
        pipeline: the steps from a question to its answer, with model, processor and configuration.

    Raises:
        ArgumentError: an argument is not allowed; the message states what is.
    """

    def __init__(
        self,
        model: Model | None,
        processor: MediaProcessor | ProcessorMixin | None,
        *,
        method: str | Method = DEFAULT_METHOD,
        config: CompressionConfig | None = None,
        retention_ratio: Ratio | None = None,
        max_tokens: int | None = None,
        separators: Separators | None = None,
        positions: Positions | None = None,
        policy: Policy = CompressionConfig.policy,
        max_views: int = CompressionConfig.max_views,
        max_patches: int = CompressionConfig.max_patches,
        encoder_saving: EncoderSaving = NO_SAVING,
        view_text: ViewText = CompressionConfig.view_text,
        hold: float | None = None,
        mass: Mass | None = None,
        mass_strength: float = CompressionConfig.mass_strength,
        mass_cap: float | None = None,
        num_frames: NumFrames | None = None,
        fps: float | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
        backend: BackendName = "auto",
        time_instruction: bool = True,
        **options: object,
    ) -> None:
        checked = check_model(model, processor)
        get_backend(backend)
        sampling = read_sampling(num_frames, fps, max_frames) | {"backend": backend}
        time_instruction = flag("time_instruction", time_instruction)
        self._unnamed = False
        arguments = {
            "method": method,
            "retention_ratio": retention_ratio,
            "max_tokens": max_tokens,
            "separators": separators,
            "positions": positions,
            "policy": policy,
            "max_views": max_views,
            "max_patches": max_patches,
            "encoder_saving": encoder_saving,
            "view_text": view_text,
            "hold": hold,
            "mass": mass,
            "mass_strength": mass_strength,
            "mass_cap": mass_cap,
            **options,
        }
        own = read_config(arguments, config=config, default_ratio=DEFAULT_RATIO)
        self.pipeline = Pipeline(*checked, own, sampling, time_instruction)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        method: str | Method = DEFAULT_METHOD,
        config: CompressionConfig | None = None,
        retention_ratio: Ratio | None = None,
        max_tokens: int | None = None,
        separators: Separators | None = None,
        positions: Positions | None = None,
        policy: Policy = CompressionConfig.policy,
        max_views: int = CompressionConfig.max_views,
        max_patches: int = CompressionConfig.max_patches,
        encoder_saving: EncoderSaving = NO_SAVING,
        view_text: ViewText = CompressionConfig.view_text,
        hold: float | None = None,
        mass: Mass | None = None,
        mass_strength: float = CompressionConfig.mass_strength,
        mass_cap: float | None = None,
        num_frames: NumFrames | None = None,
        fps: float | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
        backend: BackendName = "auto",
        time_instruction: bool = True,
        device: str | torch.device | None = None,
        dtype: DType | None = None,
        torch_dtype: DType | None = None,
        attn_implementation: str | Mapping[str, str | None] | None = None,
        device_map: DeviceMap | None = None,
        quantization: Quantization | None = None,
        quantization_config: QuantizationConfigMixin | Mapping[str, object] | None = None,
        preset: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        resize_device: str | torch.device | None = None,
        compile: bool = False,
        **options: object,
    ) -> VisualQA:
        """Load a model and its processor.

        Args:
            name_or_path: None for the embedded `tiny-onevision` (images and videos), "tiny-qwen" (the same),
                "tiny-next" (images), a folder, or a hub id of a supported family. Weights must be safetensors; code in
                a checkpoint is never run.
            method: see the class, as for `config`, `retention_ratio` and `max_tokens`.
            config: a `CompressionConfig`, instead of keywords.
            retention_ratio: share of the visual tokens to keep.
            max_tokens: visual tokens per question to keep.
            separators, positions, policy, max_views, max_patches, encoder_saving, view_text: as in `CompressionConfig`.
            hold, mass, mass_strength, mass_cap: as there.
            num_frames, fps, max_frames, backend, time_instruction: reading of clips; see the class.
            device: None is "cuda" where available, else "cpu".
            dtype: None is float32 on the CPU and "auto" elsewhere; "auto" is the checkpoint's own.
            torch_dtype: the former name of `dtype` in transformers.
            attn_implementation: "sdpa", "eager", ... as in transformers.
            device_map: as in transformers ("auto", {"": "cpu"}, ...); not together with `device`. Unless it is given,
                dtype is then the checkpoint's own, quantised or not.
            quantization: "4bit" or "8bit" quantises the language model, and nothing else, with bitsandbytes.
            quantization_config: a quantization config of transformers, instead of `quantization`.
            preset: a named layout of pictures instead of the model's own, such as "2880"; see `load_processor`.
            revision: of the hub repository.
            local_files_only: do not access the hub.
            resize_device: device for resizing; "cpu" gives the same pixels on every machine. None is the model's.
            compile: compile the language model with `torch.compile`, for prompts of any length. The first answers take
                minutes longer, so it is for many questions; not with methods inside the language model.
            **options: of the method, such as tau=10.0.

        Raises:
            ArgumentError: an argument is not allowed or the checkpoint does not load.
            UnsupportedModelError: no adapter serves this family.
        """
        refuse(options, LOADING)
        dtype = one_dtype(dtype, torch_dtype)
        # Before the weights are read, so that bad options are refused at once.
        qa = cls(
            None,
            None,
            method=method,
            config=config,
            retention_ratio=retention_ratio,
            max_tokens=max_tokens,
            separators=separators,
            positions=positions,
            policy=policy,
            max_views=max_views,
            max_patches=max_patches,
            encoder_saving=encoder_saving,
            view_text=view_text,
            hold=hold,
            mass=mass,
            mass_strength=mass_strength,
            mass_cap=mass_cap,
            num_frames=num_frames,
            fps=fps,
            max_frames=max_frames,
            backend=backend,
            time_instruction=time_instruction,
            **options,
        )
        files: dict[str, Any] = {
            "preset": preset,
            "local_files_only": local_files_only,
            "revision": revision,
        }
        check_compile(
            compile,
            qa.config.method,
            device,
            device_map=device_map,
            quantization=quantization,
            quantization_config=quantization_config,
        )
        if preset is not None:
            load_processor(
                resolve(name_or_path), **files
            )  # so that it is refused before the weights are read
        model = load_model(
            name_or_path,
            device=device,
            dtype=dtype,
            attn_implementation=attn_implementation,
            device_map=device_map,
            quantization=quantization,
            quantization_config=quantization_config,
            revision=revision,
            local_files_only=local_files_only,
        )
        if compile:
            compile_decoder(adapter_for(model).decoder)
        processor = processor_of(model, resize_device=resize_device, **files)
        qa.pipeline = replace(qa.pipeline, model=model, processor=processor)
        qa._unnamed = name_or_path is None
        return qa

    def using(
        self,
        *,
        method: str | Method | None = None,
        config: CompressionConfig | None = None,
        retention_ratio: Ratio | None = None,
        max_tokens: int | None = None,
        **options: object,
    ) -> VisualQA:
        """Return a `VisualQA` that shares the model and compresses differently.

        Args:
            method: None keeps the method, and its options where `options` does not name them.
            config: a whole configuration, instead of all other arguments.
            retention_ratio: new share; with neither this nor `max_tokens` the budget stays.
            max_tokens: new number of tokens.
            **options: `policy`, `separators`, `positions`, `max_views`, `max_patches`, `encoder_saving`, `view_text`,
                `hold`, `mass`, `mass_strength`, `mass_cap`, and options of the method.

        Raises:
            ArgumentError: an argument is not allowed.
        """
        named = {"method": method, "retention_ratio": retention_ratio, "max_tokens": max_tokens}
        changes = {**{name: value for name, value in named.items() if value is not None}, **options}
        sibling = copy.copy(self)
        own = self.config.replace(**changes) if config is None else read_config(changes, config=config)
        sibling.pipeline = replace(self.pipeline, config=own)
        return sibling

    def __repr__(self) -> str:
        if self.model is None:
            return f"VisualQA(no model, {self.config!r})"
        name, family = model_name(self.model), self.model.config.model_type
        dtype = str(self.model.dtype).removeprefix("torch.")
        return f"VisualQA({name!r}, {family}, {input_device(self.model)}, {dtype}, {self.config!r})"

    @property
    def model(self) -> Any:
        """The model, without its wrappers."""
        return self.pipeline.model

    @property
    def processor(self) -> Any:
        """The processor, as a `MediaProcessor`."""
        return self.pipeline.processor

    @property
    def config(self) -> CompressionConfig:
        """The checked configuration of compression for every question."""
        return self.pipeline.config

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Arguments of `read_video` for clips."""
        return self.pipeline.sampling

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.config.method.name)

    @property
    def budget(self) -> dict[str, Any]:
        """`retention_ratio` and `max_tokens`, one of which is None."""
        return {"retention_ratio": self.config.retention_ratio, "max_tokens": self.config.max_tokens}

    def ask(
        self,
        question: str,
        *,
        image: ImageSource | None = None,
        images: Sequence[ImageSource] | None = None,
        video: VideoSource | None = None,
        max_new_tokens: int = 64,
        num_frames: NumFrames | None = None,
        fps: float | None = None,
        max_frames: int | None = None,
        max_tokens: int | None = None,
        hold: float | None = None,
        memory: str | os.PathLike[str] | None = None,
        **generate: Unpack[GenerateOptions],
    ) -> Answer:
        """Answer one question. A thread decodes the frames of a clip file while the encoder runs on earlier ones.

        Args:
            question: the text; it is put into the model's chat template.
            image: one picture: path, bytes, file object, PIL image or uint8 array. Not together with `images`.
            images: several pictures, at least one.
            video: one clip: path, bytes, file object, folder or list of frames, uint8 (T, H, W, 3). It may be given
                with pictures. Without media the question is about text only.
            max_new_tokens: longest answer, in tokens, at least 1.
            num_frames, fps, max_frames: frames of this clip, in place of this object's; see the class. A long clip
                wants a `max_frames` above its number of frames.
            max_tokens: visual tokens to keep for this question, in place of this object's budget.
            hold: memory of this clip, as in `CompressionConfig`; it wants a method that streams.
            memory: file that `remember` wrote, in place of a clip; `max_tokens` is at most that of the memory.
            **generate: further arguments of the model's `generate`, such as `num_beams` or `do_sample`.

        Raises:
            ArgumentError: an argument is not allowed.
            MediaError: a picture or clip cannot be read, or the model takes none.
            UnsupportedInputError: the method does not serve this kind of input.
        """
        item = {"question": question, "image": image, "images": images, "video": video}
        asked, generation = self._read(item), self._generation(max_new_tokens, generate)
        if memory is not None:
            return self._from_memory(
                asked, memory, max_tokens, generation, (num_frames, fps, max_frames, hold)
            )
        if all(value is None for value in (num_frames, fps, max_frames, max_tokens, hold)):
            return self.pipeline(asked, generation)
        return self._for_one(num_frames, fps, max_frames, max_tokens, hold)(asked, generation)

    def _from_memory(
        self,
        asked: Question,
        path: str | os.PathLike[str],
        max_tokens: int | None,
        generation: Mapping[str, Any],
        reading: tuple[object, ...],
    ) -> Answer:
        """Answer from a memory file."""
        if asked.images or asked.video is not None or any(value is not None for value in reading):
            raise ArgumentError(
                f"memory={shown(path)}: it stands for a clip that was read already; pass it alone, without "
                "images, video, num_frames, fps, max_frames and hold"
            )
        memory = read_memory(path, self.pipeline)
        size = memory.stream.size
        return ask_memory(
            streaming_pipeline(self.pipeline, size.most, size.hold),
            memory,
            asked.text,
            max_tokens,
            generation,
        )

    def remember(
        self,
        video: VideoSource,
        path: str | os.PathLike[str],
        *,
        max_tokens: int,
        hold: float = 4.0,
        num_frames: NumFrames | None = None,
        fps: float | None = None,
        max_frames: int | None = None,
    ) -> Path:
        """Write a compressed visual memory of a clip; `ask(question, memory=path)` answers from it.

        The file holds features of the clip, from which much of it can be read off: treat it as the clip itself.

        Args:
            video: as in `ask`.
            path: of the file; it is written whole or not at all.
            max_tokens: largest budget of a question, in visual tokens.
            hold: tokens held per token of it; the file holds as many.
            num_frames, fps, max_frames: as in `ask`.

        Returns:
            The path.

        Raises:
            ArgumentError: an argument is not allowed, or the file cannot be written. MediaError: the clip cannot be
            read. UnsupportedInputError: the method has no stream, or the family encodes clips whole.
        """
        asked = self._read({"question": "-", "video": video})
        if asked.video is None:
            raise ArgumentError("video=None: pass a clip to remember, such as the path of a video file")
        check_target(path)
        one = self._for_one(num_frames, fps, max_frames, None, None)
        pipeline = streaming_pipeline(one, max_tokens, hold)
        pipeline.check({})
        return write_memory(path, remember(pipeline, asked), pipeline)

    def watch(self, *, max_tokens: int, hold: float = 4.0) -> Watch:
        """Watch a stream of frames without an end: `with qa.watch(max_tokens=500) as stream: stream.add(frames)`.

        Args:
            max_tokens: largest budget of a question, in visual tokens.
            hold: tokens held per token of it.

        Returns:
            A watch: `add(frames, times)`, `ask(question, max_tokens=...)`, `save(path)`.

        Raises:
            ArgumentError: an argument is not allowed. UnsupportedInputError: as `remember`.
        """
        self.pipeline.check({})
        return Watch(self.pipeline, max_tokens, hold)

    def _for_one(
        self,
        num_frames: NumFrames | None,
        fps: float | None,
        max_frames: int | None,
        max_tokens: int | None,
        hold: float | None,
    ) -> Pipeline:
        """Return the pipeline with the frames, the budget and the memory of one question."""
        sampling, changes = dict(self.sampling), {"max_tokens": max_tokens, "hold": hold}
        if num_frames is None and fps is None:
            num_frames, fps = sampling["num_frames"], sampling["fps"]
        sampling |= read_sampling(
            num_frames, fps, sampling["max_frames"] if max_frames is None else max_frames
        )
        config = self.config.replace(**{name: value for name, value in changes.items() if value is not None})
        return replace(self.pipeline, config=config, sampling=sampling)

    def stream(
        self,
        question: str,
        *,
        image: ImageSource | None = None,
        images: Sequence[ImageSource] | None = None,
        video: VideoSource | None = None,
        max_new_tokens: int = 64,
        **generate: Unpack[GenerateOptions],
    ) -> Iterator[str]:
        """Answer one question piece by piece: `for piece in qa.stream(...)`.

        Args:
            question, image, images, video, max_new_tokens: as in `ask`.
            **generate: as in `ask`; beams cannot be streamed.

        Returns:
            An iterator over pieces of text that join to the answer of `ask`. Leaving the loop early stops the
            generation.

        Raises:
            ArgumentError: an argument is not allowed, at once. Later errors are raised by the loop.
        """
        item = {"question": question, "image": image, "images": images, "video": video}
        asked = self._read(item)
        check_streamable(generate)

        def run(**extra: Any) -> None:
            self.pipeline(asked, self._generation(max_new_tokens, {**generate, **extra}))

        return stream_text(self.processor.tokenizer, run)

    def chat(
        self,
        *,
        image: ImageSource | None = None,
        images: Sequence[ImageSource] | None = None,
        video: VideoSource | None = None,
        history: bool = True,
        **unknown: object,
    ) -> Chat:
        """Begin a conversation: the media are encoded and compressed once, for all its questions.

        Args:
            image, images, video: as in `ask`; later turns cannot bring more.
            history: whether a question sees the earlier ones and their answers. Otherwise each is answered as by `ask`
                (a method that reads the question reads the first one).
            **unknown: refused, with advice.

        Returns:
            A conversation: `chat.ask(question)`, `chat.stream(question)`.

        Raises:
            ArgumentError: an argument is not allowed. The media are opened by the first question.
        """
        for name, value in unknown.items():
            raise ArgumentError(
                instead(name, value, ASKING)
                or f"{name}={shown(value)}: chat takes image, images, video and history; pass it to ask of the chat"
            )
        item = {"question": "-", "image": image, "images": images, "video": video}
        return Chat(self.pipeline, self._read(item), history=history)

    def ask_batch(
        self,
        items: Sequence[QuestionItem | Mapping[str, object]],
        *,
        batch_size: int = 8,
        max_new_tokens: int = 64,
        progress: bool | None = None,
        **generate: Unpack[GenerateOptions],
    ) -> list[Answer]:
        """Answer many questions, `batch_size` at a time; each answer equals that of the question alone.

        While the model answers a batch, a thread reads and preprocesses the pictures and clips of the next one.

        Args:
            items: one dict per question: `question`, and `image`, `images` or `video` as in `ask`.
            batch_size: questions per batch, at least 1.
            max_new_tokens: longest answer, in tokens.
            progress: show a bar on stderr; None shows it for more than one batch on a terminal.
            **generate: further arguments of the model's `generate`.

        Returns:
            The answers, in the order of the questions.

        Raises:
            ArgumentError: an argument is not allowed; the message names the entry.
        """
        whole_number("batch_size", batch_size)
        if progress is not None:
            flag("progress", progress)
        if isinstance(items, (str, bytes, bytearray, Mapping)) or not isinstance(items, Sequence):
            raise ArgumentError(
                f"items must be a list of dicts, got {type(items).__name__}; for one question use ask"
            )
        questions = [self._read(item, where=f"items[{number}]: ") for number, item in enumerate(items)]
        chunks = [questions[start : start + batch_size] for start in range(0, len(questions), batch_size)]
        answers: list[Answer] = []
        generation = self._generation(max_new_tokens, generate) if chunks else {}
        with question_progress(len(questions), progress, len(chunks)) as advance:
            for batch in self.pipeline.answer_batches(chunks, generation) if chunks else ():
                answers += batch
                advance(len(batch))
        return answers

    def compare(
        self,
        question: str,
        *,
        image: ImageSource | None = None,
        images: Sequence[ImageSource] | None = None,
        video: VideoSource | None = None,
        methods: str | Sequence[str | Method] | None = None,
        retention_ratios: Ratio | Sequence[Ratio] | None = None,
        max_tokens: int | Sequence[int] | None = None,
        controls: bool = True,
        repeats: int = 3,
        seed: int | None = None,
        max_new_tokens: int = 64,
        progress: bool | None = None,
        **options: Unpack[CompareOptions],
    ) -> Comparison:
        """Compare several methods and budgets with the uncompressed model on one question.

        The media are read and preprocessed once; then the rows are run in turns, so that a machine that grows slower
        favours none. The result holds for one input on one machine and is no benchmark.

        Args:
            question, image, images, video, max_new_tokens: as in `ask`; at least one picture or a clip.
            methods: names with options, such as `["globalcom2:tau=5", "vidcom2"]` or one text with commas, or
                `Method` instances; None takes every registered method that serves the input.
            retention_ratios: shares of the tokens; with neither these nor `max_tokens`, 0.5, 0.25 and 0.1.
            max_tokens: numbers of tokens, instead of shares.
            controls: add the controls `random` and `uniform`.
            repeats: runs of every row, at least 1. The first of several is a warm-up and is not counted; a single one
                is counted, with its warm-up.
            seed: for methods that draw at random.
            progress: show a bar on stderr; None shows it on a terminal.
            **options: `policy`, `separators`, `positions`, `encoder_saving`, `view_text`, `mass`, `mass_strength` and
                `mass_cap` for all rows, instead of this object's (the uncompressed model still encodes everything, and
                methods that are not named encode every crop); all others are arguments of the model's `generate`. The
                method, its options and the budget of this object are not used.

        Raises:
            ArgumentError: an argument is not allowed, or there is neither picture nor clip.
            UnsupportedInputError: a method that was named does not serve the input.
            MediaError: a picture or clip cannot be read, or the model takes none.
        """
        if progress is not None:
            flag("progress", progress)
        item = {"question": question, "image": image, "images": images, "video": video}
        asked, variants, skipped, generation = self._plan(
            item,
            options,
            max_new_tokens,
            methods=methods,
            retention_ratios=retention_ratios,
            max_tokens=max_tokens,
            controls=controls,
            repeats=repeats,
            seed=seed,
        )
        return run_comparison(
            self.pipeline, asked, variants, skipped, generation=generation, repeats=repeats, progress=progress
        )

    def compare_rows(
        self,
        question: str,
        *,
        image: ImageSource | None = None,
        images: Sequence[ImageSource] | None = None,
        video: VideoSource | None = None,
        methods: str | Sequence[str | Method] | None = None,
        retention_ratios: Ratio | Sequence[Ratio] | None = None,
        max_tokens: int | Sequence[int] | None = None,
        controls: bool = True,
        seed: int | None = None,
        max_new_tokens: int = 64,
        **options: Unpack[CompareOptions],
    ) -> RowStream:
        """Compare as `compare` does, with one run per row, and hand out words and rows as they come.

        Args:
            question, image, images, video, max_new_tokens: as in `ask`; at least one picture or a clip.
            methods, retention_ratios, max_tokens, controls, seed: as in `compare`.
            **options: as in `compare`; beams cannot be streamed.

        Returns:
            An iterator over pieces of text (str) of the answer that is generated, then its `ComparisonRow`, and so on;
            `close` stops it from any thread, and `comparison` is that of the rows so far.

        Raises:
            ArgumentError, UnsupportedInputError: as `compare`, at once. Errors of the media and of the uncompressed
                model are raised by the loop.
        """
        check_streamable(options)
        item = {"question": question, "image": image, "images": images, "video": video}
        return RowStream(
            self.pipeline,
            *self._plan(
                item,
                options,
                max_new_tokens,
                methods=methods,
                retention_ratios=retention_ratios,
                max_tokens=max_tokens,
                controls=controls,
                repeats=1,
                seed=seed,
            ),
        )

    def _plan(
        self, item: Mapping[str, Any], options: Mapping[str, Any], max_new_tokens: int, **grid: Any
    ) -> tuple[Question, list[Variant], dict[str, str], dict[str, Any]]:
        """Return the question of a comparison, its rows, the methods that are left out, and arguments of `generate`."""
        whole_number("max_new_tokens", max_new_tokens)
        own = {name: getattr(self.config, name) for name in _FOR_ALL_ROWS}
        common = {name: options.get(name, value) for name, value in own.items()}
        generate = {name: value for name, value in options.items() if name not in _FOR_ALL_ROWS}
        asked, variants, skipped = plan_comparison(
            item,
            common={key: value for key, value in common.items() if value is not None},
            options=options,
            **grid,
        )
        generation = self._generation(max_new_tokens, generate)
        return remarked(asked) if self._unnamed else asked, variants, skipped, generation

    def _read(self, item: Mapping[str, Any], where: str = "") -> Question:
        """Read a question, with a remark on its media where no model was named."""
        question = read_question(item, where=where)
        return remarked(question) if self._unnamed else question

    def _generation(self, max_new_tokens: int, generate: Mapping[str, Any]) -> dict[str, Any]:
        """Return checked arguments of the model's `generate`."""
        whole_number("max_new_tokens", max_new_tokens)
        self.pipeline.check(generate)
        return {"do_sample": False, **generate, "max_new_tokens": max_new_tokens}
