// How well the versions of an environment predict, as far as feedback tells, and how a shadow compares.

import { swatch, variableOf } from './colours.js';
import { byId, element, say, svg } from './elements.js';
import { naturally, percent, seconds, short } from './numbers.js';

/** Show what `/ab-test/status` says. */
export function showQuality(status) {
  const refused = Object.entries(status.refused_feedback).filter(([, count]) => count);
  const facts = [
    `${status.environment}, last ${status.window_hours} h`,
    refused.length && `feedback refused: ${refused.map(([why, count]) => `${count} ${why}`).join(', ')}`,
  ];
  say(byId('ab-test-facts'), facts.filter(Boolean).join(' · '));
  const versions = Object.entries(status.versions).sort(([one], [other]) => naturally(one, other));
  const has = (name) => versions.some(([, found]) => found[name] !== null);
  const columns = [
    ['Requests', (found) => short(found.requests)],
    ['Share, due and seen', (found) => `${percent(found.share)} / ${percent(found.traffic)}`],
    ['Labels', (found) => short(found.labels)],
    ['Label coverage', (found) => percent(found.label_coverage)],
    ['Delay', (found) => seconds(found.mean_delay_s)],
    has('accuracy') && ['Accuracy', (found, version) => proportion(found.accuracy, version)],
    has('conversion') && ['Conversion', (found, version) => proportion(found.conversion, version)],
    has('mean_squared_error') && ['Squared error', (found) => short(found.mean_squared_error)],
    has('shadow') && ['As a shadow', (found) => shadow(found.shadow)],
  ].filter(Boolean);
  byId('quality').replaceChildren(
    element(
      'thead',
      {},
      element(
        'tr',
        {},
        element('th', { scope: 'col' }, 'Version'),
        columns.map(([name]) => element('th', { scope: 'col' }, name)),
      ),
    ),
    element(
      'tbody',
      {},
      versions.map(([version, found]) =>
        element(
          'tr',
          {},
          element('th', { scope: 'row' }, swatch(version), version),
          columns.map(([, cell]) => element('td', {}, cell(found, version))),
        ),
      ),
    ),
  );
}

function proportion(found, version) {
  if (!found) return '–';
  const [low, high] = [found.low, found.high];
  return [
    element('span', {}, percent(found.value), ' '),
    interval(low, found.value, high, version),
    element('small', {}, `${percent(low)} to ${percent(high)}`),
  ];
}

/** The interval on a line from 0 to 1. */
function interval(low, value, high, version) {
  const x = (share) => 2 + 96 * share;
  const colour = `var(${variableOf(version)})`;
  const line = svg('line', { x1: x(low), x2: x(high), y1: 6, y2: 6, 'stroke-width': 3 });
  const dot = svg('circle', { cx: x(value), cy: 6, r: 3.5 });
  const ground = svg('line', { x1: 2, x2: 98, y1: 6, y2: 6, 'stroke-width': 1 });
  line.style.stroke = colour;
  dot.style.fill = colour;
  ground.style.stroke = 'var(--line)';
  return svg('svg', { class: 'interval', viewBox: '0 0 100 12', 'aria-hidden': 'true' }, ground, line, dot);
}

function shadow(found) {
  if (!found) return '–';
  const lost = [
    found.dropped_rows && `${short(found.dropped_rows)} dropped`,
    found.skipped_rows && `${short(found.skipped_rows)} skipped`,
  ].filter(Boolean);
  return [
    `${percent(found.agreement)} agree`,
    element(
      'small',
      {},
      [`${short(found.rows)} rows`, `differ by ${short(found.mean_difference)}`, ...lost].join(' · '),
    ),
  ];
}
