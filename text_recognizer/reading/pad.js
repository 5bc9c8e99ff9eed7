// The screen of HandwritingPad: a row of boxes to write in, and beneath each what the network makes of it.
//
// Nothing here recognises anything, and nothing is fetched. Python tells this page in a few traits:
//   sheet    JSON {number: event}: all that was ever done, as far as Python knows, numbered in its order
//              an event is [box, x, y, x, y, ...] for a stroke, [box] for a box wiped, [] for all of them wiped,
//              null for one that was taken back
//   reading  JSON {changes, text, notes, boxes: {box: {image, guesses: [[character, probability], ...]}}}: Python's answer
//   pen      the pen's width, in units of which a box is 200 wide and 260 high
//   boxes    how many there are
// and the page tells Python in messages: {sheet} is all that was ever done, as far as the page knows; {typed: "U", box: 3} asks
// Python to write a character by itself, for those who type. (Were the page to set the trait, the kernel's echo would set it back.)
//
// On both sides a sheet that arrives never replaces the one that is there: the two are merged. So one that is late takes no stroke
// away, and neither side waits for the other.

const WIDE = 200, HIGH = 260;           // a box, in units
const TOP = 60, WAIST = 108, LINE = 186; // where a capital, a small letter and the line are
const CELL = 84;                        // a box, in pixels of the page
const STEP = 3;                         // units: nearer points are not kept
const QUIET = 120;                      // milliseconds without a change before Python is told
const REST = 700;                       // milliseconds without the pen before the paper moves on
const PATIENCE = 1500;                  // milliseconds without an answer before we say whom we are waiting for

/** An element with attributes, a text or children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The numbers of the events that were not taken back, in their order. */
const standing = (sheet) => Object.keys(sheet).filter((number) => sheet[number]).sort((a, b) => a - b);

/** How much has happened on a sheet: more on a merged one than on either of its parts, unless they are the same. */
const changesOf = (sheet) => Object.values(sheet).reduce((sum, event) => sum + (event ? 1 : 2), 0);

/** Add to a sheet what only the other has; true if that was anything. */
function merge(sheet, other) {
  const news = Object.entries(other).filter(([number, event]) =>
    sheet[number] === undefined || (sheet[number] && !event));
  Object.assign(sheet, Object.fromEntries(news));
  return news.length > 0;
}

/** What stands on the form once all events have happened: a map from box to its strokes. */
function play(sheet) {
  const boxes = new Map();
  for (const [box, ...points] of standing(sheet).map((number) => sheet[number])) {
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
  const paper = make("canvas", { class: "tr-pad-paper" });
  // A field for text, which nobody sees: what has the keys in a field keeps them. Jupyter, Colab and VS Code all leave to it
  // the keys that elsewhere in an output would run, cut and delete cells.
  const keys = make("textarea", {
    class: "tr-pad-keys", rows: 1, inputmode: "none", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
    "aria-label": `${boxes} boxes to write in, one character each`,
    "aria-description": "Draw with mouse, pen or finger. Arrow keys choose a box; a typed character is written for you; " +
      "Backspace wipes a box, Control Z undoes, Delete or Escape wipes all.",
  });
  const columns = make("div", { class: "tr-pad-columns" });
  for (let box = 0; box < boxes; box++) columns.append(make("div", { class: "tr-pad-column" }));
  const scroller = make("div", { class: "tr-pad-scroller" }, paper, keys, columns);
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
  return { root, paper, keys, columns, scroller, undo, clear, pen, dot, status, where, text };
}

function render({ model, el }) {
  const boxes = model.get("boxes");
  const view = build(boxes);
  const { paper, keys, status } = view;
  const sheet = JSON.parse(model.get("sheet"));
  let chosen = 0;                       // the box that the keys write in; `boxes` is behind the last one
  let stroke = null;                    // the one being drawn: {pointer, box, points}
  let telling = 0, waiting = 0, following = 0, frame = 0;
  el.append(view.root);

  // ---- what stands on the form ----------------------------------------------------------------------------------------

  /** Python hears of a change once the hand rests. */
  function changed() {
    draw();
    clearTimeout(telling);
    telling = setTimeout(tell, QUIET);
    wait();
  }

  function tell() {
    clearTimeout(telling);
    telling = 0;
    model.send({ sheet });
  }

  function listen() {
    if (merge(sheet, JSON.parse(model.get("sheet")))) draw();
  }

  function add(event) {                 // the fraction keeps apart what two sides number at the same time
    const last = Math.max(0, ...Object.keys(sheet).map(Number));
    sheet[Math.floor(last) + 1 + Math.random()] = event;
    changed();
  }

  function undo() {
    const last = standing(sheet).at(-1);
    if (last === undefined) return;
    sheet[last] = null;
    changed();
  }

  const clear = () => play(sheet).size && add([]);

  // ---- drawing --------------------------------------------------------------------------------------------------------

  /** The colours of the page that we are in, as the style sheet has put them on the paper; null while there is none. */
  function colours() {
    if (!paper.isConnected) return null;
    const style = getComputedStyle(paper);
    return { ink: style.color, line: style.borderTopColor, faint: style.textDecorationColor, accent: style.outlineColor };
  }

  function drawBox(context, box, colour, isChosen) {
    const left = box * WIDE;
    context.lineWidth = isChosen ? 5 : 2;
    context.strokeStyle = isChosen ? colour.accent : colour.line;
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
  function paint() {
    frame = 0;
    const colour = colours();
    if (!colour) return;
    const sharp = Math.min(window.devicePixelRatio || 1, 2), scale = (CELL / WIDE) * sharp;
    paper.width = boxes * CELL * sharp;
    paper.height = Math.round(HIGH * scale);
    paper.style.width = `${boxes * CELL}px`;
    paper.style.height = `${(CELL * HIGH) / WIDE}px`;
    keys.style.left = `${Math.min(chosen, boxes - 1) * CELL}px`;
    const context = paper.getContext("2d");
    context.scale(scale, scale);
    const focused = view.root.contains(document.activeElement);
    for (let box = 0; box < boxes; box++) drawBox(context, box, colour, focused && box === chosen);
    context.strokeStyle = colour.ink;
    context.lineWidth = model.get("pen");
    context.lineCap = context.lineJoin = "round";
    for (const [box, strokes] of play(sheet)) for (const points of strokes) drawStroke(context, box, points);
    if (stroke) drawStroke(context, stroke.box, stroke.points);
    view.dot.style.width = view.dot.style.height = `${(model.get("pen") * CELL) / WIDE}px`;
    view.pen.value = model.get("pen");
    view.where.textContent = chosen < boxes ? `box ${chosen + 1} of ${boxes}` : "behind the last box";
  }

  /** Paint before the page is shown next, once, however much has changed. */
  function draw() { frame ||= requestAnimationFrame(paint); }

  /** Scroll on, or back, if a box or the one behind it is out of sight. */
  function bring(box) {
    const last = Math.min(box + 1, boxes - 1), { scrollLeft, clientWidth } = view.scroller;
    if (box * CELL < scrollLeft || (last + 1) * CELL > scrollLeft + clientWidth) {
      view.scroller.scrollLeft = box * CELL - clientWidth / 3;
    }
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
    clearTimeout(following);                       // the paper lies still while somebody writes
    keys.focus({ preventScroll: true });
    try { paper.setPointerCapture(event.pointerId); } catch { /* a pointer made by a script cannot be captured */ }
    chosen = Math.max(0, Math.min(boxes - 1, Math.floor(place(event)[0] / WIDE)));
    stroke = { pointer: event.pointerId, box: chosen, points: [] };  // it belongs to the box it begins in, wherever it goes
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
    following = setTimeout(() => bring(done.box), REST);
  }

  // ---- keys ---------------------------------------------------------------------------------------------------------------

  function choose(box) {
    chosen = Math.max(0, Math.min(boxes, box));
    bring(Math.min(chosen, boxes - 1));
    draw();
  }

  /** Python writes the character; what stood in its box makes room for it. */
  function type(character) {
    if (chosen === boxes) { status.textContent = "that was the last box"; return; }
    if (character !== " ") {
      if (play(sheet).has(chosen)) add([chosen]);
      if (telling) tell();
      model.send({ typed: character, box: chosen });
      wait();
    }
    choose(chosen + 1);
  }

  /** Backspace: wipe this box, or if it is empty go back and wipe the one before. */
  function rub() {
    const filled = play(sheet);
    if (!filled.has(chosen)) choose(chosen - 1);
    if (filled.has(chosen)) add([chosen]);
  }

  function key(event) {
    const known = { ArrowLeft: () => choose(chosen - 1), ArrowRight: () => choose(chosen + 1), Home: () => choose(0),
      End: () => choose(boxes - 1), Delete: clear, Escape: clear, Backspace: rub };
    const command = event.ctrlKey || event.metaKey;
    if (command && event.key.toLowerCase() === "z") undo();
    else if (command || event.altKey) return;      // the browser's own
    else if (known[event.key]) known[event.key]();
    else if (event.key.length === 1) type(event.key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** What comes without keys of its own: pasted, or put together by an input method. */
  function entered(event) {
    if (event.isComposing) return;
    for (const character of keys.value.replace(/[^\S ]/g, "")) type(character);
    keys.value = "";
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

  /** Until Python has answered, what is shown was read before. */
  function wait() {
    clearTimeout(waiting);
    status.textContent = "reading …";
    waiting = setTimeout(() => {
      status.textContent = "waiting for the kernel: it is busy, or gone";
      view.root.dataset.waiting = "";
    }, PATIENCE);
  }

  function showReading() {
    const reading = JSON.parse(model.get("reading"));
    [...view.columns.children].forEach((child, box) => child.replaceChildren(...column(reading.boxes[box])));
    view.text.textContent = reading.text;
    view.text.dataset.empty = reading.text ? "" : "Write a character in each box. What the network reads appears here.";
    if (!reading.notes && reading.changes !== changesOf(sheet)) return;  // of an older sheet: still waiting
    clearTimeout(waiting);
    delete view.root.dataset.waiting;
    status.textContent = reading.notes;
  }

  // ---- and all of it together -----------------------------------------------------------------------------------------------

  const listeners = [[paper, "pointerdown", begin], [paper, "pointermove", move], [paper, "pointerup", end],
    [paper, "pointercancel", end], [keys, "keydown", key], [keys, "input", entered],
    [view.root, "focusin", draw], [view.root, "focusout", draw],
    [view.root, "transitionend", draw],            // the style sheet gives new colours a transition, whatever changed them
    [view.undo, "click", () => { undo(); keys.focus({ preventScroll: true }); }],
    [view.clear, "click", () => { clear(); keys.focus({ preventScroll: true }); }],
    [view.pen, "input", () => { model.set("pen", Number(view.pen.value)); draw(); }],
    [view.pen, "change", () => { model.save_changes(); keys.focus({ preventScroll: true }); }]];
  const watched = [["sheet", listen], ["pen", draw], ["reading", showReading]];
  const sizes = new ResizeObserver(draw);          // tells as well when the pad is put into the page, and is shown again
  for (const [target, name, listener] of listeners) target.addEventListener(name, listener);
  for (const [trait, listener] of watched) model.on(`change:${trait}`, listener);
  sizes.observe(view.root);
  showReading();
  return () => {                                   // anywidget calls this when the view goes away
    for (const [target, name, listener] of listeners) target.removeEventListener(name, listener);
    for (const [trait, listener] of watched) model.off(`change:${trait}`, listener);
    sizes.disconnect();
    clearTimeout(waiting);
    clearTimeout(following);
    if (telling) tell();
  };
}

export default { render };
