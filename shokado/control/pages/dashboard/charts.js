// Charts over time, and of scores: uPlot, in the colours of the versions, with one cursor for all of them.

import uPlot from './uplot-1.6.32/uPlot.esm.js';
import { DASHES, dashOf, onTheme, strokeOf, swatch } from './colours.js';
import { element } from './elements.js';
import { short } from './numbers.js';

const HEIGHT = 156;
const cursors = uPlot.sync('time');
const drawn = new Set();

const themeColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A panel with a chart. `unit` writes a value; what is drawn is said in words as well, for who cannot see it. Charts of
 * the last minutes (`live`) have one cursor, and begin at zero.
 */
export class Chart {
  #plot = null;
  #lines = '';
  #data = null;
  #axis = null;

  constructor(parent, { title, note = '', unit = short, time = true, live = time, options = null }) {
    this.title = title;
    this.unit = unit;
    this.time = time;
    this.live = live;
    this.readout = element('div', { class: 'readout', hidden: true });
    this.place = element('div', { class: 'plot', role: 'img', 'aria-label': title });
    const heading = element('h3', {}, element('span', {}, title, note && element('small', {}, note)), options);
    this.panel = element('div', { class: 'chart' }, heading, this.place);
    parent.append(this.panel);
    new ResizeObserver(() => this.#plot?.setSize({ width: this.place.clientWidth, height: HEIGHT })).observe(
      this.place,
    );
    drawn.add(this);
  }

  /**
   * Draw `lines`, each {name, values, version?}, over `x`; those with `low` and `high` have an interval around each
   * value, and those that are `quiet` are for the eye alone. `axis` has texts of the x axis where it is not time.
   */
  draw(x, lines, axis = null) {
    this.#data = { x, lines };
    this.#axis = axis;
    const wanted = JSON.stringify([lines.map((line) => line.name), axis]);
    if (!this.#plot || wanted !== this.#lines) this.#build(wanted);
    else this.#plot.setData(this.#columns());
    const latest = lines
      .filter((line) => !line.quiet)
      .map((line) => `${line.name} ${this.unit(line.values.findLast((value) => value !== null))}`);
    const label = this.time
      ? `${this.title}, now: ${latest.join(', ') || 'nothing'}`
      : `${this.title} of ${lines.map((line) => line.name).join(', ') || 'nothing'}`;
    this.place.setAttribute('aria-label', label);
  }

  redraw() {
    if (!this.#data) return;
    this.#lines = '';
    this.draw(this.#data.x, this.#data.lines, this.#axis);
  }

  #columns() {
    const { x, lines } = this.#data;
    return [x, ...lines.flatMap((line) => (line.low ? [line.values, line.low, line.high] : [line.values]))];
  }

  #build(wanted) {
    this.#plot?.destroy();
    this.#lines = wanted;
    const { lines } = this.#data;
    const axis = {
      stroke: themeColour('--quiet'),
      grid: { stroke: themeColour('--line'), width: 1 },
      ticks: { show: false },
      font: '11px system-ui',
    };
    const series = [{}];
    const bands = [];
    lines.forEach((line, index) => {
      const stroke = line.version ? strokeOf(line.version) : themeColour('--quiet');
      series.push({
        label: line.name,
        stroke,
        dash: line.dash ?? (line.version ? dashOf(line.version) : DASHES[index % DASHES.length]),
        width: 1.75,
        spanGaps: false,
        points: { show: Boolean(line.low), size: 5, fill: stroke },
        paths: this.time ? undefined : uPlot.paths.stepped({ align: 1 }),
      });
      if (!line.low) return;
      bands.push({ series: [series.length + 1, series.length], fill: `${stroke}2b` });
      for (const bound of ['low', 'high']) series.push({ label: `${line.name} ${bound}`, points: { show: false } });
    });
    this.#plot = new uPlot(
      {
        width: this.place.clientWidth,
        height: HEIGHT,
        padding: [8, 26, 0, 0],
        legend: { show: false },
        cursor: {
          sync: this.live ? { key: cursors.key } : undefined,
          drag: { x: false, y: false },
          points: { size: (_, index) => (series[index].stroke ? 6 : 0) },
        },
        scales: { x: { time: this.time }, y: { range: this.live || !this.time ? fromZero : around } },
        axes: [
          { ...axis, space: 60, size: 28, ...(this.time ? MOMENTS : this.#texts()) },
          { ...axis, size: 52, space: 32, values: (_, values) => values.map(this.unit) },
        ],
        series,
        bands,
        hooks: { setLegend: [(plot) => this.#tell(plot)], draw: [(plot) => this.#drawAlone(plot)] },
      },
      this.#columns(),
      this.place,
    );
  }

  /** The intervals of values that stand alone: between them and others there is nothing to fill. */
  #drawAlone(plot) {
    const { x, lines } = this.#data;
    const { ctx } = plot;
    const known = (values, index) => values[index] !== null && values[index] !== undefined;
    for (const { version, values, low, high } of lines) {
      if (!low) continue;
      ctx.strokeStyle = strokeOf(version);
      ctx.lineWidth = devicePixelRatio;
      values.forEach((_, index) => {
        if (!known(low, index) || known(low, index - 1) || known(low, index + 1)) return;
        const at = plot.valToPos(x[index], 'x', true);
        ctx.beginPath();
        ctx.moveTo(at, plot.valToPos(low[index], 'y', true));
        ctx.lineTo(at, plot.valToPos(high[index], 'y', true));
        ctx.stroke();
      });
    }
  }

  /** The texts of the x axis, as many as there is room for. */
  #texts() {
    const texts = this.#axis ?? [];
    const longest = Math.max(1, ...texts.map((text) => text.length));
    const places = (plot) => {
      const fitting = Math.max(1, Math.floor(plot.over.clientWidth / (7 * longest + 12)));
      const every = Math.ceil(texts.length / fitting);
      return [...texts.keys()].filter((index) => index % every === 0);
    };
    return { splits: places, values: (_, shown) => shown.map((place) => texts[place] ?? '') };
  }

  /** The values under the cursor, largest first, on the side of the chart where it is not. */
  #tell(plot) {
    const { idx: index, left } = plot.cursor;
    this.readout.hidden = !(left >= 0) || index === null || index === undefined;
    if (this.readout.hidden) return;
    const { x, lines } = this.#data;
    const known = (line) => line.values[index] !== null && line.values[index] !== undefined;
    const found = lines.filter((line) => !line.quiet && known(line));
    found.sort((one, other) => other.values[index] - one.values[index]);
    const head = this.time ? toldBy(plot, x[index]) : (this.#axis?.[index] ?? '');
    this.readout.replaceChildren(
      element('div', { class: 'quiet' }, head),
      ...found.map((line) =>
        element('div', {}, line.version ? swatch(line.version) : null, this.#words(line, index)),
      ),
    );
    this.readout.classList.toggle('right', left < plot.over.clientWidth / 2);
    if (this.readout.parentNode !== plot.over) plot.over.append(this.readout);
  }

  #words(line, index) {
    const told = `${line.name} ${this.unit(line.values[index])}`;
    const [low, high] = [line.low?.[index] ?? null, line.high?.[index] ?? null];
    return low === null ? told : `${told} (${this.unit(low)} to ${this.unit(high)})`;
  }
}

const fromZero = (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? 1.08 * high : 1];

/** What there is, with some room; of figures that do not vary, some around them. */
function around(_, low, high) {
  if (low === null || high === null) return [0, 1];
  const room = 0.08 * (high - low) || 0.1 * Math.abs(high) || 0.1;
  return [low < 0 ? low - room : Math.max(0, low - room), high + room];
}

const DAY_S = 86_400;
const clock = (at) => new Date(1000 * at).toLocaleTimeString([], { hour12: false });
const isLong = ({ scales }) => scales.x.max - scales.x.min > DAY_S;

/** A time under the cursor, with its day where the chart has several. */
const toldBy = (plot, at) => (isLong(plot) ? new Date(1000 * at).toLocaleString([], { hour12: false }) : clock(at));

/** What writes a time on the axis: of several days the day, or the hour within it. */
function momentsOf(plot) {
  if (!isLong(plot)) return clock;
  return (at) => {
    const date = new Date(1000 * at);
    if (date.getHours() || date.getMinutes()) return date.toLocaleTimeString([], { hour12: false, timeStyle: 'short' });
    return date.toLocaleDateString([], { day: 'numeric', month: 'short' });
  };
}

const MOMENTS = { values: (plot, at) => at.map(momentsOf(plot)) };

onTheme(() => drawn.forEach((chart) => chart.redraw()));
