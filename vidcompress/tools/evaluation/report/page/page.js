"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const groups = read("data");
  const at = (id) => document.getElementById(id);
  if (!groups.length) {
    at("none").hidden = false;
    return;
  }
  at("browse").hidden = false;
  const step = 100;
  let group = groups[0], shown = step, open = null;

  const fill = (select, names, chosen) => {
    select.replaceChildren(...names.map(([value, name]) => new Option(name, value, false, value === chosen)));
  };
  const isControl = (method) => method === "random" || method === "uniform";

  // At first: what globalcom2, or the first method, lost at its smallest budget and random at the same one kept; where
  // there is nothing of that, what any two rows tell apart.
  const first = () => {
    const rows = group.rows.map((name, place) => place);
    const methods = rows.filter((n) => group.budgets[n] !== "all" && !isControl(group.methods[n]));
    const names = methods.map((n) => group.methods[n]);
    const name = names.includes("globalcom2") ? "globalcom2" : names[0];
    const lost = methods.length ? methods.filter((n) => group.methods[n] === name).pop() : rows[0];
    const rival = rows.find((n) => group.methods[n] === "random" && group.budgets[n] === group.budgets[lost]);
    if (rival !== undefined && group.questions.some((q) => tells(q, lost, rival))) return [lost, rival];
    for (const one of [lost, ...rows]) {
      const other = rows.find((n) => group.questions.some((q) => tells(q, one, n)));
      if (other !== undefined) return [one, other];
    }
    return ["any", "any"];
  };
  const tells = (question, lost, kept) => question.right[lost] === false && question.right[kept] === true;

  const start = () => {
    const rows = group.rows.map((name, place) => [String(place), name]);
    const [lost, kept] = first();
    fill(at("lost"), [["any", "any or none"], ...rows], String(lost));
    fill(at("kept"), [["any", "any or none"], ...rows], String(kept));
    const kinds = [...new Set(group.questions.map((q) => q.kind).filter(Boolean))].sort();
    fill(at("kind"), [["", "all"], ...kinds.map((kind) => [kind, kind])], "");
    at("kind").parentElement.hidden = !kinds.length;
    list();
  };

  const fits = () => {
    const lost = at("lost").value, kept = at("kept").value, kind = at("kind").value;
    const words = at("words").value.trim().toLowerCase();
    return group.questions.filter((q) =>
      (lost === "any" || q.right[lost] === false) && (kept === "any" || q.right[kept] === true) &&
      (!kind || q.kind === kind) &&
      (!words || [q.text, q.id, ...q.expected, ...q.answers].some((text) => text.toLowerCase().includes(words))));
  };

  const answer = (question, row) => {
    const cell = document.createElement("td");
    cell.className = "words";
    if (row === "any") return cell;
    const right = question.right[row];
    cell.classList.add(right ? "right" : "wrong");
    cell.textContent = `${right === null ? "" : right ? "✓ " : "✗ "}${question.answers[row] || "(no words)"}`;
    return cell;
  };

  const list = () => {
    const all = fits(), masked = all.filter((q) => q.viewer || q.why);
    const only = at("seen").checked;
    const rows = only ? masked : all;
    const lost = at("lost").value, kept = at("kept").value;
    at("lost-head").textContent = lost === "any" ? "" : group.rows[lost];
    at("kept-head").textContent = kept === "any" ? "" : group.rows[kept];
    at("count").textContent = `${all.length} of ${group.asked} questions fit; ${masked.length} of them are here with their masks or the reason why not.`;
    at("list").tBodies[0].replaceChildren(...rows.slice(0, shown).map((question) => {
      const line = document.createElement("tr"), name = document.createElement("td"), button = document.createElement("button");
      const expected = document.createElement("td");
      line.dataset.id = question.id;
      button.type = "button";
      button.textContent = question.text.trim() || question.id;
      button.disabled = !question.viewer && !question.why;
      if (button.disabled) button.title = "this page has no mask of it";
      button.addEventListener("click", () => look(question));
      name.className = expected.className = "words";
      name.append(button);
      expected.textContent = question.expected.join(" or ");
      line.append(name, expected, answer(question, lost), answer(question, kept));
      if (open === question.id) line.className = "now";
      return line;
    }));
    at("more").hidden = rows.length <= shown;
  };

  const look = (question) => {
    open = question.id;
    for (const line of at("list").tBodies[0].rows) line.className = line.dataset.id === open ? "now" : "";
    const place = at("look");
    if (!question.viewer) {
      const why = document.createElement("p");
      why.className = "note";
      why.textContent = question.why;
      place.replaceChildren(why);
      return;
    }
    const frame = document.createElement("iframe");
    frame.title = `What was kept: ${question.text}`;
    const viewer = read(question.viewer), row = question.rows.indexOf(Number(at("lost").value));
    if (row >= 0) viewer.start = row;
    const text = JSON.stringify(viewer).replaceAll("<", "\\u003c").replaceAll(">", "\\u003e");
    // A function, so that no sign in the data is read as a pattern of the replacement.
    frame.srcdoc = read("shell").replace("@data@", () => text);
    place.replaceChildren(frame);
  };

  fill(at("group"), groups.map((one, place) => [String(place), one.title]), "0");
  at("group").parentElement.hidden = groups.length < 2;
  at("group").addEventListener("change", () => { group = groups[at("group").value]; shown = step; start(); });
  for (const id of ["lost", "kept", "kind", "seen"]) at(id).addEventListener("change", () => { shown = step; list(); });
  at("words").addEventListener("input", () => { shown = step; list(); });
  at("more").addEventListener("click", () => { shown += step; list(); });
  start();
})();
