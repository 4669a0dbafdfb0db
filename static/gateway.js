/* The pages work without this file; with it they stay fresh, answer the keyboard and copy UIDs. */
"use strict";

(() => {
  const REFRESH_MS = 3000;
  const REFRESH_MAX_MS = 60000;
  const main = document.getElementById("main");

  /* -- live parts: every element with data-part is replaced when the server's differs -- */

  // What a person would see: form tokens differ each time, and countdowns run by themselves.
  function signature(part) {
    const copy = part.cloneNode(true);
    for (const token of copy.querySelectorAll("[name=csrfmiddlewaretoken]")) token.remove();
    for (const time of copy.querySelectorAll("time[data-until]")) time.textContent = "";
    return copy.outerHTML;
  }

  const signatures = new Map();

  function partsReplace(fresh) {
    for (const part of fresh.querySelectorAll("[data-part]")) {
      const shown = main.querySelector(`[data-part="${part.dataset.part}"]`);
      const now = signature(part);
      if (!shown || signatures.get(part.dataset.part) === now || busy(shown)) continue;
      if (shown.classList.contains("empty") !== part.classList.contains("empty")) return void location.reload();
      const focus = focusRemember(shown);
      signatures.set(part.dataset.part, now);
      openedRestore(shown, part);
      prepare(part);
      const left = shown.scrollLeft;
      shown.replaceWith(part);
      part.scrollLeft = left;
      focusRestore(part, focus);
    }
  }

  // What is open stays open in the fresh part: by its id, else where the same words stand, at its own place first.
  function openedRestore(shown, part) {
    const fresh = [...part.querySelectorAll("details")];
    [...shown.querySelectorAll("details")].forEach((details, at) => {
      if (!details.open) return;
      const same = (other) => other && (details.id ? other.id === details.id : other.textContent === details.textContent);
      const found = same(fresh[at]) ? fresh[at] : fresh.find(same);
      if (found) found.open = true;
    });
  }

  // What somebody has ticked or begun to write stays until it is sent or taken back.
  function busy(part) {
    const active = document.activeElement;
    const writing = part.contains(active) && active.matches("input:not([type=checkbox]), select, textarea");
    const written = [...part.querySelectorAll("input:not([type=hidden]), textarea")].some((e) => e.value !== e.defaultValue);
    return writing || written || part.querySelector("input:checked") !== null;
  }

  function focusRemember(part) {
    const active = document.activeElement;
    if (!part.contains(active)) return null;
    const focusable = [...part.querySelectorAll("a[href], button, input, summary")];
    const row = active.closest("[data-row]");
    return { row: row && row.dataset.row, index: focusable.indexOf(active) };
  }

  function focusRestore(part, focus) {
    if (!focus) return;
    const row = focus.row && part.querySelector(`[data-row="${focus.row}"] a`);
    const target = row || [...part.querySelectorAll("a[href], button, input, summary")][focus.index];
    if (target) target.focus({ preventScroll: true });
  }

  function selecting() {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && main.contains(selection.anchorNode);
  }

  let wait = REFRESH_MS;
  let timer = 0;
  let asking = false;

  async function refresh() {
    if (asking) return;
    window.clearTimeout(timer);
    if (!document.hidden && !selecting()) {
      asking = true;
      const goOn = await ask();
      asking = false;
      if (!goOn) return;
    }
    timer = window.setTimeout(refresh, wait);
  }

  async function ask() {
    try {
      const answer = await fetch(main.dataset.live, { cache: "no-store", headers: { "X-Gateway-Live": "1" } });
      if (answer.redirected) {
        notice("Your session has ended. ", "/login/", "Log in again");
        return false;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      partsReplace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      notice("");
      wait = REFRESH_MS;
    } catch {
      notice("The gateway does not answer; what you see is the last it said. Trying again …");
      wait = Math.min(wait * 2, REFRESH_MAX_MS);
    }
    return true;
  }

  function notice(words, address, link) {
    let line = document.getElementById("notice");
    if (!words) return line && line.remove();
    if (!line) {
      line = document.createElement("p");
      line.id = "notice";
      line.setAttribute("role", "status");
      document.body.append(line);
    }
    line.textContent = words;
    if (address) {
      const anchor = document.createElement("a");
      anchor.href = address;
      anchor.textContent = link;
      line.append(anchor);
    }
  }

  /* -- countdowns -- */

  function durationWords(seconds) {
    const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
    for (let i = 0; i < 3; i += 1) {
      const [unit, name] = units[i];
      if (seconds >= unit) {
        const rest = Math.floor((seconds % unit) / units[i + 1][0]);
        return `${Math.floor(seconds / unit)} ${name}${rest ? ` ${rest} ${units[i + 1][1]}` : ""}`;
      }
    }
    return `${Math.max(0, Math.floor(seconds))} s`;
  }

  function tick() {
    for (const time of document.querySelectorAll("time[data-until]")) {
      const words = durationWords((Number(time.dataset.until) - Date.now()) / 1000);
      if (time.textContent !== words) time.textContent = words;
    }
  }

  /* -- copying -- */

  function prepare(root) {
    for (const button of root.querySelectorAll("button.copy, button[data-print]")) button.hidden = false;
  }

  async function copy(button) {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      const field = document.createElement("textarea"); // without TLS there is no clipboard object
      field.value = button.dataset.copy;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
      button.focus();
    }
    button.classList.add("copied");
    window.setTimeout(() => button.classList.remove("copied"), 1200);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.copy");
    if (button) return void copy(button);
    if (event.target.closest("button[data-print]")) return void window.print();
    const row = event.target.closest("tr[data-row]");
    if (row && !event.target.closest("a, button, input") && !selecting()) row.querySelector("a").click();
  });

  /* -- keys -- */

  function rowsMove(step) {
    const links = [...document.querySelectorAll("tr[data-row] a")];
    const row = document.activeElement.closest("tr[data-row]");
    const at = row ? links.indexOf(row.querySelector("a")) : -1;
    const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + step, 0), links.length - 1);
    if (!links[next]) return false;
    links[next].focus();
    links[next].closest("tr").scrollIntoView({ block: "nearest" });
    return true;
  }

  function typing(target) {
    return target.matches("input, textarea, select");
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const search = document.getElementById("search");
    const keys = document.getElementById("keys");
    if (keys && keys.open) return;
    if (typing(event.target)) {
      if (event.target === search && event.key === "Escape") search.blur();
      if (event.target === search && event.key === "ArrowDown" && rowsMove(1)) event.preventDefault();
    } else if (event.key === "/" && search) {
      event.preventDefault();
      search.select();
    } else if (event.key === "/") {
      const studies = document.querySelector(".top nav a[href$='/studies/']");
      if (studies) location.href = `${studies.href}#search`;
    } else if (event.key === "?" && keys) {
      keys.showModal();
    } else if ((event.key === "ArrowDown" && rowsMove(1)) || (event.key === "ArrowUp" && rowsMove(-1))) {
      event.preventDefault();
    }
  });

  /* -- begin -- */

  if (main && main.dataset.live) {
    for (const part of main.querySelectorAll("[data-part]")) signatures.set(part.dataset.part, signature(part));
    timer = window.setTimeout(refresh, REFRESH_MS);
    document.addEventListener("visibilitychange", () => document.hidden || refresh());
  }
  prepare(document);
  if (location.hash === "#search") document.getElementById("search")?.select();
  const here = document.querySelector(".top nav a[aria-current]");
  if (here) here.scrollIntoView({ block: "nearest", inline: "center" });
  window.setInterval(tick, 1000);
})();
