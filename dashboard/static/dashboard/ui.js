// What makes pages pleasant and is not needed to read them: theme, copy buttons, questions, moving relative times.
(() => {
  "use strict";
  const root = document.documentElement;
  const THEMES = ["system", "light", "dark"];

  function showTheme() {
    for (const name of document.querySelectorAll("[data-theme-name]")) name.textContent = root.dataset.theme || "system";
  }

  function nextTheme() {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme || "system") + 1) % THEMES.length];
    if (next === "system") delete root.dataset.theme; else root.dataset.theme = next;
    try { localStorage.setItem("z4j-theme", next); } catch { /* private mode: this page only */ }
    showTheme();
    document.dispatchEvent(new CustomEvent("z4j:theme"));
  }

  async function copy(button) {
    let text = button.dataset.copy;
    let done = true;
    try {
      if (button.dataset.copyUrl) text = await whole(button.dataset.copyUrl);
    } catch {
      answered(button, false);
      return;
    }
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Clipboard access needs https; a selected text area works everywhere.
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "hidden";
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    answered(button, done);
  }

  function answered(button, done) {
    button.dataset.copied = done ? "yes" : "no";
    setTimeout(() => { delete button.dataset.copied; }, 1600);
  }

  // A text that is too long for the page is fetched when somebody wants it.
  async function whole(url) {
    const response = await fetch(url, { redirect: "error" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    return response.text();
  }

  // -- questions before an action -----------------------------------------------------------------------------------
  let asked = null;

  function ask(form) {
    const dialog = document.getElementById("confirm");
    asked = { form, opener: document.activeElement };
    document.getElementById("confirm-question").textContent = form.dataset.confirm;
    document.getElementById("confirm-subject").textContent = form.dataset.subject || "";
    dialog.querySelector("[data-accept]").textContent = form.querySelector("button[type=submit]").textContent.trim();
    dialog.showModal();
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-confirm]")) return;
    const field = form.elements.namedItem("confirmed");
    if (field.value === "yes") return;
    event.preventDefault();
    ask(form);
  });

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target) return;
    const button = target.closest("[data-copy]");
    if (button) { event.preventDefault(); copy(button); return; }
    if (target.closest("[data-theme-toggle]")) { nextTheme(); return; }
    const dialog = target.closest("dialog");
    if (dialog && target.closest("[data-cancel]")) dialog.close();
    if (dialog && target.closest("[data-accept]") && asked) {
      dialog.close();
      const form = asked.form.isConnected ? asked.form : document.querySelector(`form[action="${CSS.escape(asked.form.getAttribute("action"))}"]`);
      if (form) { form.elements.namedItem("confirmed").value = "yes"; form.requestSubmit(); }
    }
    for (const menu of document.querySelectorAll("details[data-menu][open]")) if (!menu.contains(target)) menu.open = false;
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of document.querySelectorAll("details[data-menu][open]")) { menu.open = false; menu.querySelector("summary").focus(); }
    const typing = event.target instanceof Element && event.target.closest("input, select, textarea, [contenteditable], dialog");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const search = document.querySelector("[data-search]");
    if (event.key === "/" && search) { event.preventDefault(); search.focus(); }
  });

  // -- parts that htmx replaces -------------------------------------------------------------------------------------
  const opened = new Map();

  document.addEventListener("htmx:configRequest", (event) => {
    if (!event.detail.elt.matches("[data-drop-empty]")) return;
    for (const [name, value] of [...event.detail.formData.entries()]) if (value === "") event.detail.formData.delete(name);
  });

  // What is under a pressed pointer stays where it is, or the click would be lost; the page catches up afterwards.
  let pressed = false, missed = false;
  document.addEventListener("pointerdown", () => { pressed = true; });
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => {
      pressed = false;
      if (missed) setTimeout(() => { missed = false; document.body.dispatchEvent(new CustomEvent("z4j:changed", { bubbles: true })); }, 50);
    });
  }

  document.addEventListener("htmx:beforeSwap", (event) => {
    if (pressed) { missed = true; event.detail.shouldSwap = false; return; }
    const part = event.detail.target;
    if (!part || !part.matches("[data-keep-open]")) return;
    if (document.getElementById("confirm").open || part.contains(document.activeElement) && document.activeElement.matches("input")) {
      event.detail.shouldSwap = false;
      return;
    }
    opened.clear();
    for (const one of part.querySelectorAll("details[id]")) opened.set(one.id, one.open);
  });

  document.addEventListener("htmx:afterSettle", () => {
    for (const [id, open] of opened) { const one = document.getElementById(id); if (one) one.open = open; }
    opened.clear();
  });

  // -- relative times, as dashboard/formats.py words them -----------------------------------------------------------
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  function ago(moment, now) {
    const seconds = Math.round((now - moment) / 1000);
    const size = Math.abs(seconds);
    if (size < 3) return "just now";
    const [length, unit] = UNITS.find(([least]) => size >= least);
    const text = `${Math.floor(size / length)} ${unit}`;
    return seconds > 0 ? `${text} ago` : `in ${text}`;
  }

  function refreshTimes() {
    const now = Date.now();
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const text = ago(Date.parse(time.dateTime), now);
      if (time.textContent !== text) time.textContent = text;
    }
  }

  setInterval(() => { if (!document.hidden) refreshTimes(); }, 5000);
  showTheme();
})();
