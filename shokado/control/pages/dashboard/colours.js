// One colour and kind of line for each version, the same everywhere on the page.
//
// They follow from the name: v3 has the third, other names one by their letters; where two want the same, the one whose
// name sorts later takes the next that is free. Who has one keeps it while the page is open.

import { svg } from './elements.js';
import { naturally } from './numbers.js';

const HUES = 7;
/** Lengths of dashes and gaps: solid, dashed, dotted. */
export const DASHES = [[], [7, 4], [2, 3]];
const SLOTS = HUES * DASHES.length;

const slots = new Map();

/** Give each of these versions a colour. More than there are share some. */
export function colour(versions) {
  for (const version of [...versions].sort(naturally)) {
    if (slots.has(version)) continue;
    const taken = new Set(slots.values());
    let slot = wanted(version);
    while (taken.has(slot) && taken.size < SLOTS) slot = (slot + 1) % SLOTS;
    slots.set(version, slot);
  }
}

function wanted(version) {
  const number = /^v(\d+)$/.exec(version);
  if (number) return (Number(number[1]) + SLOTS - 1) % SLOTS;
  return [...version].reduce((sum, letter) => (31 * sum + letter.codePointAt(0)) % 65521, 7) % SLOTS;
}

const slotOf = (version) => slots.get(version) ?? 0;

/** The name of the variable in theme.css. */
export const variableOf = (version) => `--version-${slotOf(version) % HUES}`;

export const strokeOf = (version) =>
  getComputedStyle(document.documentElement).getPropertyValue(variableOf(version)).trim();

export const dashOf = (version) => DASHES[Math.floor(slotOf(version) / HUES)];

/** A short piece of the version's line. */
export function swatch(version) {
  const line = svg('line', {
    x1: 0,
    y1: 5,
    x2: 24,
    y2: 5,
    'stroke-width': 4,
    'stroke-dasharray': dashOf(version).join(' '),
  });
  line.style.stroke = `var(${variableOf(version)})`;
  return svg('svg', { class: 'swatch', viewBox: '0 0 24 10', 'aria-hidden': 'true' }, line);
}

/** Call it back when the page turns light or dark. */
export function onTheme(listener) {
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', listener);
}
