// Keeps the operator's page true: puts in its pieces as they change, and lets ages grow. Without it the page stands still.
"use strict";

const pieces = document.getElementById("pieces");
const live = document.getElementById("live");
// The facilitator's clock counts, not this machine's.
const ahead = pieces ? Number(pieces.dataset.now) - Date.now() / 1000 : 0;

// As the facilitator writes it: 5 s, 14 min 03 s, 2 h 05 min, 3 d 4 h.
function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(whole / unit));
  const two = (number) => String(number).padStart(2, "0");
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${two(minutes % 60)} min`;
  return minutes > 0 ? `${minutes} min ${two(whole % 60)} s` : `${whole} s`;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function tick() {
  const now = Date.now() / 1000 + ahead;
  for (const time of pieces.querySelectorAll("[data-age]")) write(time, `${span(now - Number(time.dataset.age))} ago`);
  for (const time of pieces.querySelectorAll("[data-left]")) {
    const left = Number(time.dataset.left) - now;
    write(time, left > 0 ? span(left) : "over");
  }
}

// A piece that has the focus stays, so that nobody loses their place; its ages go on.
function put(piece) {
  const old = document.getElementById(piece.id);
  if (!old) return void pieces.append(piece);
  if (old.contains(document.activeElement)) return;
  const [was, is] = [old, piece].map((one) => one.querySelector("details"));
  if (was && is) is.open = was.open;
  const scrolled = old.querySelector(".scroll")?.scrollLeft ?? 0;
  old.replaceWith(piece);
  if (scrolled) piece.querySelector(".scroll")?.scrollTo(scrolled, 0);
}

function take(event) {
  const next = document.createElement("template");
  next.innerHTML = event.data;
  const all = [...next.content.querySelectorAll("[data-piece]")];
  const ids = new Set(all.map((piece) => piece.id));
  for (const old of pieces.querySelectorAll("[data-piece]")) if (!ids.has(old.id)) old.remove();
  all.forEach(put);
  tick();
  write(live, "Live");
}

if (pieces && live) {
  const events = new EventSource(pieces.dataset.events);
  events.addEventListener("pieces", take);
  events.addEventListener("error", () => {
    write(live, events.readyState === EventSource.CLOSED ? "Not live: load the page again" : "Not live: trying again");
  });
  setInterval(tick, 1000);
}
