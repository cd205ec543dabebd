// What versions answer to a row, side by side, and what each feature contributed to a score.

import { swatch } from './colours.js';
import { element } from './elements.js';
import { short } from './numbers.js';
import { ask } from './server.js';

const EXPLAIN = 'v1/models/explain';
const EXPLAIN_MS = 60_000;
/** Features that are told of an explanation: the others contributed less. */
const TOLD_FEATURES = 12;

/** A table of answers: `bodies` by version, empty for the one that the split gives; `explained` asks why as well. */
export async function answersTo(path, bodies, explained) {
  const rows = await Promise.all(bodies.map(([version, body]) => answer(path, version, body, explained)));
  const heads = ['Version', 'Answer', 'Score', 'Why', 'Time'].map((head) => element('th', { scope: 'col' }, head));
  return element('table', {}, element('thead', {}, element('tr', {}, heads)), element('tbody', {}, rows.flat()));
}

async function answer(path, version, body, explained) {
  let found;
  try {
    found = await ask(path.slice(1), { method: 'POST', body });
  } catch (error) {
    return [row(version || 'split', [refused(error)], 4)];
  }
  const score = found.predictions[0];
  const scores = Array.isArray(score) ? score.map(short).join(', ') : short(score);
  const label = found.classes ? String(found.classes[0]) : scores;
  const answered = row(found.version, [label, scores, found.reason, `${short(found.latency_ms)} ms`]);
  return explained ? [answered, await explanation(found.version, body)] : [answered];
}

async function explanation(version, body) {
  try {
    const why = await ask(EXPLAIN, { method: 'POST', body: { ...body, version }, timeout: EXPLAIN_MS });
    return element('tr', {}, element('td', { colspan: 5 }, contributions(why)));
  } catch (error) {
    return element('tr', {}, element('td', { colspan: 5 }, refused(error)));
  }
}

/** Bars to the left of the middle lower the score, those to the right raise it. */
function contributions(why) {
  const [explained] = why.explanations;
  // Of several scores, those of the class that was answered, or else of the first.
  const output = Math.max(0, (why.outputs ?? []).indexOf(why.classes?.[0]));
  const of = (value) => (Array.isArray(value) ? value[output] : value);
  const all = Object.entries(explained.contributions).map(([name, value]) => [name, of(value)]);
  all.sort(([, one], [, other]) => Math.abs(other) - Math.abs(one));
  const largest = Math.abs(all[0]?.[1] ?? 0) || 1;
  const errors = explained.standard_errors;
  const told = all.slice(0, TOLD_FEATURES).map(([name, value]) => {
    const error = errors ? ` ± ${short(of(errors[name]))}` : '';
    return [
      element('dt', {}, name),
      element('dd', {}, `${value > 0 ? '+' : ''}${short(value)}${error}`, bar(value / largest)),
    ];
  });
  const sum = `${why.scale} ${short(of(explained.explained))} = ${short(of(why.base))} and what each feature contributed (${why.method})`;
  const left = all.length - told.length;
  return [
    element('p', { class: 'quiet' }, sum),
    element('dl', { class: 'contributions' }, told.flat()),
    left > 0 && element('p', { class: 'quiet' }, `and ${left} smaller ones`),
  ].filter(Boolean);
}

function bar(part) {
  const filled = element('span', { class: part < 0 ? 'less' : 'more' });
  filled.style.width = `${50 * Math.abs(part)}%`;
  filled.style.marginLeft = part < 0 ? `${50 - 50 * Math.abs(part)}%` : '50%';
  return element('span', { class: 'bar' }, filled);
}

const refused = (error) => element('span', { class: 'pill bad' }, error.message);

const row = (version, cells, colspan) =>
  element(
    'tr',
    {},
    element('th', { scope: 'row' }, swatch(version), version),
    cells.map((cell) => element('td', { colspan }, cell)),
  );
