/* Pictures: those that were refused for being too many are asked for again; the preview moves without loading pages. */
"use strict";

(() => {
  const RETRY_MS = 1500;
  const RETRIES = 8;
  const AHEAD = 3;
  const SYNC_MS = 500;
  const WHEEL_MS = 60;

  function again(image) {
    const tries = Number(image.dataset.tries || 0);
    if (tries >= RETRIES) return;
    image.dataset.tries = String(tries + 1);
    const address = image.src;
    window.setTimeout(() => {
      if (image.src === address) image.src = address;
    }, RETRY_MS * (1 + Math.random()));
  }

  document.addEventListener("error", (event) => event.target.tagName === "IMG" && again(event.target), true);
  for (const image of document.images) if (image.complete && image.naturalWidth === 0 && image.loading !== "lazy") again(image);

  const viewer = document.getElementById("viewer");
  if (!viewer) return;

  const picture = document.getElementById("picture");
  const stage = viewer.querySelector(".stage");
  const position = document.getElementById("position");
  const items = viewer.dataset.items.split(",").map((item) => item.split(":").map(Number));
  let index = Math.max(items.findIndex(([id]) => id === Number(viewer.dataset.instance)), 0);
  let frame = Number(viewer.dataset.frame);
  let chosen = viewer.dataset.chosen;
  let direction = 1;
  let wanted = "";
  let loading = null;
  let timer = 0;

  const source = (at, of) =>
    `${viewer.dataset.picture.replace("/0/", `/${items[at][0]}/`)}?frame=${of}${chosen && `&${chosen}`}&size=${viewer.dataset.size}`;
  const address = () =>
    `${viewer.dataset.address}?instance=${items[index][0]}${items[index][1] > 1 ? `&frame=${frame}` : ""}${chosen && `&${chosen}`}`;

  function beside(step, at = index, of = frame) {
    if (of + step >= 1 && of + step <= items[at][1]) return [at, of + step];
    if (at + step < 0 || at + step >= items.length) return null;
    return [at + step, step < 0 ? items[at + step][1] : 1];
  }

  function ahead() {
    let next = [index, frame];
    for (let i = 0; i < AHEAD && next; i += 1) {
      next = beside(direction, ...next);
      if (next) new Image().src = source(...next);
    }
  }

  // One at a time: what is passed over while a picture loads is not asked for at all.
  function show() {
    wanted = source(index, frame);
    place();
    if (loading) return;
    load();
  }

  function load() {
    const asked = wanted;
    loading = new Image();
    loading.onload = loading.onerror = () => {
      loading = null;
      if (asked !== wanted) return void load();
      delete picture.dataset.tries;
      picture.src = asked;
      picture.alt = document.getElementById("place").textContent;
      ahead();
    };
    loading.src = asked;
  }

  function place() {
    const [before, after] = [beside(-1), beside(1)];
    const frames = items[index][1];
    const words = document.getElementById("place");
    words.replaceChildren("Object ", bold(index + 1), ` of ${items.length}`);
    if (frames > 1) words.append(", frame ", bold(frame), ` of ${frames}`);
    position.value = String(index + 1);
    document.getElementById("before").classList.toggle("off", !before);
    document.getElementById("after").classList.toggle("off", !after);
    history.replaceState(null, "", address());
    window.clearTimeout(timer);
    timer = window.setTimeout(sync, SYNC_MS);
  }

  function bold(text) {
    const element = document.createElement("b");
    element.textContent = text;
    return element;
  }

  // Names, numbers and links of what is shown now, from the server, once nobody moves any more.
  async function sync() {
    const asked = address();
    try {
      const answer = await fetch(asked, { cache: "no-store" });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (asked !== address() || (document.activeElement && document.activeElement.closest("#window"))) return;
      for (const part of ["#window", ".windows", ".facts", "#caption", "#before", "#after"]) {
        const [shown, fresh] = [viewer.querySelector(part), page.querySelector(`#viewer ${part}`)];
        if (shown && fresh && shown.outerHTML !== fresh.outerHTML) exchange(shown, fresh);
      }
    } catch {
      /* the picture itself says when the gateway does not answer */
    }
  }

  function exchange(shown, fresh) {
    const focused = document.activeElement === shown;
    for (const button of fresh.querySelectorAll("button.copy")) button.hidden = false;
    shown.replaceWith(fresh);
    if (focused) fresh.focus({ preventScroll: true });
  }

  function move(step) {
    const next = beside(step);
    if (!next) return;
    direction = step;
    [index, frame] = next;
    show();
  }

  function go(at, of = 1) {
    direction = at < index ? -1 : 1;
    [index, frame] = [at, of];
    show();
  }

  function windowSet(center, width) {
    chosen = center === "" || width === "" ? "" : `center=${center}&width=${width}`;
    show();
  }

  viewer.addEventListener("click", (event) => {
    const link = event.target.closest("#before, #after, .windows a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.id) move(link.id === "before" ? -1 : 1);
    else windowSet(link.dataset.center, link.dataset.width);
  });
  viewer.addEventListener("submit", (event) => {
    event.preventDefault();
    const { frame: of, center, width } = event.target.elements;
    if (of) frame = Math.min(Math.max(Number(of.value) || 1, 1), items[index][1]);
    if (document.activeElement) document.activeElement.blur();
    windowSet(center ? center.value : "", width && Number(width.value) > 0 ? width.value : "");
  });
  position.addEventListener("input", () => go(Number(position.value) - 1));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
    const steps = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1 };
    if (steps[event.key]) move(steps[event.key]);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(items.length - 1);
    else return;
    event.preventDefault();
  });
  let wheeled = 0;
  stage.addEventListener("wheel", (event) => {
    if (event.ctrlKey) return;
    event.preventDefault();
    if (event.timeStamp - wheeled < WHEEL_MS || !event.deltaY) return;
    wheeled = event.timeStamp;
    move(event.deltaY > 0 ? 1 : -1);
  }, { passive: false });

  // Dragging: right for a wider window, up for a lower center (a brighter picture), as in other viewers.
  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    const form = document.getElementById("window");
    const { center, width } = form ? form.elements : {};
    if (event.button !== 0 || event.pointerType === "touch" || !center || !width) return;
    drag = { x: event.clientX, y: event.clientY, center: Number(center.value), width: Number(width.value) };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const unit = Math.max(drag.width, 1) / 300;
    const width = Math.max(drag.width + (event.clientX - drag.x) * unit, 1);
    const center = drag.center + (event.clientY - drag.y) * unit;
    if (Math.abs(event.clientX - drag.x) + Math.abs(event.clientY - drag.y) < 4) return;
    const form = document.getElementById("window");
    form.elements.center.value = center.toPrecision(4) * 1;
    form.elements.width.value = width.toPrecision(4) * 1;
    windowSet(form.elements.center.value, form.elements.width.value);
  });
  stage.addEventListener("pointerup", () => { drag = null; });
  stage.addEventListener("pointercancel", () => { drag = null; });

  position.hidden = items.length < 2;
  document.getElementById("handling").hidden = false;
  ahead();
})();
