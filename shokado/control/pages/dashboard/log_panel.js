// The last rows of the request log, newest first. Values are hidden unless the server is told to show them.

import { swatch } from './colours.js';
import { byId, element, say } from './elements.js';
import { guarded } from './guarded_panel.js';
import { milliseconds, percent, short } from './numbers.js';
import { ask } from './server.js';

const ROWS = 20;

/** Read and show the last rows; `again` is called when another key was given. */
export function showLog(again) {
  return guarded(byId('log-panel'), byId('log-rows'), again, async () => {
    render(await ask(`v1/log?limit=${ROWS}`, { optional: true }));
  });
}

function render(log) {
  const facts = [
    `${percent(log.share)} of the requests are recorded`,
    !log.values_told && 'values are hidden',
    log.damaged.length && `${log.damaged.length} files cannot be read`,
  ];
  say(byId('log-facts'), facts.filter(Boolean).join(' · '));
  const heads = [
    'Time',
    'Version',
    'Answer',
    'Why',
    'Latency',
    ...(log.values_told ? ['Unit', 'Features'] : []),
    'Request',
  ];
  byId('log-rows').replaceChildren(
    element(
      'thead',
      {},
      element(
        'tr',
        {},
        heads.map((head) => element('th', { scope: 'col' }, head)),
      ),
    ),
    element(
      'tbody',
      {},
      log.rows.map((row) => line(row, log.values_told)),
    ),
  );
}

function line(row, told) {
  const scores = Object.values(row.scores).map(short).join(', ');
  const features = Object.entries(row.features ?? {}).map(([name, value]) => `${name} ${value}`);
  const cells = [
    new Date(row.time).toLocaleTimeString([], { hour12: false }),
    [swatch(row.version), row.version],
    row.prediction === null ? scores : `${row.prediction} (${scores})`,
    `${row.reason} in ${row.environment}`,
    milliseconds(row.latency_ms),
    ...(told ? [row.unit, element('small', {}, features.join(', '))] : []),
    `${row.request_id} ${row.row || ''}`,
  ];
  return element(
    'tr',
    {},
    cells.map((cell) => element('td', {}, cell)),
  );
}
