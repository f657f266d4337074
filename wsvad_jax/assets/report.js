"use strict";
// Seeking on the timeline, the playhead, and the filter of the list of videos. If the
// browser can't play a video, its timeline keeps its own time, and everything else works.
// The keys N, P and Space work on the whole page. They control the video that was used
// last, if it is in view, else the one that fills most of the window.

// The same form of times as in the lists, where short events have tenths.
const clockOf = (tenths) => (seconds) => {
  const tenth = Math.floor(seconds * 10 + 1e-6), whole = Math.floor(tenth / 10);
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return (hours ? hours + ":" + two(minutes) : minutes) + ":" + two(whole % 60)
    + (tenths ? "." + (tenth % 10) : "");
};

const keyOf = (event) => event.key.length === 1 ? event.key.toLowerCase() : event.key;
let lastUsed = null;  // the player that was clicked, focused or started last

function setUp(root) {
  const data = JSON.parse(root.querySelector("script.data").textContent);
  const end = data.edges[data.edges.length - 1] || 0, clock = clockOf(data.tenths);
  const video = root.querySelector("video");
  const scrub = root.querySelector(".scrub");
  const playhead = scrub.querySelector(".playhead");
  const tip = scrub.querySelector(".tip");
  const readout = root.querySelector(".readout");
  const events = Array.from(root.querySelectorAll("li.event"), (item) => ({
    item,
    start: Number(item.dataset.start),
    end: Number(item.dataset.end),
  }));

  // The time: the video's, or the timeline's own where no video plays.
  let ownTime = 0;
  const broken = () => !video || video.error !== null;
  const now = () => (broken() ? ownTime : video.currentTime);

  // What is at a time: the snippet, found by bisection, and its scores in words.
  const snippet = (t) => {
    let low = 0, high = data.anomaly.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (data.edges[middle] <= t) low = middle; else high = middle - 1;
    }
    return low;
  };
  const describe = (t) => {
    const i = snippet(t);
    if (!(i in data.anomaly)) return "no score";
    const text = "score " + data.anomaly[i].toFixed(2);
    if (!data.top || data.probability[i] < 0.1) return text;
    return text + ", " + data.names[data.top[i]] + " " + data.probability[i].toFixed(2);
  };
  // Why the bump at a time is no event, or why its event lies below the dashed line.
  const reason = (t) => {
    const note = data.notes.find(([start, stop]) => start <= t && t < stop);
    return note ? " · " + note[2] : "";
  };

  // Shows the current time everywhere: playhead, readout and the events under it.
  let last = -1;
  function show() {
    const t = Math.min(now(), end);
    if (t === last) return;
    last = t;
    playhead.style.left = (end ? (100 * t) / end : 0) + "%";
    scrub.setAttribute("aria-valuenow", t.toFixed(2));
    const words = describe(t) + reason(t);
    scrub.setAttribute("aria-valuetext", clock(t) + " of " + clock(end) + ", " + words);
    readout.textContent = clock(t) + " of " + clock(end) + " · " + words;
    for (const event of events) {
      const inside = event.start <= t && t < event.end;
      if (inside) event.item.setAttribute("aria-current", "true");
      else event.item.removeAttribute("aria-current");
    }
  }

  // Moves: to a time, or to the next or previous event.
  function seek(t) {
    ownTime = Math.min(Math.max(t, 0), end);
    if (!broken()) {
      // A video may be shorter than its scores by a frame.
      const most = Number.isFinite(video.duration) ? video.duration : end;
      video.currentTime = Math.min(ownTime, most);
    }
    show();
  }
  function play() {
    if (!broken()) video.play().catch(() => {});  // a refusal leaves the player still
  }
  function jump(step) {
    const t = now();
    const later = events.filter((e) => e.start > t + 0.05);
    const before = events.filter((e) => e.start < t - 0.5);
    const to = step > 0 ? later[0] : before[before.length - 1];
    if (to) seek(to.start);
  }

  // The pointer seeks, and a tip shows what is below it.
  const at = (event) => {
    const box = scrub.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  };
  scrub.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    // A finger that moves up or down scrolls the page, so it seeks when it is lifted.
    if (event.pointerType === "touch") return;
    scrub.setPointerCapture(event.pointerId);
    seek(at(event) * end);
  });
  scrub.addEventListener("click", (event) => seek(at(event) * end));
  scrub.addEventListener("pointermove", (event) => {
    if (event.buttons & 1 && scrub.hasPointerCapture(event.pointerId)) {
      seek(at(event) * end);
    }
    if (event.pointerType === "touch") return;
    const share = at(event);
    tip.hidden = false;
    tip.textContent = 
      clock(share * end) + " · " + describe(share * end) + reason(share * end);
    const half = tip.offsetWidth / 2, width = scrub.offsetWidth;
    const middle = Math.max(half, Math.min(share * width, width - half));
    tip.style.left = middle + "px";
  });
  scrub.addEventListener("pointerleave", () => { tip.hidden = true; });

  // Keys of the slider; N, P and Space are used by the whole page, too.
  const page = Math.max(10, end / 20);
  const keys = {
    ArrowRight: () => seek(now() + 1),
    ArrowUp: () => seek(now() + 1),
    ArrowLeft: () => seek(now() - 1),
    ArrowDown: () => seek(now() - 1),
    PageUp: () => seek(now() + page),
    PageDown: () => seek(now() - page),
    Home: () => seek(0),
    End: () => seek(end),
    n: () => jump(1),
    p: () => jump(-1),
    " ": () => { if (broken() || video.paused) play(); else video.pause(); },
  };
  scrub.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = keyOf(event);
    if (!Object.hasOwn(keys, key)) return;
    event.preventDefault();
    keys[key]();
  });

  // Events and key frames seek and play.
  for (const button of root.querySelectorAll("[data-seek]")) {
    button.addEventListener("click", (event) => {
      seek(Number(button.dataset.seek));
      play();
      root.querySelector(".stage").scrollIntoView({ block: "nearest" });
      // Clicked with a pointer: the next Space is for the player, not for the button.
      if (event.detail) button.blur();
    });
  }

  // The timeline follows the video; one that doesn't play gives way to a note.
  if (video) {
    const complain = () => {
      video.hidden = true;
      root.querySelector(".unplayable").hidden = false;
    };
    video.addEventListener("error", complain);
    if (video.error) complain();
    for (const name of ["timeupdate", "seeking", "seeked", "loadedmetadata"]) {
      video.addEventListener(name, show);
    }
    const follow = () => {
      show();
      if (!video.paused && !video.ended) requestAnimationFrame(follow);
    };
    video.addEventListener("play", () => {
      for (const other of document.querySelectorAll("video")) {
        if (other !== video) other.pause();
      }
      requestAnimationFrame(follow);
    });
  }

  const player = {
    root,
    // Returns whether the key did something; Space scrolls if nothing can be played.
    press(key) {
      if (key === " " && broken()) return false;
      keys[key]();
      root.querySelector(".stage").scrollIntoView({ block: "nearest" });
      return true;
    },
  };
  for (const name of ["pointerdown", "focusin"]) {
    root.addEventListener(name, () => { lastUsed = player; });
  }
  if (video) video.addEventListener("play", () => { lastUsed = player; });

  // The page says what works only now that it does.
  const hint = root.querySelector(".hint[id]");
  readout.hidden = hint.hidden = false;
  for (const [name, value] of Object.entries({
    role: "slider", tabindex: "0", "aria-label": scrub.dataset.label,
    "aria-describedby": hint.id, "aria-valuemin": "0", "aria-valuemax": end.toFixed(2),
  })) scrub.setAttribute(name, value);
  show();
  return player;
}

function setUpKeys(players) {
  const inView = ({ root }) => {
    const box = root.getBoundingClientRect();
    return Math.min(box.bottom, window.innerHeight) - Math.max(box.top, 0);
  };
  const chosen = () => lastUsed && inView(lastUsed) > 0 ? lastUsed
    : players.reduce((best, other) => inView(other) > inView(best) ? other : best);
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = keyOf(event), target = event.target;
    if (!["n", "p", " "].includes(key)) return;
    if (target.closest("input, textarea, select, [contenteditable]")) return;
    // Space presses the focused button; the video's own controls use it, too.
    if (key === " " && target.closest("button, a, summary, video")) return;
    if (chosen().press(key)) event.preventDefault();
  });
}

function setUpFilter(filter) {
  const input = filter.querySelector("input"), status = filter.querySelector("span");
  const rows = Array.from(document.querySelectorAll(".overview li"));
  filter.hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.dataset.words.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      if (!row.hidden) shown += 1;
    }
    const few = shown ? shown + " of " + rows.length
      : "No name or class of the " + rows.length + " videos has " + words.join(" and ");
    status.textContent = words.length ? few : "";
    document.querySelector(".overview").hidden = !shown;
  });
}

const players = Array.from(document.querySelectorAll("article.video"), setUp);
if (players.length) setUpKeys(players);
document.querySelectorAll(".filter").forEach(setUpFilter);
