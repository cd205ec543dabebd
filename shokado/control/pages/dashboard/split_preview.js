// The preview of a change of the split: who would move, of the requests of the last minutes or of units.

import { swatch } from './colours.js';
import { element } from './elements.js';
import { naturally, percent, seconds, short } from './numbers.js';
import { ask } from './server.js';

const MADE_UP = 'made up';
const RECENT = 'recent';
const GIVEN = 'given';
const WHOM = [
  [MADE_UP, '1,000 made-up units'],
  [RECENT, 'the requests of the last minutes'],
  [GIVEN, 'units that are named here'],
];

/** The fields that say whom a preview is to look at. */
export function chooseUnits() {
  const units = element('textarea', { name: 'units', rows: 2, spellcheck: 'false' });
  const named = element('label', { hidden: true }, 'Units, one a line', units);
  const whom = element(
    'select',
    { name: 'whom', on: { change: () => (named.hidden = whom.value !== GIVEN) } },
    WHOM.map(([value, text]) => element('option', { value }, text)),
  );
  return element('div', { class: 'row' }, element('label', {}, 'Preview with ', whom), named);
}

/** Show in `place` what the change would do. */
export async function previewChange(form, split, change, place) {
  // A change that changes nothing moves nobody: the strategy as it is may be said anyway.
  const body = { environment: split.environment, strategy: split.strategy, ...change };
  try {
    place.replaceChildren(...(await previewed(form.elements, body)));
  } catch (error) {
    place.replaceChildren(element('p', { class: 'message bad' }, error.message));
  }
}

async function previewed({ whom, units }, body) {
  if (whom.value === RECENT) return recentWords(await ask('v1/traffic-split/preview/recent', { method: 'POST', body }));
  const named = units.value.split('\n').map((unit) => unit.trim());
  if (whom.value === GIVEN) body.units = named.filter(Boolean);
  return unitWords(await ask('v1/traffic-split/preview', { method: 'POST', body }));
}

function unitWords(found) {
  const who = found.made_up ? 'made-up units' : 'units';
  const moved =
    found.moved === null
      ? 'A unit does not decide here: each request is drawn by the shares.'
      : `${found.moved} of ${found.units} ${who} would get another version.`;
  const moves = found.moves.map((move) =>
    element(
      'li',
      {},
      `${move.units} (${percent(move.share)}) from ${move.before} to ${move.after}, such as ${move.examples.join(', ')}`,
    ),
  );
  return [element('p', {}, moved), element('ul', {}, shares(found.shares_before, found.shares_after), moves)];
}

function recentWords(found) {
  const { requests, sampled, units, workers } = found;
  if (!sampled) {
    const nobody = 'Nobody has asked in the last minutes.';
    return [element('p', {}, nobody), element('ul', {}, shares(found.shares_before, found.shares_after))];
  }
  const moved = found.moved
    ? `${percent(found.moved.value)} of the requests would have got another version (${percent(found.moved.low)} to ${percent(found.moved.high)}).`
    : 'A unit does not decide here: each request is drawn by the shares.';
  const facts = [
    `of ${short(requests)} requests in ${seconds(found.seconds)}, ${short(sampled)} of ${short(units)} units were looked at`,
    workers > 1 && `${workers} workers`,
    found.pinned && `${percent(found.pinned)} name a version`,
    found.dealt_anew && 'another salt deals all units out anew',
  ].filter(Boolean);
  const moves = found.moves.map((move) =>
    element('li', {}, `${percent(move.share)} from ${move.before} to ${move.after}, of ${short(move.units)} units`),
  );
  return [
    element('p', {}, moved),
    element('ul', {}, shares(found.traffic_before, found.traffic_after), moves),
    element('p', { class: 'quiet' }, facts.join(' · ')),
  ];
}

function shares(before, after) {
  const versions = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort(naturally);
  return versions.map((version) =>
    element(
      'li',
      {},
      swatch(version),
      `${version}: ${percent(before[version] ?? 0)} → ${percent(after[version] ?? 0)}`,
    ),
  );
}
