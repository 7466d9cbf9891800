"use strict";
// One viewer per element with data-viewer, which names the script element that holds its data.
(() => {
  const HIGHEST = 500;
  const SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const NONE = 63;
  const LEVELS = 62;
  const RAMP = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];
  const PHASES = {
    decode: "decode", preprocess: "preprocess", encode: "encode", compress: "compress", prefill: "prefill",
    generate: "generate",
  };
  let viewers = 0;

  /** Element with attributes and children; texts become text nodes, so nothing in them is read as HTML. */
  const el = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "style") Object.assign(node.style, value);
      else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  };

  const bits = (text, count) => {
    const bytes = atob(text);
    return Uint8Array.from({ length: count }, (_, at) => (bytes.charCodeAt(at >> 3) >> (7 - (at & 7))) & 1);
  };

  const levels = (text) => Uint8Array.from(text, (sign) => SIGNS.indexOf(sign));

  /** Color of a level; masses begin above the dark end, which would look like a dropped token. */
  const color = (level, from) => {
    const at = (from + (1 - from) * (level / LEVELS)) * (RAMP.length - 1);
    const low = Math.min(Math.floor(at), RAMP.length - 2);
    const mixed = RAMP[low].map((part, channel) => Math.round(part + (at - low) * (RAMP[low + 1][channel] - part)));
    return `rgb(${mixed.join(" ")})`;
  };

  const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "none");
  const figure = (value) => String(Number(value.toPrecision(3)));
  const plural = (kind, count) => `${count} ${kind}${count === 1 ? "" : "s"}`;

  class Viewer {
    constructor(root, data) {
      this.root = root;
      this.data = data;
      this.id = `kept-${++viewers}`;
      this.state = { row: data.start ?? (data.rows.length > 1 ? 1 : 0), shows: "kept", layer: null, frames: data.visuals.map(() => 0) };
      this.cache = new Map();
      this.pictures = [];
      this.playing = null;
    }

    get row() {
      return this.data.rows[this.state.row];
    }

    name(row) {
      return row.budget ? `${row.method} at ${row.budget}` : row.method;
    }

    /** Arrays of one view in the current row. */
    view(visual, number) {
      const key = `${this.state.row}/${visual}/${number}`;
      if (this.cache.has(key)) return this.cache.get(key);
      const { grid, cells } = this.data.visuals[visual].views[number];
      const count = grid[0] * grid[1];
      const blob = (at) => this.data.blobs[at];
      const entry = this.row.visuals[visual]?.views[number];
      const made = { cells: bits(blob(cells), count), kept: null, count: 0, stages: {} };
      made.total = made.cells.reduce((sum, cell) => sum + cell, 0);
      if (entry) {
        made.kept = bits(blob(entry.kept), count);
        made.count = entry.count;
        if (entry.scores !== undefined) made.scores = levels(blob(entry.scores));
        if (entry.mass !== undefined) {
          const sent = levels(blob(entry.mass));
          let next = 0;
          made.mass = made.kept.map((kept) => (kept ? sent[next++] : NONE));
        }
        for (const [layer, at] of Object.entries(entry.stages ?? {})) {
          const left = bits(blob(at), count);
          made.stages[layer] = { left, count: left.reduce((sum, cell) => sum + cell, 0) };
        }
      }
      this.cache.set(key, made);
      return made;
    }

    has(what) {
      return this.row.visuals.some((visual) => visual[what] !== null);
    }

    get layers() {
      const all = this.row.visuals.flatMap((visual) => visual.views.flatMap((view) => Object.keys(view.stages ?? {})));
      return [...new Set(all)].sort((one, other) => one - other);
    }

    get shows() {
      return this.state.shows !== "kept" && this.has(this.state.shows) ? this.state.shows : "kept";
    }

    get layer() {
      const { layers, state } = this;
      return state.layer === "" || layers.includes(state.layer) ? state.layer : layers.at(-1) ?? "";
    }

    // ---- the page ----

    async start() {
      this.build();
      this.pictures = await Promise.all(
        this.data.pictures.map(async (source) => {
          const picture = new Image();
          picture.src = source;
          await picture.decode();
          return picture;
        }),
      );
      new ResizeObserver(() => this.draw()).observe(this.root);
      this.update();
      this.root.dataset.ready = "true";
    }

    build() {
      const { data } = this;
      const several = data.rows.length > 1;
      this.answer = el("p", { class: "answer", dir: "auto" });
      this.of = el("span", { class: "of" });
      this.verdict = el("span", { class: "verdict" });
      this.kept = el("p", { class: "kept" });
      this.meter = el("i");
      this.times = el("tbody");
      this.timesTitle = el("h2", {}, "Time");
      this.timesTable = el("table", { class: "times" }, this.times);
      this.notes = el("ul", { class: "notes" });
      this.notesTitle = el("h2", {}, "Notes");
      this.visuals = data.visuals.map((visual, number) => this.visual(visual, number));
      this.looks = el("section", { class: "look", "aria-label": "What was kept" },
        this.controls(several), ...this.visuals.map(({ node }) => node), this.legend = el("p", { class: "legend" }));
      this.root.replaceChildren(
        el("header", {}, el("h1", { dir: "auto" }, data.question)),
        el("div", { class: data.visuals.length ? "columns" : "columns alone" },
          data.visuals.length ? this.looks : this.looks = el("section", { class: "look" }),
          el("div", { class: "facts" },
            el("section", { class: "card", "aria-label": "Answer", "aria-live": "polite" },
              el("h2", {}, "Answer", this.of), this.answer, this.verdict, this.kept,
              el("div", { class: "meter", "aria-hidden": "true" }, this.meter)),
            several ? this.list() : null,
            el("section", {}, this.timesTitle, this.timesTable),
            el("section", {}, this.notesTitle, this.notes))),
        el("footer", {}, ...data.remarks.map((text) => el("p", {}, text))));
    }

    controls(several) {
      const box = el("div", { class: "controls" });
      if (several) {
        this.slider = el("input", {
          type: "range", min: 0, max: this.data.rows.length - 1, step: 1, id: `${this.id}-row`, class: "rows",
        });
        this.slider.addEventListener("input", () => this.set({ row: Number(this.slider.value) }));
        this.sliderName = el("output", { for: `${this.id}-row`, "aria-live": "off" });
        box.append(el("div", { class: "sweep" },
          el("label", { for: `${this.id}-row` }, "Method and budget"), this.sliderName, this.slider));
      }
      this.modes = {};
      const modes = el("fieldset", { class: "modes" }, el("legend", { class: "unseen" }, "Show"));
      for (const [value, text] of [["kept", "Kept"], ["scores", "Scores"], ["mass", "Mass"]]) {
        const input = el("input", { type: "radio", name: `${this.id}-shows`, value });
        input.addEventListener("change", () => this.set({ shows: value }));
        this.modes[value] = { input, node: el("label", {}, input, el("span", {}, text)) };
        modes.append(this.modes[value].node);
      }
      this.select = el("select", { class: "layers" });
      this.select.addEventListener("change", () => this.set({ layer: this.select.value }));
      this.selectBox = el("label", { class: "inside" }, "Inside the language model ", this.select);
      this.choices = el("div", { class: "choices" }, modes, this.selectBox);
      this.modesBox = modes;
      box.append(this.choices);
      return box;
    }

    list() {
      this.radios = this.data.rows.map((row, number) => {
        const input = el("input", { type: "radio", name: `${this.id}-rows`, value: number });
        input.addEventListener("change", () => this.set({ row: number }));
        const share = row.kept === null ? "no answer" : percent(row.mean ?? row.kept, row.total);
        const verdict = row.same === null ? null
          : el("span", { class: row.same ? "same" : "differs" }, row.same ? "same" : "differs");
        const node = el("label", {}, input,
          el("span", { class: "method" }, el("b", {}, row.method), row.budget ? ` ${row.budget}` : ""),
          el("span", { class: "share" }, share),
          el("span", { class: "said", dir: "auto" }, row.text === null ? "" : row.text || "(no words)"),
          verdict);
        return { input, node };
      });
      return el("section", {}, el("h2", { id: `${this.id}-list` }, "Methods and budgets"),
        el("div", { class: "list", role: "radiogroup", "aria-labelledby": `${this.id}-list` },
          ...this.radios.map(({ node }) => node)));
    }

    /** Panes of one picture or clip: canvases, and for a clip the scrubber. */
    visual(visual, number) {
      const title = this.data.visuals.length > 1 ? el("h2", {}, `${visual.kind} ${number}`) : null;
      const panes = this.panes(visual).map((pane) => {
        const canvas = el("canvas", { role: "img" });
        const caption = el("figcaption");
        canvas.style.aspectRatio = String(pane.aspect);
        canvas.style.maxWidth = `${Math.round(HIGHEST * pane.aspect)}px`;
        const node = el("figure", { style: { flexGrow: pane.grow, flexBasis: `${pane.basis}px` } }, canvas, caption);
        return { ...pane, canvas, caption, node, context: canvas.getContext("2d"), layers: null };
      });
      const made = { panes, number };
      const strip = visual.kind === "video" && visual.views.length > 1 ? this.strip(visual, made) : null;
      strip?.style.setProperty("max-width", `${Math.max(320, Math.round(HIGHEST * panes[0].aspect))}px`);
      made.node = el("section", { class: "visual" }, title,
        el("div", { class: "panes" }, ...panes.map(({ node }) => node)), strip);
      return made;
    }

    panes(visual) {
      const [width, height] = visual.size;
      const all = visual.views.map((_, number) => number);
      const aspect = ([top, left, bottom, right]) => ((right - left) * width) / ((bottom - top) * height);
      if (!all.length) return [{ views: [], extent: [0, 0, 1, 1], aspect: width / height, grow: 1, basis: 240 }];
      if (visual.kind === "video") {
        return [{ frame: true, views: all, extent: [0, 0, 1, 1], aspect: width / height, grow: 1, basis: 240 }];
      }
      const crops = all.filter((at) => visual.views[at].kind === "crop");
      const panes = all.filter((at) => visual.views[at].kind !== "crop").map((at) => {
        const extent = visual.views[at].place ?? [0, 0, 1, 1];
        return { views: [at], extent, aspect: aspect(extent), grow: crops.length ? 1 : 2, basis: 200 };
      });
      const laid = crops.filter((at) => visual.views[at].place !== null);
      if (laid.length) {
        const edge = (at, pick) => pick(...laid.map((view) => visual.views[view].place[at]));
        const extent = [edge(0, Math.min), edge(1, Math.min), edge(2, Math.max), edge(3, Math.max)];
        panes.push({ views: laid, extent, aspect: aspect(extent), grow: 2, basis: 320 });
      }
      for (const at of crops) {
        const [rows, cols] = visual.views[at].grid;
        if (visual.views[at].place === null && rows * cols) {
          panes.push({ views: [at], extent: null, aspect: cols / rows, grow: 1, basis: 120 });
        }
      }
      return panes;
    }

    /** Scrubber: a bar per frame over a range input, which has the keyboard. */
    strip(visual, made) {
      const last = visual.views.length - 1;
      const range = el("input", { type: "range", min: 0, max: last, step: 1, value: 0, class: "scrubber",
        "aria-label": "Frame" });
      const bars = visual.views.map(() => el("i", {}, el("b")));
      const dense = last > 48 ? " dense" : "";
      const strip = el("div", { class: `strip${dense}`, "aria-hidden": "true" }, ...bars);
      const play = el("button", { type: "button", class: "play", "aria-label": "Play" }, "\u25B6");
      const when = el("span", { class: "when" });
      const spread = el("span", { class: "spread" });
      const go = (frame) => {
        this.state.frames[made.number] = Math.max(0, Math.min(last, frame));
        this.update();
      };
      const at = (event) => {
        const { left, width } = strip.getBoundingClientRect();
        this.stop();
        go(Math.floor(((event.clientX - left) / width) * visual.views.length));
      };
      strip.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        strip.setPointerCapture(event.pointerId);
        range.focus({ preventScroll: true });
        at(event);
      });
      strip.addEventListener("pointermove", (event) => {
        if (strip.hasPointerCapture(event.pointerId)) at(event);
      });
      range.addEventListener("input", () => {
        this.stop();
        go(Number(range.value));
      });
      play.addEventListener("click", () => {
        if (this.playing) return this.stop();
        const times = visual.views.map(({ time }) => time);
        const apart = times[0] === null ? 0.5 : (times[last] - times[0]) / last;
        const step = () => go((this.state.frames[made.number] + 1) % (last + 1));
        this.playing = { timer: setInterval(step, 1000 * Math.max(0.1, Math.min(0.5, apart))), play };
        play.textContent = "\u275A\u275A";
        play.setAttribute("aria-label", "Pause");
      });
      Object.assign(made, { range, bars, when, spread });
      return el("div", { class: "film" }, strip,
        el("div", { class: "transport" }, play, range), el("div", { class: "said-of" }, when, spread));
    }

    stop() {
      if (!this.playing) return;
      clearInterval(this.playing.timer);
      this.playing.play.textContent = "\u25B6";
      this.playing.play.setAttribute("aria-label", "Play");
      this.playing = null;
    }

    set(change) {
      Object.assign(this.state, change);
      this.update();
    }

    // ---- what changes ----

    update() {
      const { row } = this;
      if (this.slider) {
        this.slider.value = this.state.row;
        this.slider.setAttribute("aria-valuetext", this.name(row));
        this.sliderName.textContent = this.name(row);
        this.radios.forEach(({ input }, number) => { input.checked = number === this.state.row; });
        this.reveal(this.radios[this.state.row].node);
      }
      this.updateChoices();
      this.of.textContent = this.name(row);
      this.answer.textContent = row.text === null ? "no answer" : row.text || "(no words)";
      this.answer.classList.toggle("none", !row.text);
      this.answer.classList.toggle("long", (row.text ?? "").length > 90);
      this.verdict.hidden = row.same === null;
      this.verdict.className = `verdict ${row.same ? "same" : "differs"}`;
      this.verdict.textContent = row.same ? "same as with all tokens" : "differs from the answer with all tokens";
      const share = row.mean ?? row.kept;
      const average = row.mean === null ? "" : ` sent, ${row.mean} on average over the layers`;
      const [kept, separators] = row.separators ?? [0, 0];
      const among = separators ? `, ${kept} of ${plural("separator", separators)} among them` : "";
      this.kept.textContent = row.kept === null ? "" : row.total
        ? `${row.kept} of ${row.total} visual tokens${average}, ${percent(share, row.total)}${among}` : "no picture or clip";
      this.meter.style.width = `${row.total ? (100 * share) / row.total : 0}%`;
      this.meter.parentElement.hidden = !row.total;
      this.updateTimes();
      this.notes.replaceChildren(...row.notes.map((note) => el("li", {}, note)));
      this.notesTitle.parentElement.hidden = !row.notes.length;
      this.updateLegend();
      this.draw();
    }

    /** Scroll the list, and nothing else, to one of its entries. */
    reveal(node) {
      const list = node.parentElement;
      const top = node.offsetTop - list.offsetTop;
      list.scrollTop = Math.min(top, Math.max(list.scrollTop, top + node.offsetHeight - list.clientHeight));
    }

    updateChoices() {
      if (!this.modes) return;
      for (const [value, { input, node }] of Object.entries(this.modes)) {
        node.hidden = value !== "kept" && !this.has(value);
        input.checked = value === this.shows;
      }
      this.modesBox.hidden = !this.has("scores") && !this.has("mass");
      const { layers } = this;
      this.select.replaceChildren(el("option", { value: "" }, "as sent"),
        ...layers.map((layer) => el("option", { value: layer }, `from layer ${layer} on`)));
      this.select.value = this.layer;
      this.selectBox.hidden = !layers.length;
      this.choices.hidden = this.modesBox.hidden && !layers.length;
    }

    updateTimes() {
      const { timing } = this.row;
      const most = Math.max(...this.data.rows.flatMap((row) => Object.values(row.timing)), 1e-9);
      const names = Object.keys(PHASES).filter((name) => name in timing);
      const total = names.reduce((sum, name) => sum + timing[name], 0);
      const line = (name, ms, share) => el("tr", share === null ? { class: "total" } : {},
        el("th", { scope: "row" }, name),
        el("td", {}, share === null ? "" : el("i", { style: { width: `${100 * share}%` } })),
        el("td", { class: "ms" }, `${ms.toFixed(1)} ms`));
      this.times.replaceChildren(
        ...names.map((name) => line(PHASES[name], timing[name], timing[name] / most)), line("total", total, null));
      this.timesTitle.parentElement.hidden = !names.length;
    }

    updateLegend() {
      const { shows, layer, row } = this;
      const key = (name, text) => el("span", {}, el("i", { class: `key ${name}` }), text);
      const ramp = (low, high, text) => el("span", {}, `${text} ${figure(low)} `, el("i", { class: `ramp ${shows}` }),
        ` ${figure(high)}`);
      const parts = [];
      if (shows === "scores") {
        for (const [kind, ends] of Object.entries(row.visuals.find(({ scores }) => scores).scores)) {
          parts.push(ramp(...ends, `score, ${kind}`));
        }
        parts.push(key("outline", "border: kept or dropped"));
      } else {
        if (shows === "mass") {
          parts.push(ramp(1, Math.max(...row.visuals.map(({ mass }) => mass ?? 1)), "tokens that it stands for"));
        }
        if (row.kept < row.total) parts.push(key("dropped", layer ? "not sent" : "dropped"));
        if (layer) parts.push(key("later", `dropped before layer ${layer}`));
      }
      this.legend?.replaceChildren(...parts);
      if (this.legend) this.legend.hidden = !parts.length;
    }

    draw() {
      if (this.pictures.length !== this.data.pictures.length) return;
      this.visuals.forEach((made, number) => {
        if (made.range) this.drawStrip(made, number);
        made.panes.forEach((pane) => this.drawPane(pane, number));
      });
      this.fit();
    }

    drawStrip(made, number) {
      const { views } = this.data.visuals[number];
      const frame = this.state.frames[number];
      const counts = views.map((_, at) => this.view(number, at).count);
      const most = Math.max(1, ...counts);
      made.bars.forEach((bar, at) => {
        const { count, stages } = this.view(number, at);
        const left = this.layer && stages[this.layer] ? stages[this.layer].count : count;
        bar.classList.toggle("now", at === frame);
        bar.style.height = `${Math.max(2, (100 * count) / most)}%`;
        bar.firstChild.style.height = `${count ? (100 * left) / count : 100}%`;
      });
      const time = views[frame].time === null ? "" : `, ${views[frame].time.toFixed(1)} s`;
      made.when.textContent = `frame ${frame + 1} of ${views.length}${time}`;
      const span = Math.min(...counts) === most ? `${most}` : `${Math.min(...counts)} to ${most}`;
      made.spread.textContent = this.row.visuals.length ? `${span} tokens per frame` : "";
      made.range.value = frame;
      made.range.setAttribute("aria-valuetext", `${made.when.textContent}, ${counts[frame]} tokens`);
    }

    said(pane, number) {
      const { views } = this.data.visuals[number];
      const arrays = pane.views.map((at) => this.view(number, at));
      const [one] = pane.frame ? [] : pane.views.map((at) => views[at].kind);
      const kind = pane.views.length > 1 && one ? plural(one, pane.views.length) : one ?? "";
      if (!this.row.visuals.length || !pane.views.length) return [kind, ""];
      const sum = (pick) => arrays.reduce((all, one) => all + pick(one), 0);
      const counts = arrays.map(({ count }) => count);
      const several = arrays.length > 1 && arrays.length <= 12 && !this.layer ? ` (${counts.join(", ")})` : "";
      let text = `${sum(({ count }) => count)} of ${sum(({ total }) => total)}`;
      const left = sum(({ stages }) => stages[this.layer]?.count ?? 0);
      text += this.layer ? ` tokens, ${left} from layer ${this.layer} on` : " tokens";
      return [kind, text + several];
    }

    drawPane(pane, number) {
      const visual = this.data.visuals[number];
      const shown = pane.frame ? { ...pane, views: [this.state.frames[number]] } : pane;
      const [kind, text] = this.said(shown, number);
      pane.caption.replaceChildren(...(kind ? [el("span", {}, kind)] : []), el("span", {}, text));
      const about = pane.frame ? `frame ${this.state.frames[number] + 1}` : kind;
      const what = { kept: "kept", scores: "kept, with scores", mass: "kept, with mass" }[this.shows];
      pane.canvas.setAttribute("aria-label", this.row.visuals.length
        ? `${about}: ${text} ${what}, ${this.name(this.row)}` : `${about}: no answer, ${this.name(this.row)}`);

      const scale = window.devicePixelRatio || 1;
      const width = Math.max(1, Math.round(pane.canvas.clientWidth * scale));
      const height = Math.max(1, Math.round(width / pane.aspect));
      if (pane.canvas.width !== width || pane.canvas.height !== height) Object.assign(pane.canvas, { width, height });
      const pen = pane.context;
      const picture = this.pictures[visual.pictures[pane.frame ? shown.views[0] : 0]];
      const key = `${shown.views[0]}/${width}/${height}`;
      if (pane.layers?.key !== key) {
        const [bright, dark] = [false, true].map((darker) => this.layerOf(pane, picture, width, height, darker));
        pane.layers = { key, bright, dark };
      }
      const { bright, dark } = pane.layers;
      pen.globalAlpha = 1;
      pen.drawImage(this.row.visuals.length ? bright : dark, 0, 0);
      if (!this.row.visuals.length) return;
      for (const at of shown.views) this.drawView(pen, pane, visual.views[at], this.view(number, at), dark, width, height, scale);
      if (!pane.frame && shown.views.length > 1) {
        for (const [ink, thick] of [["rgb(0 0 0 / 55%)", 3.5], ["#ffd60a", 1.5]]) {
          pen.strokeStyle = ink;
          pen.lineWidth = thick * scale;
          for (const at of shown.views) {
            const [x, y] = this.edges(pane, visual.views[at], width, height);
            pen.strokeRect(x[0], y[0], x.at(-1) - x[0], y.at(-1) - y[0]);
          }
        }
      }
    }

    /** The pane's picture on its canvas, bright or darkened; black where a crop shows padding. */
    layerOf(pane, picture, width, height, dark) {
      const canvas = el("canvas");
      Object.assign(canvas, { width, height });
      const pen = canvas.getContext("2d");
      pen.fillStyle = pane.extent ? "#000" : "#8a8f99";
      pen.fillRect(0, 0, width, height);
      if (pane.extent) {
        const [top, left, bottom, right] = pane.extent;
        const x = width / (right - left);
        const y = height / (bottom - top);
        pen.imageSmoothingQuality = "high";
        pen.drawImage(picture, -left * x, -top * y, x, y);
      }
      if (dark) {
        pen.globalCompositeOperation = "saturation";
        pen.fillStyle = "rgb(128 128 128 / 75%)";
        pen.fillRect(0, 0, width, height);
        pen.globalCompositeOperation = "source-over";
        pen.fillStyle = "rgb(8 9 12 / 72%)";
        pen.fillRect(0, 0, width, height);
      }
      return canvas;
    }

    /** Pixels at which the columns and rows of a view's cells begin, and at which the last ends. */
    edges(pane, view, width, height) {
      const [rows, cols] = view.grid;
      const [top, left, bottom, right] = pane.extent ?? [0, 0, 1, 1];
      const [t, l, b, r] = pane.extent ? view.place ?? [0, 0, 1, 1] : [0, 0, 1, 1];
      const steps = (count, low, high, from, to, pixels) => Array.from({ length: count + 1 },
        (_, at) => Math.round((((low + ((high - low) * at) / count) - from) / (to - from)) * pixels));
      return [steps(cols, l, r, left, right, width), steps(rows, t, b, top, bottom, height)];
    }

    drawView(pen, pane, view, arrays, dark, width, height, scale) {
      const [rows, cols] = view.grid;
      if (!rows || !cols) return;
      const [x, y] = this.edges(pane, view, width, height);
      const { shows } = this;
      const left = this.layer ? arrays.stages[this.layer]?.left : null;
      const stays = left ?? arrays.kept;
      for (let row = 0; row < rows; row += 1) {
        for (let col = 0; col < cols; col += 1) {
          const at = row * cols + col;
          const box = [x[col], y[row], x[col + 1] - x[col], y[row + 1] - y[row]];
          if (box[2] < 1 || box[3] < 1) continue;
          const level = shows === "kept" ? NONE : arrays[shows]?.[at] ?? NONE;
          if (!stays[at] && (shows !== "scores" || level === NONE)) {
            pen.drawImage(dark, ...box, ...box);
            if (arrays.kept[at]) {
              pen.fillStyle = "rgb(64 120 255 / 26%)";
              pen.fillRect(...box);
            }
          }
          if (level !== NONE && (shows === "scores" || (stays[at] && level > 0))) {
            pen.globalAlpha = 0.78;
            pen.fillStyle = color(level, shows === "scores" ? 0 : 0.2);
            pen.fillRect(...box);
            pen.globalAlpha = 1;
          }
        }
      }
      if (Math.min(x[1] - x[0], y[1] - y[0]) >= 7 * scale) {
        pen.fillStyle = "rgb(255 255 255 / 13%)";
        for (const at of x.slice(1, -1)) pen.fillRect(at, y[0], 1, y[rows] - y[0]);
        for (const at of y.slice(1, -1)) pen.fillRect(x[0], at, x[cols] - x[0], 1);
      }
      this.outline(pen, stays, rows, cols, x, y, scale);
    }

    outline(pen, kept, rows, cols, x, y, scale) {
      const thick = Math.max(1, Math.round((Math.min(x[1] - x[0], y[1] - y[0]) >= 12 * scale ? 1.6 : 1) * scale));
      // A dark rim, so that the line can be seen on bright pictures and colors too.
      this.lines(pen, "rgb(0 0 0 / 40%)", thick + 2 * Math.round(scale), kept, rows, cols, x, y);
      this.lines(pen, "rgb(255 255 255 / 90%)", thick, kept, rows, cols, x, y);
    }

    lines(pen, color, thick, kept, rows, cols, x, y) {
      const half = thick / 2;
      pen.fillStyle = color;
      for (let row = 0; row < rows; row += 1) {
        for (let col = 0; col < cols; col += 1) {
          const here = kept[row * cols + col];
          if (col + 1 < cols && here !== kept[row * cols + col + 1]) {
            pen.fillRect(Math.round(x[col + 1] - half), y[row], thick, y[row + 1] - y[row]);
          }
          if (row + 1 < rows && here !== kept[(row + 1) * cols + col]) {
            pen.fillRect(x[col], Math.round(y[row + 1] - half), x[col + 1] - x[col], thick);
          }
        }
      }
    }

    /** Give the frame that holds this page the page's height. */
    fit() {
      try {
        const frame = window.frameElement;
        if (!frame) return;
        document.documentElement.style.overflowY = "hidden";
        frame.style.height = `${Math.ceil(document.body.getBoundingClientRect().height)}px`;
      } catch {
        // A frame of another origin keeps its height and scrolls.
      }
    }
  }

  const mount = (root) => {
    const viewer = new Viewer(root, JSON.parse(document.getElementById(root.dataset.viewer).textContent));
    return viewer.start();
  };
  window.keptViewer = { mount };
  for (const root of document.querySelectorAll("[data-viewer]")) mount(root);
})();
