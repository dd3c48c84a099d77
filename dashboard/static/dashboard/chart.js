// The chart of the overview: succeeded and failed stacked as bars, retried as a line; colours come from the legend.
(() => {
  "use strict";
  const place = document.getElementById("chart");
  const HEIGHT = 222;
  let plot = null, data = null;

  const colour = (series) => getComputedStyle(document.querySelector(`#chart-legend .mark-${series}`)).color;
  const ink = () => getComputedStyle(document.querySelector("#chart-legend")).color;
  const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);

  function columns(told) {
    const total = told.succeeded.map((count, index) => (count === null ? null : count + told.failed[index]));
    const some = told.retried.some((count) => count > 0);
    return [told.minutes, total, told.succeeded, some ? told.retried : told.retried.map(() => null)];
  }

  function bars(label, series) {
    return { label, fill: colour(series), stroke: colour(series), width: 0, paths: uPlot.paths.bars({ size: [0.72, 22], radius: 0.15 }), points: { show: false } };
  }

  function axis(extra) {
    const text = ink();
    const faint = text.replace(/^rgb\((.*)\)$/, "rgba($1, 0.16)");
    return { stroke: text, font: "12px system-ui, sans-serif", grid: { stroke: faint, width: 1 }, ticks: { show: false }, ...extra };
  }

  function options() {
    return {
      width: place.clientWidth, height: HEIGHT, legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: true, range: (_, min, max) => [min - 40, max + 40] }, y: { range: (_, __, max) => [0, Math.max(4, max * 1.1)] } },
      axes: [
        axis({ size: 26, gap: 6, grid: { show: false }, values: (_, splits) => splits.map(clock), space: 70 }),
        axis({ size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000], values: (_, splits) => splits.map((value) => value.toLocaleString("en")) }),
      ],
      series: [{}, bars("failed", "failed"), bars("succeeded", "succeeded"),
        { label: "retried", stroke: colour("retried"), width: 2, points: { show: false } }],
      hooks: { setCursor: [showMinute] },
    };
  }

  const tip = document.createElement("div");
  tip.className = "chart-tip";
  tip.hidden = true;

  function showMinute(chart) {
    const index = chart.cursor.idx;
    tip.hidden = index === null || index === undefined || chart.cursor.left < 0;
    if (tip.hidden) return;
    const known = data.succeeded[index] !== null;
    const line = !known ? `${clock(data.minutes[index])} UTC · nothing was told yet` : `${clock(data.minutes[index])} UTC · ${data.succeeded[index]} succeeded · ${data.failed[index]} failed · ${data.retried[index]} retried`;
    if (tip.textContent !== line) tip.textContent = line;
  }

  function draw() {
    if (!data) return;
    if (plot) plot.destroy();
    plot = new uPlot(options(), columns(data), place);
    place.append(tip);
  }

  let asking = false;
  async function refresh() {
    if (asking) return;
    asking = true;
    try {
      const response = await fetch(place.dataset.url, { headers: { Accept: "application/json" } });
      if (!response.ok || !response.headers.get("content-type").startsWith("application/json")) return;
      data = await response.json();
      if (plot) plot.setData(columns(data)); else draw();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;  // the network is away; the next hint tries again
    } finally {
      asking = false;
    }
  }

  document.body.addEventListener("z4j:changed", refresh);
  document.addEventListener("z4j:theme", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(() => { if (plot && plot.width !== place.clientWidth) plot.setSize({ width: place.clientWidth, height: HEIGHT }); }).observe(place);
  refresh();
})();
