"use strict";
// Draws the points of the page's data: predicted over measured on logarithmic axes, one canvas per metric, filtered and coloured by the controls.
const data = JSON.parse(document.getElementById("points").textContent);
const NAMES = ["engine", "hardware", "kind", "basis"];
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8a6d00", "#7b4fb5", "#8a929c"];
const OTHERS = COLOURS.length - 1;
const SIDE = 480, EDGE = 68, TOP = 10, INNER = SIDE - EDGE - 14;
const tip = document.getElementById("tip");
const chosen = (name) => document.getElementById("choose-" + name).value;
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = (value) => Number(value.toPrecision(3)).toLocaleString("en-GB");

// A point is [case, engine, hardware, model, kind, basis, measured, predicted, low, high]; the words are numbers into data.words.
const FIELD = { engine: 1, hardware: 2, kind: 4, basis: 5 };

function filtered(points) {
  const choices = NAMES.map((name) => [FIELD[name], chosen(name)]).filter((pair) => pair[1] !== "");
  return points.filter((point) => choices.every((pair) => point[pair[0]] === Number(pair[1])));
}

function colourOf(by) {
  const counts = new Map();
  for (const points of Object.values(data.metrics)) for (const point of points) counts.set(point[FIELD[by]], (counts.get(point[FIELD[by]]) || 0) + 1);
  const order = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a));
  return new Map(order.map((word, index) => [word, Math.min(index, OTHERS)]));
}

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

function scaleOf(points) {
  let low = Infinity, high = -Infinity;
  for (const point of points) for (const size of [point[6], point[7]]) { low = Math.min(low, size); high = Math.max(high, size); }
  const from = Math.log(low) - 0.2, to = Math.log(high) + 0.2;
  const across = (size) => EDGE + (Math.log(size) - from) / (to - from) * INNER;
  return { low: Math.exp(from), high: Math.exp(to), across: across, up: (size) => TOP + INNER - (across(size) - EDGE) };
}

function ticksOf(scale) {
  const first = Math.floor(Math.log10(scale.low)), last = Math.ceil(Math.log10(scale.high)), ticks = [];
  for (let power = first; power <= last; power += 1)
    for (const factor of last - first <= 2 ? [1, 2, 5] : [1]) ticks.push(factor * 10 ** power);
  return ticks.filter((tick) => tick >= scale.low && tick <= scale.high);
}

function frame(pen, scale, unit) {
  pen.strokeStyle = ink("--line");
  pen.fillStyle = ink("--soft");
  pen.font = "12px system-ui, sans-serif";
  pen.strokeRect(EDGE, TOP, INNER, INNER);
  for (const tick of ticksOf(scale)) {
    pen.beginPath();
    pen.moveTo(scale.across(tick), TOP); pen.lineTo(scale.across(tick), TOP + INNER);
    pen.moveTo(EDGE, scale.up(tick)); pen.lineTo(EDGE + INNER, scale.up(tick));
    pen.stroke();
    pen.textAlign = "center"; pen.fillText(short(tick), scale.across(tick), TOP + INNER + 16);
    pen.textAlign = "right"; pen.fillText(short(tick), EDGE - 6, scale.up(tick) + 4);
  }
  pen.textAlign = "center";
  pen.fillText("measured, " + unit, EDGE + INNER / 2, SIDE - 6);
  pen.save(); pen.translate(12, TOP + INNER / 2); pen.rotate(-Math.PI / 2); pen.fillText("predicted, " + unit, 0, 0); pen.restore();
}

function guides(pen, scale, ratios) {
  pen.save();
  pen.beginPath(); pen.rect(EDGE, TOP, INNER, INNER); pen.clip();
  if (ratios.length > 1) {
    const ends = [scale.low, scale.high], below = quantile(ratios, 0.05), above = quantile(ratios, 0.95);
    pen.beginPath();
    pen.moveTo(scale.across(ends[0]), scale.up(ends[0] * above)); pen.lineTo(scale.across(ends[1]), scale.up(ends[1] * above));
    pen.lineTo(scale.across(ends[1]), scale.up(ends[1] * below)); pen.lineTo(scale.across(ends[0]), scale.up(ends[0] * below));
    pen.globalAlpha = 0.13; pen.fillStyle = ink("--predicted"); pen.fill(); pen.globalAlpha = 1;
  }
  pen.setLineDash([5, 4]); pen.strokeStyle = ink("--soft"); pen.beginPath();
  pen.moveTo(scale.across(scale.low), scale.up(scale.low)); pen.lineTo(scale.across(scale.high), scale.up(scale.high));
  pen.stroke();
  pen.restore();
}

function dots(pen, scale, points, colours, by) {
  const size = points.length > 600 ? 2 : 3.2;
  pen.lineWidth = 1.2;
  for (const point of points) {
    const x = scale.across(point[6]), y = scale.up(point[7]);
    pen.fillStyle = pen.strokeStyle = COLOURS[colours.get(point[FIELD[by]])];
    pen.globalAlpha = points.length > 600 ? 0.6 : 0.85;
    pen.beginPath();
    if (point[6] < point[8] || point[6] > point[9]) {
      pen.moveTo(x - size, y - size); pen.lineTo(x + size, y + size); pen.moveTo(x + size, y - size); pen.lineTo(x - size, y + size);
      pen.stroke();
    } else {
      pen.arc(x, y, size, 0, 7); pen.fill();
    }
  }
  pen.globalAlpha = 1;
}

function draw(canvas) {
  const all = data.metrics[canvas.dataset.metric], points = filtered(all), sharp = window.devicePixelRatio || 1;
  const by = chosen("colour"), colours = colourOf(by), scale = scaleOf(all);
  canvas.width = canvas.height = SIDE * sharp;
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  const ratios = points.map((point) => point[7] / point[6]).sort((a, b) => a - b);
  frame(pen, scale, canvas.dataset.unit);
  guides(pen, scale, ratios);
  dots(pen, scale, points, colours, by);
  canvas.shown = { points: points, scale: scale };
  canvas.nextElementSibling.textContent = summary(points, ratios);
  const words = new Map();
  for (const point of points) words.set(point[FIELD[by]], true);
  return words;
}

function summary(points, ratios) {
  if (!points.length) return "No row is left by the filters.";
  const errors = ratios.map((ratio) => Math.abs(ratio - 1)).sort((a, b) => a - b);
  const inside = points.filter((point) => point[6] >= point[8] && point[6] <= point[9]).length;
  const middle = (list) => (quantile(list, 0.5) + list[Math.floor((list.length - 1) / 2)]) / 2;
  return points.length + " rows: median |error| " + (100 * middle(errors)).toFixed(1) + " %, bias " + (100 * (middle(ratios) - 1)).toFixed(1) +
    " %, " + (100 * inside / points.length).toFixed(0) + " % within their 90 % range (crosses are not). Band: 90 % of these points.";
}

function drawAll() {
  const words = new Map();
  for (const canvas of document.querySelectorAll("canvas")) for (const word of draw(canvas).keys()) words.set(word, true);
  const by = chosen("colour"), colours = colourOf(by), legend = document.getElementById("legend");
  legend.replaceChildren();
  const named = [...colours].filter((entry) => words.has(entry[0]));
  const some = named.filter((entry) => entry[1] < OTHERS);
  for (const entry of some) legend.append(chip(COLOURS[entry[1]], data.words[entry[0]]));
  if (named.length > some.length) legend.append(chip(COLOURS[OTHERS], (named.length - some.length) + " others"));
}

function chip(colour, text) {
  const item = document.createElement("span"), mark = document.createElement("i");
  mark.style.background = colour;
  item.append(mark, text);
  return item;
}

function point(event) {
  const canvas = event.currentTarget, box = canvas.getBoundingClientRect(), zoom = SIDE / box.width;
  const x = (event.clientX - box.left) * zoom, y = (event.clientY - box.top) * zoom;
  let best = null, least = 144;
  for (const candidate of canvas.shown.points) {
    const distance = (canvas.shown.scale.across(candidate[6]) - x) ** 2 + (canvas.shown.scale.up(candidate[7]) - y) ** 2;
    if (distance < least) { least = distance; best = candidate; }
  }
  tip.hidden = best === null;
  if (best === null) return;
  const words = data.words, unit = " " + canvas.dataset.unit;
  tip.textContent = best[0] + "\n" + words[best[1]] + " on " + words[best[2]] + "\n" + words[best[3]] + " (" + words[best[4]] + ")\n" +
    "measured " + short(best[6]) + unit + "\npredicted " + short(best[7]) + unit + " [" + short(best[8]) + " to " + short(best[9]) + "], " + words[best[5]] +
    "\nerror " + (100 * (best[7] / best[6] - 1)).toFixed(1) + " %";
  tip.style.left = Math.min(event.clientX + 14, window.innerWidth - 350) + "px";
  tip.style.top = Math.min(event.clientY + 14, window.innerHeight - 150) + "px";
}

for (const choice of document.querySelectorAll("select")) choice.addEventListener("change", drawAll);
for (const canvas of document.querySelectorAll("canvas")) {
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
}
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
