// The screen of HandwritingPad: a row of boxes to write in, and beneath each what the network makes of it.
//
// Nothing here recognises anything, and nothing is fetched. Python and this page share a few traits:
//   sheet    JSON {version, events}: all that was ever done. Both sides write it.
//              an event is [box, x, y, x, y, ...] for a stroke, [box] for a box wiped, [] for all of them wiped
//   reading  JSON {version, text, notes, boxes: {box: {image, guesses: [[character, probability], ...]}}}: Python's answer
//   pen      the pen's width, in units of which a box is 200 wide and 260 high
//   box      the box that the text cursor is on
//   boxes    how many there are
// and one message to Python: {typed: "U", box: 3} asks it to write a character by itself, for those who type.

const WIDE = 200, HIGH = 260;           // a box, in units
const TOP = 60, WAIST = 108, LINE = 186; // where a capital, a small letter and the line are
const CELL = 84;                        // a box, in pixels of the page
const STEP = 3;                         // units: nearer points are not kept
const QUIET = 120;                      // milliseconds without a change before Python is told

/** An element with attributes, a text or children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** What stands on the form once all events have happened: a map from box to its strokes. */
function play(events) {
  const boxes = new Map();
  for (const [box, ...points] of events) {
    if (box === undefined) boxes.clear();
    else if (!points.length) boxes.delete(box);
    else boxes.set(box, [...(boxes.get(box) ?? []), points]);
  }
  return boxes;
}

/** A 28x28 picture, base64 of 784 bytes, onto a small canvas: bright ink on black, as the network gets it. */
function paintSeen(canvas, image) {
  const bytes = Uint8Array.from(atob(image), (c) => c.charCodeAt(0));
  const context = canvas.getContext("2d"), pixels = context.createImageData(28, 28);
  bytes.forEach((value, i) => pixels.data.set([value, value, value, 255], 4 * i));
  context.putImageData(pixels, 0, 0);
}

/** The parts of the page, without any life in them. */
function build(boxes) {
  const paper = make("canvas", {
    class: "tr-pad-paper", tabindex: 0, role: "application", "aria-label": `${boxes} boxes to write in, one character each`,
    "aria-description": "Draw with mouse, pen or finger. Arrow keys choose a box; a typed character is written for you; " +
      "Backspace wipes a box, Control Z undoes, Delete or Escape wipes all.",
  });
  const columns = make("div", { class: "tr-pad-columns" });
  for (let box = 0; box < boxes; box++) columns.append(make("div", { class: "tr-pad-column" }));
  const scroller = make("div", { class: "tr-pad-scroller" }, paper, columns);
  const undo = make("button", { type: "button", title: "Take back the last stroke or wipe (Ctrl+Z)" }, "Undo");
  const clear = make("button", { type: "button", title: "Wipe all boxes (Delete or Escape); Undo brings them back" }, "Clear");
  const pen = make("input", { type: "range", min: 4, max: 40, step: 1 });
  const dot = make("span", { class: "tr-pad-dot", "aria-hidden": "true" });
  const status = make("span", { class: "tr-pad-status", role: "status" });
  const where = make("span", { class: "tr-pad-where" });
  const bar = make("div", { class: "tr-pad-bar" }, undo, clear, make("label", {}, "Pen ", pen), dot, status, where);
  const text = make("output", { class: "tr-pad-text", "aria-live": "polite", "aria-label": "The text read" });
  const root = make("div", { class: "tr-pad", role: "group", "aria-label": "Handwriting pad", "data-lm-suppress-shortcuts": "true" },
    bar, scroller, text);
  return { root, paper, columns, scroller, undo, clear, pen, dot, status, where, text };
}

function render({ model, el }) {
  const boxes = model.get("boxes");
  const view = build(boxes);
  const { paper, status } = view;
  let stroke = null;                    // the one being drawn: {pointer, box, points}
  let timer = 0;
  el.append(view.root);

  // ---- what stands on the form ----------------------------------------------------------------------------------------

  const sheet = () => JSON.parse(model.get("sheet"));

  /** Replace the events; Python hears of it once the hand rests. */
  function write(events) {
    const version = sheet().version + 1;
    model.set("sheet", JSON.stringify({ version, events }));
    status.textContent = "reading …";
    clearTimeout(timer);
    timer = setTimeout(() => model.save_changes(), QUIET);
  }

  const add = (event) => write([...sheet().events, event]);
  const undo = () => write(sheet().events.slice(0, -1));
  const clear = () => play(sheet().events).size && add([]);

  // ---- drawing --------------------------------------------------------------------------------------------------------

  /** The colours of the page that we are in: light, dark, or whatever its theme says. */
  function colours() {
    const style = getComputedStyle(view.root);
    return Object.fromEntries(["ink", "ground", "line", "faint", "accent"].map((name) =>
      [name, style.getPropertyValue(`--tr-${name}`).trim()]));
  }

  function drawBox(context, box, colour, chosen) {
    const left = box * WIDE;
    context.lineWidth = chosen ? 5 : 2;
    context.strokeStyle = chosen ? colour.accent : colour.line;
    context.strokeRect(left + 5, 4, WIDE - 10, HIGH - 8);
    context.lineWidth = 2;
    context.strokeStyle = colour.faint;
    for (const [height, dashes] of [[TOP, [6, 8]], [WAIST, [6, 8]], [LINE, []]]) {
      context.setLineDash(dashes);
      context.beginPath();
      context.moveTo(left + 18, height);
      context.lineTo(left + WIDE - 18, height);
      context.stroke();
    }
    context.setLineDash([]);
  }

  function drawStroke(context, box, points) {
    context.beginPath();
    context.moveTo(box * WIDE + points[0], points[1]);
    for (let i = 0; i < points.length; i += 2) context.lineTo(box * WIDE + points[i], points[i + 1]);
    context.stroke();
  }

  /** All of the paper: boxes first, then ink, which may run over their edges. */
  function draw() {
    const sharp = Math.min(window.devicePixelRatio || 1, 2), scale = (CELL / WIDE) * sharp;
    paper.width = boxes * CELL * sharp;
    paper.height = Math.round(HIGH * scale);
    paper.style.width = `${boxes * CELL}px`;
    paper.style.height = `${(CELL * HIGH) / WIDE}px`;
    const context = paper.getContext("2d"), colour = colours();
    context.scale(scale, scale);
    context.fillStyle = colour.ground;
    context.fillRect(0, 0, boxes * WIDE, HIGH);
    const focused = view.root.contains(document.activeElement);
    for (let box = 0; box < boxes; box++) drawBox(context, box, colour, focused && box === model.get("box"));
    context.strokeStyle = colour.ink;
    context.lineWidth = model.get("pen");
    context.lineCap = context.lineJoin = "round";
    for (const [box, strokes] of play(sheet().events)) for (const points of strokes) drawStroke(context, box, points);
    if (stroke) drawStroke(context, stroke.box, stroke.points);
    view.dot.style.width = view.dot.style.height = `${(model.get("pen") * CELL) / WIDE}px`;
    view.pen.value = model.get("pen");
    view.where.textContent = `box ${model.get("box") + 1} of ${boxes}`;
  }

  // ---- the hand: mouse, pen and finger are all pointers ------------------------------------------------------------------

  /** Where a pointer is, in units, from the left edge of the first box. */
  function place(event) {
    const rect = paper.getBoundingClientRect();
    return [((event.clientX - rect.left) * boxes * WIDE) / rect.width, ((event.clientY - rect.top) * HIGH) / rect.height];
  }

  function extend(event) {
    const [x, y] = place(event), points = stroke.points, n = points.length;
    const nextX = Math.round(x - stroke.box * WIDE), nextY = Math.round(y);
    if (n && Math.hypot(nextX - points[n - 2], nextY - points[n - 1]) < STEP) return;
    points.push(nextX, nextY);
  }

  function begin(event) {
    if (stroke || event.button !== 0) return;      // one hand at a time: a palm beside the pen writes nothing
    event.preventDefault();
    paper.focus({ preventScroll: true });
    try { paper.setPointerCapture(event.pointerId); } catch { /* a pointer made by a script cannot be captured */ }
    const box = Math.max(0, Math.min(boxes - 1, Math.floor(place(event)[0] / WIDE)));
    stroke = { pointer: event.pointerId, box, points: [] };   // it belongs to the box it begins in, wherever it goes
    model.set("box", box);
    extend(event);
    draw();
  }

  function move(event) {
    if (stroke?.pointer !== event.pointerId) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const one of all.length ? all : [event]) extend(one);
    draw();
  }

  function end(event) {
    if (stroke?.pointer !== event.pointerId) return;
    const done = stroke;
    stroke = null;
    if (event.type === "pointerup") add([done.box, ...done.points]);
    else draw();                                   // taken away by the system: as if it had not been
  }

  // ---- keys ---------------------------------------------------------------------------------------------------------------

  function choose(box) {
    model.set("box", Math.max(0, Math.min(boxes - 1, box)));
    model.save_changes();
    const left = model.get("box") * CELL, { scrollLeft, clientWidth } = view.scroller;
    if (left < scrollLeft || left + CELL > scrollLeft + clientWidth) view.scroller.scrollLeft = left - clientWidth / 2;
  }

  function type(character) {
    const box = model.get("box");
    if (character !== " ") { model.send({ typed: character, box }); status.textContent = "reading …"; }
    choose(box + 1);
  }

  /** Backspace: wipe this box, or if it is empty go back and wipe the one before. */
  function rub() {
    const filled = play(sheet().events);
    if (!filled.has(model.get("box"))) choose(model.get("box") - 1);
    if (filled.has(model.get("box"))) add([model.get("box")]);
  }

  function key(event) {
    const keys = { ArrowLeft: () => choose(model.get("box") - 1), ArrowRight: () => choose(model.get("box") + 1),
      Home: () => choose(0), End: () => choose(boxes - 1), Delete: clear, Escape: clear, Backspace: rub };
    const command = event.ctrlKey || event.metaKey;
    if (command && event.key.toLowerCase() === "z") undo();
    else if (command || event.altKey) return;      // the browser's own
    else if (keys[event.key]) keys[event.key]();
    else if (event.key.length === 1) type(event.key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // ---- what Python read -----------------------------------------------------------------------------------------------------

  function column(parts) {
    if (!parts) return [];
    const seen = make("canvas", { width: 28, height: 28, class: "tr-pad-seen", role: "img", "aria-label": "As the network sees it" });
    paintSeen(seen, parts.image);
    const guesses = parts.guesses.map(([character, p]) => {
      const row = make("div", { class: "tr-pad-guess" }, make("b", {}, character), make("span", {}, `${Math.round(100 * p)}%`));
      row.style.setProperty("--tr-share", `${100 * p}%`);
      return row;
    });
    return [seen, ...guesses];
  }

  function showReading() {
    const reading = JSON.parse(model.get("reading"));
    const late = reading.version !== sheet().version;
    [...view.columns.children].forEach((child, box) => child.replaceChildren(...column(reading.boxes[box])));
    view.text.textContent = reading.text;
    view.text.dataset.empty = reading.text ? "" : "Write a character in each box. What the network reads appears here.";
    status.textContent = late ? "reading …" : reading.notes;
    view.root.dataset.version = reading.version;   // for whoever waits for an answer
  }

  // ---- and all of it together -----------------------------------------------------------------------------------------------

  const theme = window.matchMedia("(prefers-color-scheme: dark)");
  const themes = new MutationObserver(draw);       // JupyterLab, VS Code and Colab mark their theme on html or body
  for (const marked of [document.documentElement, document.body]) {
    themes.observe(marked, { attributes: true, attributeFilter: ["class", "theme", "data-jp-theme-light", "data-vscode-theme-kind"] });
  }
  const listeners = [[paper, "pointerdown", begin], [paper, "pointermove", move], [paper, "pointerup", end],
    [paper, "pointercancel", end], [paper, "keydown", key], [view.root, "focusin", draw], [view.root, "focusout", () => setTimeout(draw)],
    [view.undo, "click", undo], [view.clear, "click", clear], [theme, "change", draw],
    [view.pen, "input", () => { model.set("pen", Number(view.pen.value)); draw(); }],
    [view.pen, "change", () => model.save_changes()]];
  for (const [target, name, listener] of listeners) target.addEventListener(name, listener);
  for (const trait of ["sheet", "pen", "box"]) model.on(`change:${trait}`, draw);
  model.on("change:reading", showReading);
  draw();
  showReading();
  return () => {                                   // anywidget calls this when the view goes away
    for (const [target, name, listener] of listeners) target.removeEventListener(name, listener);
    for (const trait of ["sheet", "pen", "box"]) model.off(`change:${trait}`, draw);
    model.off("change:reading", showReading);
    themes.disconnect();
    clearTimeout(timer);
  };
}

export default { render };
