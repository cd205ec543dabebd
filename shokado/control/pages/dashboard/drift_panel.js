// Drift: whether what each version is asked, and answers, is still like what it was made of.

import { swatch } from './colours.js';
import { byId, element, say } from './elements.js';
import { guarded } from './guarded_panel.js';
import { percent, short } from './numbers.js';
import { ask } from './server.js';

const KINDS = { drift: 'bad', none: 'good' };

/** Read and show the drift of these versions over the last hour; `again` is called when another key was given. */
export function showDrift(versions, again) {
  return guarded(byId('drift-panel'), byId('drifts'), again, async () => {
    const found = [];
    for (const version of versions) {
      found.push(await ask(`v1/drift/${encodeURIComponent(version)}?window=hour`, { optional: true }));
    }
    render(found);
  });
}

function render(found) {
  const threshold = found[0]?.threshold;
  say(byId('drift-facts'), `last hour · population stability index, drift above ${short(threshold)}`);
  const columns = new Map();
  for (const version of found) {
    for (const [kind, all] of [
      ['feature', version.features],
      ['score', version.scores],
    ]) {
      for (const name of Object.keys(all)) columns.set(`${kind} ${name}`, [kind, name]);
    }
  }
  const heads = found.map((version) =>
    element(
      'th',
      { scope: 'col' },
      swatch(version.version),
      version.version,
      element('small', {}, version.note || `${short(version.rows)} of ${short(version.rows_seen)} rows`),
    ),
  );
  const rows = [...columns.values()].map(([kind, name]) =>
    element(
      'tr',
      {},
      element('th', { scope: 'row' }, name, kind === 'score' && element('small', {}, 'score')),
      found.map((version) => element('td', {}, cell(kind === 'score' ? version.scores[name] : version.features[name]))),
    ),
  );
  byId('drifts').replaceChildren(
    element('thead', {}, element('tr', {}, element('th', { scope: 'col' }, 'Column'), heads)),
    element('tbody', {}, rows),
  );
}

function cell(column) {
  if (!column) return '–';
  const verdict = element(
    'span',
    { class: `pill ${KINDS[column.verdict] ?? ''}` },
    column.verdict === 'none' ? 'no drift' : column.verdict,
  );
  const facts = [
    column.psi && `${short(column.psi.value)} (${short(column.psi.low)} to ${short(column.psi.high)})`,
    column.missing.served && `${percent(column.missing.served)} missing`,
    column.unknown_levels?.rows && `${short(column.unknown_levels.rows)} unknown levels`,
  ].filter(Boolean);
  return [verdict, element('small', {}, facts.join(' · '))];
}
