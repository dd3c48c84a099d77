// Keeps an open page current: a socket hints that something changed, and the parts of the page ask for themselves.
// A hint that is lost costs a few seconds, never a fact: the page also polls, faster when the socket is down.
(() => {
  "use strict";
  const slug = document.body.dataset.live;
  const label = document.getElementById("live-state");
  const GAP = 1000, POLL_DOWN = 15000, POLL_UP = 45000, LONGEST_PAUSE = 30000;
  const SIGNED_OUT = 4401, NOT_FOUND = 4404;
  let socket = null, failures = 0, last = 0, timer = null, finished = false;

  function show(state, words) {
    if (label.dataset.state === state) return;
    label.dataset.state = state;
    label.querySelector("span").textContent = words;
  }

  function tell() {
    timer = null;
    if (document.hidden) { last = 0; return; }
    last = Date.now();
    document.body.dispatchEvent(new CustomEvent("z4j:changed", { bubbles: true }));
  }

  // At most one event a second; the last hint of a burst is always followed by one.
  function changed() {
    if (timer === null) timer = setTimeout(tell, Math.max(0, last + GAP - Date.now()));
  }

  function connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(`${scheme}//${location.host}/ws/live/${slug}`);
    socket.addEventListener("message", (event) => {
      const message = JSON.parse(event.data);
      if (message.type === "ready") { failures = 0; show("live", "live"); }
      changed();
    });
    socket.addEventListener("close", (event) => {
      socket = null;
      if (event.code === SIGNED_OUT || event.code === NOT_FOUND) {
        finished = true;
        show("off", event.code === SIGNED_OUT ? "signed out" : "not live");
        return;
      }
      show("waiting", "reconnecting");
      failures += 1;
      setTimeout(connect, Math.random() * Math.min(LONGEST_PAUSE, 500 * 2 ** failures) + 250);
    });
  }

  function poll() {
    if (!finished && Date.now() - last >= (socket && socket.readyState === WebSocket.OPEN ? POLL_UP : POLL_DOWN)) changed();
    setTimeout(poll, 5000);
  }

  document.addEventListener("visibilitychange", () => { if (!document.hidden) changed(); });
  window.addEventListener("pageshow", (event) => { if (event.persisted) changed(); });
  last = Date.now();
  connect();
  poll();
})();
