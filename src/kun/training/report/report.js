"use strict";
const page = document.documentElement;

function remembered(key) { try { return localStorage.getItem("kun-" + key); } catch { return null; } }
function remember(key, value) { try { localStorage.setItem("kun-" + key, value); } catch { /* a page of its own file */ } }

function speak(language) {
  page.dataset.lang = page.lang = language;
  remember("lang", language);
}
function paint(theme) {
  page.dataset.theme = theme;
  remember("theme", theme);
}
speak(remembered("lang") || (navigator.language.startsWith("zh") ? "zh" : "en"));
if (remembered("theme")) paint(remembered("theme"));
document.getElementById("language").onclick = () => speak(page.lang === "zh" ? "en" : "zh");
document.getElementById("theme").onclick = () => {
  const dark = page.dataset.theme ? page.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  paint(dark ? "light" : "dark");
};

function shown(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(2);
  if (size >= 1e3) return Math.round(value).toLocaleString("en");
  return String(+value.toPrecision(4));
}

function nearest(places, wanted) {
  let low = 0, high = places.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (places[middle] < wanted) low = middle + 1; else high = middle;
  }
  return low > 0 && wanted - places[low - 1] < places[low] - wanted ? low - 1 : low;
}

function element(parent, kind, style) {
  const made = parent.appendChild(document.createElement("div"));
  made.className = kind;
  Object.assign(made.style, style);
  return made;
}

for (const plot of document.querySelectorAll(".plot")) {
  const { lines, x: [left, right], y: [bottom, top] } = JSON.parse(plot.dataset.curves);
  let drawn = [];
  const clear = () => { drawn.forEach((one) => one.remove()); drawn = []; };
  plot.addEventListener("pointerleave", clear);
  plot.addEventListener("pointermove", (event) => {
    clear();
    const box = plot.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const main = lines.reduce((a, b) => (b.x.length > a.x.length ? b : a));
    const step = main.x[nearest(main.x, left + share * (right - left))];
    const across = (100 * (step - left)) / (right - left || 1);
    drawn.push(element(plot, "cross", { left: across + "%" }));
    const tip = element(plot, "tip", across > 55 ? { right: 101.5 - across + "%" } : { left: across + 1.5 + "%" });
    tip.append((page.lang === "zh" ? "步 " : "step ") + shown(step));
    for (const line of lines) {
      const index = nearest(line.x, step);
      const value = line.y[index];
      const x = (100 * (line.x[index] - left)) / (right - left || 1);
      const y = (100 * (top - value)) / (top - bottom || 1);
      if (y >= 0) drawn.push(element(plot, "dot", { left: x + "%", top: y + "%" }));
      if (y >= 0) drawn.at(-1).style.setProperty("--colour", line.colour);
      const row = tip.appendChild(document.createElement("div"));
      const number = document.createElement("em");
      number.style.setProperty("--colour", line.colour);
      number.textContent = shown(value);
      row.append(line.name[page.lang] + " ", number);
    }
    drawn.push(tip);
  });
}
