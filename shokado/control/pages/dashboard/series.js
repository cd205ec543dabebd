// The points of one server that the page has got so far, by time. Bounded: what is older than the longest span goes.

const KEPT_S = 900;
/** A longer pause between two points was not watched: no line is drawn across it. */
const GAP_S = 15;
const MEASURES = [
  'request_rate_per_s',
  'p50_ms',
  'p95_ms',
  'p99_ms',
  'batch_rows',
  'queue_wait_ms',
  'score',
  'engine_utilization',
];
/** In place of a version's name: errors that are no version's, as none was assigned or the client is at fault. */
export const NO_VERSION = '';

export class Series {
  constructor() {
    this.at = [];
    this.versions = new Map();
    this.processes = new Map();
  }

  get last() {
    return this.at.at(-1);
  }

  /** Add the columns of an answer; points that are known already are left out. */
  add(columns) {
    const known = this.last ?? -Infinity;
    columns.at.forEach((at, index) => {
      if (at <= known) return;
      if (at > this.last + GAP_S) this.at.push(this.last + 1);
      this.at.push(at);
      for (const [name, of] of Object.entries(columns.versions)) {
        const rows = rowsOf(this.versions, name);
        const point = Object.fromEntries(MEASURES.map((measure) => [measure, of[measure][index]]));
        this.#addErrors(point, of.error_rates_per_s, index);
        rows.set(at, point);
      }
      const others = {};
      this.#addErrors(others, columns.other_error_rates_per_s, index);
      rowsOf(this.versions, NO_VERSION).set(at, others);
      for (const [pid, of] of Object.entries(columns.processes)) {
        if (of.memory_bytes[index] === null) continue;
        rowsOf(this.processes, pid).set(at, { memory: of.memory_bytes[index], cpu: of.cpu_utilization[index] });
      }
    });
    this.#forget();
  }

  /** Times of the last `span` seconds. */
  times(span) {
    const from = this.last - span;
    return this.at.filter((at) => at >= from);
  }

  /** A measure of one version at these times; null where there is none. */
  ofVersion(version, measure, times) {
    const rows = this.versions.get(version);
    return times.map((at) => rows?.get(at)?.[measure] ?? null);
  }

  /** Errors per second by kind, of one version at these times: lines of those kinds that there were. */
  errorsByKind(version, times) {
    const rows = this.versions.get(version);
    const kinds = new Set(times.flatMap((at) => Object.keys(rows?.get(at)?.kinds ?? {})));
    return [...kinds].map((kind) => {
      const values = times.map((at) => (rows.has(at) ? (rows.get(at).kinds[kind] ?? 0) : null));
      return { kind, values };
    });
  }

  ofProcess(pid, measure, times) {
    const rows = this.processes.get(pid);
    return times.map((at) => rows?.get(at)?.[measure] ?? null);
  }

  #addErrors(point, kinds, index) {
    const found = Object.entries(kinds).filter(([, values]) => values[index]);
    point.kinds = Object.fromEntries(found.map(([kind, values]) => [kind, values[index]]));
    point.errors = found.reduce((sum, [, values]) => sum + values[index], 0);
  }

  #forget() {
    const from = (this.last ?? 0) - KEPT_S;
    const gone = this.at.filter((at) => at < from);
    if (!gone.length) return;
    this.at = this.at.slice(gone.length);
    for (const all of [this.versions, this.processes]) {
      for (const [name, rows] of all) {
        gone.forEach((at) => rows.delete(at));
        if (!rows.size) all.delete(name);
      }
    }
  }
}

function rowsOf(all, name) {
  if (!all.has(name)) all.set(name, new Map());
  return all.get(name);
}
