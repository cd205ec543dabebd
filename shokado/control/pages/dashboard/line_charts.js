// The charts of the last minutes: every version in each of them.

import { Chart } from './charts.js';
import { DASHES } from './colours.js';
import { byId, element } from './elements.js';
import { bytes, milliseconds, naturally, percent, short } from './numbers.js';
import { NO_VERSION } from './series.js';

/** Lines of errors by kind; what there is beside the most frequent ones is one line. */
const MOST_KINDS = 11;
const BY_VERSION = [
  { measure: 'request_rate_per_s', title: 'Requests per second' },
  { measure: 'latency', title: 'Latency', unit: milliseconds },
  { measure: 'errors', title: 'Errors per second' },
  { measure: 'queue_wait_ms', title: 'Queue wait', note: 'p95', unit: milliseconds },
  { measure: 'batch_rows', title: 'Rows a batch', note: 'mean' },
  { measure: 'engine_utilization', title: 'Engines', note: 'seconds per second' },
  { measure: 'score', title: 'Score', note: 'mean' },
];
const BY_PROCESS = [
  { measure: 'memory', title: 'Memory', note: 'of each worker', unit: bytes },
  { measure: 'cpu', title: 'Processor', note: 'of each worker', unit: percent },
];

/** What a chart can show instead, by its measure; the first one is shown at the beginning. */
const CHOICES = {
  latency: { label: 'Percentile', options: ['p95', 'p50', 'p99'] },
  errors: { label: 'Errors', options: ['by version', 'by kind'] },
};
const chosen = Object.fromEntries(Object.entries(CHOICES).map(([measure, { options }]) => [measure, options[0]]));
let charts = null;

function choice(measure, again) {
  if (!CHOICES[measure]) return null;
  const { label, options } = CHOICES[measure];
  const inputs = options.toSorted(naturally).map((name) => {
    const choose = () => {
      chosen[measure] = name;
      again();
    };
    const input = element('input', {
      type: 'radio',
      name: `choice ${measure}`,
      value: name,
      checked: name === chosen[measure],
      on: { change: choose },
    });
    return element('label', {}, input, name);
  });
  return element('span', { class: 'options', role: 'radiogroup', 'aria-label': label }, inputs);
}

function make(again) {
  const place = byId('charts');
  const lines = BY_VERSION.map((one) => [
    one.measure,
    new Chart(place, { ...one, options: choice(one.measure, again) }),
  ]);
  const scores = new Chart(place, {
    title: 'Scores',
    note: 'share of rows',
    unit: percent,
    time: false,
  });
  const processes = BY_PROCESS.map((one) => [one.measure, new Chart(place, one)]);
  return { lines, scores, processes };
}

/** Draw the last `span` seconds of these versions, and of all processes; `again` is called when a choice was changed. */
export function drawCharts(now, series, versions, span, again) {
  charts ??= make(again);
  const times = series.times(span);
  for (const [measure, chart] of charts.lines) {
    if (measure === 'errors' && chosen.errors === 'by kind') {
      chart.draw(times, errorsByKind(series, versions, times));
      continue;
    }
    const column = measure === 'latency' ? `${chosen.latency}_ms` : measure;
    const of = (version) => ({ name: version, version, values: series.ofVersion(version, column, times) });
    const lines = versions.map(of);
    const others = { ...of(NO_VERSION), name: 'no version' };
    if (measure === 'errors' && others.values.some(Boolean)) lines.push(others);
    chart.draw(times, lines);
  }
  drawScores(now, versions);
  const pids = [...series.processes.keys()].sort((one, other) => one - other);
  for (const [measure, chart] of charts.processes) {
    chart.draw(
      times,
      pids.map((pid) => ({ name: `worker ${pid}`, values: series.ofProcess(pid, measure, times) })),
    );
  }
}

/** A line for each version and kind of error, and for what is no version's: because of a client, or refused unread. */
function errorsByKind(series, versions, times) {
  const found = [...versions, NO_VERSION].flatMap((version) =>
    series.errorsByKind(version, times).map(({ kind, values }) => ({ version, kind, values })),
  );
  const total = ({ values }) => values.reduce((sum, value) => sum + (value ?? 0), 0);
  found.sort((one, other) => total(other) - total(one));
  const kinds = [...new Set(found.map(({ kind }) => kind))].sort();
  const lines = found.slice(0, MOST_KINDS).map(({ version, kind, values }) => ({
    name: version ? `${version} ${kind}` : kind,
    version,
    values,
    dash: DASHES[kinds.indexOf(kind) % DASHES.length],
  }));
  lines.sort((one, other) => naturally(one.name, other.name));
  const rest = found.slice(MOST_KINDS);
  if (!rest.length) return lines;
  const values = times.map((_, index) => rest.reduce((sum, line) => sum + (line.values[index] ?? 0), 0));
  return [...lines, { name: `${rest.length} others`, values }];
}

/** The distribution of the last minute: of scores by bucket, of classes by name, of several values the first one's. */
function drawScores(now, versions) {
  const found = now.versions.filter((one) => versions.includes(one.version) && one.figures?.predictions.rows);
  const parts = new Map(found.map((one) => [one.version, partsOf(one.figures.predictions)]));
  const axis = [...new Set([...parts.values()].flatMap((part) => [...part.keys()]))];
  const lines = [...parts].map(([version, part]) => {
    const values = axis.map((name) => part.get(name) ?? 0);
    const rows = values.reduce((sum, value) => sum + value, 0);
    return { name: version, version, values: values.map((value) => (rows ? value / rows : 0)) };
  });
  // Steps end with the place after the last one.
  charts.scores.draw(
    [...axis.keys(), axis.length],
    lines.map((line) => ({ ...line, values: [...line.values, line.values.at(-1) ?? null] })),
    axis,
  );
}

function partsOf(predictions) {
  if (Object.keys(predictions.classes).length) return new Map(Object.entries(predictions.classes));
  const buckets = predictions.buckets.length
    ? predictions.buckets
    : (Object.values(predictions.outputs ?? {})[0] ?? []);
  return new Map(buckets.map((bucket) => [bucket.up_to === null ? 'more' : `≤ ${short(bucket.up_to)}`, bucket.rows]));
}
