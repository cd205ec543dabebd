// The server at a glance.

import { byId, element, say } from './elements.js';
import { bytes, milliseconds, percent, short } from './numbers.js';

const TILES = [
  'Requests per second',
  'Slowest p99',
  'Errors',
  'Versions ready',
  'Workers',
  'Memory',
  'Processors used',
];
const tiles = new Map();

/** Show the latest answer of the server. */
export function showTiles(now) {
  if (!tiles.size) {
    for (const title of TILES) {
      tiles.set(title, element('dd', {}, '–'));
      byId('tiles').append(element('div', {}, element('dt', {}, title), tiles.get(title)));
    }
  }
  const figures = now.versions.map((version) => version.figures).filter(Boolean);
  const sum = (of) => figures.reduce((total, one) => total + of(one), 0);
  const requests = sum((one) => one.requests);
  const errors = sum((one) => one.errors);
  const slowest = Math.max(...figures.map((one) => one.latency_ms.p99 ?? -1), -1);
  const processors = now.processes.map((process) => process.cpu_utilization);
  say(tiles.get('Requests per second'), short(sum((one) => one.request_rate_per_s)));
  say(tiles.get('Slowest p99'), slowest < 0 ? '–' : milliseconds(slowest));
  say(tiles.get('Errors'), requests + errors ? `${percent(errors / (requests + errors))}` : '–');
  say(
    tiles.get('Versions ready'),
    `${now.versions.filter((version) => version.state === 'ready').length} of ${now.versions.length}`,
  );
  say(tiles.get('Workers'), short(now.processes.length));
  say(tiles.get('Memory'), bytes(now.processes.reduce((total, process) => total + process.memory_bytes, 0)));
  say(
    tiles.get('Processors used'),
    processors.length ? short(processors.reduce((total, value) => total + value, 0)) : '–',
  );
}
