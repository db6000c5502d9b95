"use strict";
// Themes, tables that sort and filter, and figures that answer. Nothing here asks the network for anything.

const root = document.documentElement;
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Themes: what the system prefers, until the reader chooses.
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemIsDark.matches);

function themeChanged() {
  document.getElementById("theme").setAttribute("aria-checked", String(isDark()));
  all(".drawn .plot").forEach(recolor);
}

function startThemes() {
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("basinvol-theme", root.dataset.theme);
    } catch {
      // A page without storage forgets the choice when it is closed.
    }
    themeChanged();
  });
  systemIsDark.addEventListener("change", themeChanged);
  themeChanged();
}

// Tables. A cell is sorted by its data-value if it has one, and by its text if not; cells without a number come last.
function sortKey(row, column) {
  const cell = row.cells[column];
  if (!("value" in cell.dataset)) return cell.textContent.trim();
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const direction = heads[column].ariaSort === "ascending" ? "descending" : "ascending";
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = [...table.tBodies[0].rows].map((row) => [sortKey(row, column), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  });
  table.tBodies[0].append(...keyed.map(([, row]) => row));
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].ariaSort = direction;
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = make("button", { type: "button" }, ...head.childNodes);
    button.addEventListener("click", () => sortBy(table, column));
    head.replaceChildren(button);
  });
}

const filters = new Map(); // of each table: what shows all of its rows

function makeFilterable(table) {
  const rows = [...table.tBodies[0].rows];
  const count = make("output");
  const search = make("input", { type: "search" });
  const chosen = [...table.tHead.rows[0].cells].flatMap((head, column) => {
    const keys = new Map(rows.map((row) => [row.cells[column].textContent.trim(), sortKey(row, column)]));
    if (!("filter" in head.dataset) || keys.size < 2) return [];
    const values = [...keys].sort(([, a], [, b]) => (typeof a === "number" ? a - b : 0)).map(([text]) => text);
    const select = make("select", {}, new Option("all", ""), ...values.map((value) => new Option(value)));
    return [{ column, select, title: head.textContent.trim() }];
  });

  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      const isChosen = chosen.every(
        ({ column, select }) => !select.value || row.cells[column].textContent.trim() === select.value,
      );
      row.hidden = !(isChosen && words.every((word) => text.includes(word)));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  filters.set(table, () => {
    search.value = "";
    chosen.forEach(({ select }) => (select.value = ""));
    update();
  });

  const clear = make("button", { type: "button", textContent: "Show all" });
  clear.addEventListener("click", filters.get(table));
  const fields = chosen.map(({ select, title }) => make("label", {}, title, select));
  const tools = make("div", { className: "tools" }, make("label", {}, "search", search), ...fields, clear, count);
  tools.setAttribute("role", "group");
  tools.setAttribute("aria-label", `Filters: ${table.caption.textContent}`);
  tools.addEventListener("input", update);
  table.closest(".scroll").before(tools);
  update();
}

// A link to a row shows it, whatever is filtered.
function showTarget() {
  const row = document.getElementById(location.hash.slice(1));
  if (!row || !row.matches("tr")) return;
  if (row.hidden) filters.get(row.closest("table"))();
  row.scrollIntoView({ block: "center" });
  row.focus({ preventScroll: true });
}

function goTo(anchor) {
  if (location.hash === `#${anchor}`) showTarget();
  else location.hash = anchor;
}

// Figures. Every panel is a plot of its own; colors come from the style sheet.
function themeOf(plot) {
  const page = getComputedStyle(document.body);
  const grid = getComputedStyle(plot.closest("figure")).borderTopColor;
  return { ink: page.color, ground: page.backgroundColor, grid };
}

function themedLayout({ ink, ground, grid }) {
  const axis = (name) => ({ [`${name}.gridcolor`]: grid, [`${name}.linecolor`]: ink, [`${name}.tickcolor`]: ink });
  return {
    "font.color": ink,
    "hoverlabel.bgcolor": ground,
    "hoverlabel.bordercolor": ink,
    "hoverlabel.font.color": ink,
    ...axis("xaxis"),
    ...axis("yaxis"),
  };
}

function indicesOf(plot, isWanted) {
  return plot.data.flatMap((trace, index) => (isWanted(trace) ? [index] : []));
}

function recolor(plot) {
  const theme = themeOf(plot);
  Plotly.relayout(plot, themedLayout(theme));
  const inked = indicesOf(plot, (trace) => trace.meta?.ink && !trace.fill);
  if (inked.length) Plotly.restyle(plot, { "line.color": theme.ink, "marker.color": theme.ink }, inked);
  const bars = indicesOf(plot, (trace) => trace.colorbar);
  if (bars.length) {
    Plotly.restyle(plot, { "colorbar.tickfont.color": theme.ink, "colorbar.title.font.color": theme.ink }, bars);
  }
}

const config = { responsive: true, displayModeBar: false };

async function draw(plot, { data, layout }) {
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12 };
  // A finger that drags wants to scroll.
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  await Plotly.newPlot(plot, data, { ...layout, font, dragmode }, config);
  recolor(plot);
  plot.on("plotly_click", ({ points }) => {
    if (points[0].customdata && dragmode) goTo(points[0].customdata);
  });
}

function startLegend(figure) {
  for (const button of all(".legend button", figure)) {
    button.addEventListener("click", () => {
      const visible = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(visible));
      for (const plot of all(".plot", figure)) {
        const found = indicesOf(plot, (trace) => trace.meta?.series === button.dataset.series);
        if (found.length) Plotly.restyle(plot, { visible }, found);
      }
    });
  }
}

// Left and right go through the points of a series, up and down through the series.
function startKeys(figure, plot) {
  const reading = figure.querySelector(".reading");
  let curve = 0;
  let point = -1;
  const curves = () => indicesOf(plot, (trace) => trace.hovertext && trace.visible !== false);
  const leave = () => {
    Plotly.Fx.unhover(plot);
    reading.textContent = "";
    point = -1;
  };
  plot.addEventListener("blur", leave);
  plot.addEventListener("keydown", (event) => {
    const shown = curves();
    if (!shown.length) return;
    const at = () => plot.data[shown[curve]];
    curve = Math.min(curve, shown.length - 1);
    if (event.key === "Escape") return leave();
    if (event.key === "Enter" && at().customdata && point >= 0) return goTo(at().customdata[point]);
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!step) return undefined;
    event.preventDefault();
    curve = (curve + step[1] + shown.length) % shown.length;
    const count = at().x.length;
    point = point < 0 ? 0 : (Math.min(point, count - 1) + step[0] + count) % count;
    Plotly.Fx.hover(plot, [{ curveNumber: shown[curve], pointNumber: point }]);
    reading.textContent = at().hovertext[point].replaceAll("<br>", "; ").replaceAll(/<[^>]*>/g, "");
    return undefined;
  });
}

async function drawFigure(figure, plots) {
  figure.classList.add("drawn");
  const places = all(".plot", figure);
  for (const [index, plot] of places.entries()) {
    await draw(plot, plots[index]);
    startKeys(figure, plot);
  }
  startLegend(figure);
}

async function drawAll() {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  for (const [name, parts] of Object.entries(plots)) {
    await drawFigure(document.getElementById(`figure-${name}`), parts);
    await new Promise((done) => setTimeout(done)); // the page answers between two figures
  }
  root.dataset.drawn = "all";
}

all("table").forEach(makeSortable);
all("table[data-filters]").forEach(makeFilterable);
startThemes();
addEventListener("hashchange", showTarget);
addEventListener("beforeprint", () => all("details").forEach((details) => (details.open = true)));
drawAll().then(showTarget);
