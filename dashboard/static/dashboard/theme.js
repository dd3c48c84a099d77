// Sets the chosen theme before the first paint; without a choice the system decides.
(() => {
  const stored = (() => { try { return localStorage.getItem("z4j-theme"); } catch { return null; } })();
  if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
  document.documentElement.dataset.js = "on";
})();
