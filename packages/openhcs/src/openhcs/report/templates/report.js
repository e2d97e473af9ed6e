"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const plate = at("plate"), choice = at("measure"), as = at("as"), scale = at("scale"), detail = at("detail"), strip = at("strip");
const place = new Map(data.wells.map((w, i) => [w.well, i])), cells = new Map();
let chosen = null;

// Eleven stops of viridis, which keeps its order in grey and for colour-blind eyes.
const stops = [[68,1,84],[72,36,117],[65,68,135],[53,95,141],[42,120,142],[33,145,140],[34,168,132],[68,191,112],[122,209,81],[189,223,38],[253,231,37]];
const rgb = (f, stops) => { const p = Math.min(Math.max(f, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(p), stops.length - 2), t = p - i;
  return stops[i].map((v, k) => Math.round(v + t * (stops[i + 1][k] - v))); };
const css = c => `rgb(${c.join(",")})`;
const known = v => v !== null && v !== undefined;
function number(v, digits = 5) {
  if (!known(v)) return "–";
  if (v && (Math.abs(v) >= 1e6 || Math.abs(v) < 1e-3)) return v.toExponential(2);
  return Math.abs(v) >= 1000 ? String(Math.round(v)) : String(+v.toPrecision(digits));
}
const letters = r => r < 26 ? String.fromCharCode(65 + r) : "A" + String.fromCharCode(65 + r - 26);
function make(tag, text, cls) { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; if (cls) e.className = cls; return e; }
function draw(tag, marks) { const e = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const k in marks) e.setAttribute(k, marks[k]); return e; }
// Blue to red over grey, for what has a middle.
const apart = [[33,102,172],[103,169,207],[209,229,240],[240,240,240],[253,219,199],[239,138,98],[178,24,43]];
const FAR = 5;
// What a measure may be seen as: how it is called, in what unit, and whether 0 is its middle.
const scores = {
  robust_z: ["robust z", "", true], robust_z_negative: ["robust z of negative controls", "", true],
  percent_of_control: ["% of control", "%", false], b_score: ["B-score", "", true],
};
const has = (m, how) => how === "b_score" ? Boolean(m.b) : Boolean(m.lines && how in m.lines);
function scored(m, how, i) {
  if (how === "b_score") return m.b[i];
  const [at0, at1] = m.lines[how], value = m.values[i];
  return known(value) ? at0 + value * (at1 - at0) : null;
}
const base = () => choice.value === "pictures" || choice.value === "" ? null : data.measures[+choice.value];
// The chosen measure, or its scores in the same form.
function measure() {
  const m = base(), how = as.value;
  if (!m || !scores[how] || !has(m, how)) return m;
  const values = m.values.map((_, i) => scored(m, how, i)), [label, unit, middle] = scores[how];
  const sorted = values.filter(known).sort((a, b) => a - b), part = q => sorted[Math.round(q * (sorted.length - 1))];
  return { group: m.group, label: `${m.label}, ${label}`, unit, values, middle, how, sparse: how === "b_score" ? m.b_sparse : "", low: part(.02), high: part(.98), least: part(0), most: part(1) };
}
// Offers what the chosen measure may be seen as.
function offer() {
  const m = base();
  for (const option of as.options) option.disabled = option.value !== "value" && !(m && has(m, option.value));
  if (m && as.selectedOptions[0].disabled) as.value = "value";
}
// Colours span a tenth of the value at least, or an even plate would look like a pattern.
function ends(m) {
  const far = m.middle && Math.max(-m.least, m.most);
  if (scale.value === "all") return m.middle ? [-far, far] : [m.least, m.most];
  if (m.middle) return [-FAR, FAR];
  if (m.how) return [Math.min(m.low, 0), Math.max(m.high, 100)];
  const middle = (m.low + m.high) / 2, half = Math.max((m.high - m.low) / 2, Math.abs(middle) * .05);
  return half > (m.high - m.low) / 2 ? [middle - half, middle + half] : [m.low, m.high];
}
function shade(m, v) { const [low, high] = ends(m); return rgb(high > low ? (v - low) / (high - low) : .5, m.middle ? apart : stops); }
const titled = m => m.unit ? `${m.label} (${m.unit})` : m.label;

function build() {
  const dense = data.columns > 24, least = dense ? 15 : data.columns > 12 ? 26 : 44;
  plate.classList.toggle("dense", dense);
  plate.style.gridTemplateColumns = `20px repeat(${data.columns}, minmax(${least}px, 1fr))`;
  plate.append(make("span"));
  for (let c = 0; c < data.columns; c++) plate.append(make("span", c + 1, "head"));
  for (let r = 0; r < data.rows; r++) {
    plate.append(make("span", letters(r), "head"));
    for (let c = 0; c < data.columns; c++) {
      const name = letters(r) + String(c + 1).padStart(2, "0"), cell = make("button");
      cell.type = "button"; cell.tabIndex = -1;
      if (place.has(name)) { cells.set(name, cell); cell.dataset.well = name; }
      else { cell.classList.add("away"); cell.disabled = true; cell.title = `${name}: not in the run`; }
      plate.append(cell);
    }
  }
  plate.addEventListener("click", e => { const cell = e.target.closest("button[data-well]"); if (cell) show(cell.dataset.well); });
  plate.addEventListener("keydown", walk);
  if (data.wells.some(w => w.image)) choice.append(new Option("pictures", "pictures"));
  const groups = new Map();
  data.measures.forEach((m, i) => {
    if (!groups.has(m.group)) { const g = make("optgroup"); g.label = m.group; groups.set(m.group, g); choice.append(g); }
    groups.get(m.group).append(new Option(titled(m), i));
  });
  if (data.measures.length) choice.value = "0";
  as.append(new Option("value", "value"));
  for (const how in scores) if (data.measures.some(m => has(m, how))) as.append(new Option(scores[how][0], how));
  for (const each of [choice, as]) each.addEventListener("change", () => { paint(); show(chosen); });
  scale.addEventListener("change", paint);
  for (const c of data.channels) {
    const light = make("span"), dot = make("i", undefined, "dot");
    dot.style.background = css(c.colour);
    light.append(dot, `${c.name} ${number(c.low, 3)} to ${number(c.high, 3)}`);
    at("lights").append(light);
  }
}

function walk(event) {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  const here = event.target.dataset.well;
  if (!step || !here) return;
  event.preventDefault();
  let { row, col } = data.wells[place.get(here)];
  for (row += step[0], col += step[1]; row >= 0 && col >= 0 && row < data.rows && col < data.columns; row += step[0], col += step[1]) {
    const name = letters(row) + String(col + 1).padStart(2, "0");
    if (cells.has(name)) { show(name); cells.get(name).focus(); return; }
  }
}

function paint() {
  offer();
  const m = measure(), pictures = choice.value === "pictures";
  at("scored").style.display = m && as.options.length > 1 ? "" : "none";
  at("ramp").hidden = at("span").hidden = !m; at("lights").hidden = !pictures;
  at("ramp").style.display = m ? "" : "none"; at("lights").style.display = pictures ? "" : "none"; at("span").style.display = m ? "" : "none";
  if (m) {
    at("bar").style.background = `linear-gradient(90deg, ${(m.middle ? apart : stops).map(css).join(",")})`;
    scale.options[0].text = m.middle ? `−${FAR} to ${FAR}` : m.how ? "0 to 100 % at least" : "2nd to 98th percentile, ±5 % at least";
    const [low, high] = ends(m); at("low").textContent = number(low, 4); at("high").textContent = `${number(high, 4)} ${m.unit}`;
  }
  data.wells.forEach((w, i) => {
    const cell = cells.get(w.well), bad = w.outcome !== "ok", value = m && !bad ? m.values[i] : null;
    cell.replaceChildren(); cell.style.background = cell.style.color = "";
    cell.classList.toggle("bad", bad); cell.classList.toggle("flagged", !bad && w.flags.length > 0);
    cell.classList.toggle("none", !bad && (pictures ? !w.image : !known(value)));
    if (pictures && w.image && !bad) { const img = make("img"); img.src = w.image; img.alt = ""; cell.append(img); }
    else if (known(value)) {
      const c = shade(m, value);
      cell.style.background = css(c);
      if (data.columns <= 12) { cell.style.color = .3 * c[0] + .59 * c[1] + .11 * c[2] > 140 ? "#111" : "#fff"; cell.textContent = number(value, 3); }
    }
    cell.title = [`${w.well}: ${bad ? `${w.outcome}, ${w.error}` : m ? `${m.label} ${number(value)} ${m.unit}`.trim() : w.outcome}`, ...w.flags].join("\n");
    cell.setAttribute("aria-label", cell.title);
  });
  chart(m);
}

function chart(m) {
  const svg = strip.querySelector("svg");
  strip.style.display = m && data.wells.length > 1 ? "" : "none";
  svg.replaceChildren();
  if (!m) return;
  const width = Math.max(svg.clientWidth, 300), height = 150, left = 62, right = 10, top = 10, bottom = 22;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const values = m.values.filter(known).slice().sort((a, b) => a - b), middle = values.length % 2 ? values[(values.length - 1) / 2] : (values[values.length / 2 - 1] + values[values.length / 2]) / 2;
  const room = (m.most - m.least) * .06 || Math.abs(m.most) * .05 || 1, low = m.least - room, high = m.most + room;
  const x = i => left + (width - left - right) * (i + .5) / data.wells.length, y = v => top + (height - top - bottom) * (high - v) / (high - low);
  for (const v of new Set([m.least, middle, m.most])) {
    svg.append(draw("line", { x1: left, x2: width - right, y1: y(v), y2: y(v), class: v === middle ? "usual" : "" }));
    if (v !== middle || (m.most - m.least) === 0 || Math.min(y(m.least) - y(v), y(v) - y(m.most)) > 11) {
      const text = draw("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }); text.textContent = number(v, 4); svg.append(text); }
  }
  let last = null;
  data.wells.forEach((w, i) => {
    if (w.row !== last) { last = w.row; const text = draw("text", { x: x(i), y: height - 6, "text-anchor": "middle" }); text.textContent = data.wells.length <= 24 ? w.well : letters(w.row); svg.append(text); }
    else if (data.wells.length <= 24) { const text = draw("text", { x: x(i), y: height - 6, "text-anchor": "middle" }); text.textContent = w.well; svg.append(text); }
    if (!known(m.values[i])) return;
    const dot = draw("circle", { cx: x(i), cy: y(m.values[i]), r: data.wells.length > 400 ? 2.2 : data.wells.length > 100 ? 3 : 5, fill: css(shade(m, m.values[i])), class: w.well === chosen ? "chosen" : "" });
    const name = draw("title", {}); name.textContent = `${w.well}: ${number(m.values[i])} ${m.unit}`; dot.append(name);
    dot.addEventListener("click", () => show(w.well)); svg.append(dot);
  });
  at("caption").textContent = `${titled(m)}, in the order of the wells; the dashed line is the median of ${values.length}.`
    + (m.sparse ? ` Not to be trusted in ${m.sparse}: fewer than half of the wells there are samples.` : "");
}

function show(name) {
  if (!place.has(name)) return;
  const i = place.get(name), w = data.wells[i], m = measure();
  chosen = name;
  for (const [well, cell] of cells) { cell.setAttribute("aria-pressed", well === name); cell.tabIndex = well === name ? 0 : -1; }
  detail.replaceChildren(make("h3", w.outcome === "ok" ? `Well ${name}` : `Well ${name}: ${w.outcome}`));
  if (w.error) detail.append(make("p", w.error, "error"));
  if (w.image) { const img = make("img"); img.src = w.image; img.alt = `Well ${name}, all channels`; detail.append(img); }
  if (m && known(m.values[i])) { const line = make("div", undefined, "main"); line.append(make("span", m.label, "sub"), make("b", `${number(m.values[i], 4)} ${m.unit}`.trim())); detail.append(line); }
  const told = base(), ways = told ? Object.keys(scores).filter(how => has(told, how) && known(scored(told, how, i))) : [];
  if (ways.length) { const list = make("dl"); for (const how of ways) list.append(make("dt", scores[how][0]), make("dd", number(scored(told, how, i), 3))); detail.append(list); }
  if (w.flags.length) { const list = make("ul"); for (const text of w.flags) list.append(make("li", text)); detail.append(list); }
  let group = null, list = null;
  const lists = new Map();
  data.measures.forEach(each => {
    if (!known(each.values[i])) return;
    if (each.group !== group) {
      group = each.group;
      const fold = make("details"); fold.open = Boolean(m) && m.group === group; fold.append(make("summary", group));
      list = make("dl"); lists.set(group, list); fold.append(list); detail.append(fold);
    }
    list.append(make("dt", each.label), make("dd", `${number(each.values[i])} ${each.unit}`.trim()));
  });
  for (const [title, told] of [["Conditions", w.conditions], ["Verdicts", w.words]]) {
    const words = Object.entries(told);
    if (!words.length) continue;
    list = lists.get(title);
    if (!list) { const fold = make("details"); fold.append(make("summary", title)); list = make("dl"); fold.append(list); detail.append(fold); }
    for (const [key, value] of words) list.append(make("dt", key.replaceAll("_", " ")), make("dd", value));
  }
  chart(m);
}

// report.html#measure=count&as=b_score&well=B02 opens that well; links in the tables use it.
function follow() {
  const wanted = new URLSearchParams(location.hash.slice(1)), name = wanted.get("measure"), how = wanted.get("as");
  if (name === "pictures" && choice.querySelector("option[value=pictures]")) choice.value = name;
  else if (name) { const i = data.measures.findIndex(m => m.name === name); if (i >= 0) choice.value = String(i); }
  if (how && [...as.options].some(option => option.value === how)) as.value = how;
  if (name || how) { paint(); show(chosen); }
  if (wanted.get("well")) show(wanted.get("well"));
}

build(); paint();
if (data.wells.length) show((data.wells.find(w => w.outcome !== "ok") || data.wells.find(w => w.flags.length) || data.wells[0]).well);
follow();
addEventListener("hashchange", follow);
addEventListener("resize", () => chart(measure()));
