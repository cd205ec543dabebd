// How well the versions did over time, with the interval of each figure: feedback, and errors.

import { Chart } from './charts.js';
import { byId, element } from './elements.js';
import { naturally, percent, short } from './numbers.js';
import { ask } from './server.js';

const POINTS = 48;
const HOURS = [1, 6, 24];
const MEASURES = [
  { measure: 'accuracy', title: 'Accuracy', unit: percent },
  { measure: 'conversion', title: 'Conversion', unit: percent },
  { measure: 'mean_squared_error', title: 'Squared error', note: 'mean', unit: short },
  { measure: 'error_rate', title: 'Error rate', note: 'all environments', unit: percent },
];

let charts = null;
let options = null;
let found = null;
let drawn = '';

/** Read the curves of an environment; `again` is called when another choice was made. */
export async function readQualityOverTime(environment, again) {
  options ??= makeOptions(again);
  const [hours, soFar] = [options.elements.hours.value, options.elements.sofar.value];
  const asked = new URLSearchParams({ hours, points: POINTS, so_far: soFar, ...(environment && { environment }) });
  found = await ask(`ab-test/quality?${asked}`);
  drawn = '';
}

function makeOptions(again) {
  const form = byId('quality-options');
  const select = (name, choices, value) =>
    element(
      'select',
      { name, on: { change: again } },
      choices.map(([key, text]) => element('option', { value: key, selected: key === value }, text)),
    );
  const hours = HOURS.map((number) => [number, `${number} h`]);
  const figures = [
    ['false', 'each by itself'],
    ['true', 'all so far'],
  ];
  form.replaceChildren(
    element('label', {}, 'Over the last ', select('hours', hours, 6)),
    element('label', {}, 'Figures ', select('sofar', figures, 'false')),
  );
  form.addEventListener('submit', (event) => event.preventDefault());
  return form;
}

/** Draw what was read of these versions. */
export function drawQualityOverTime(versions) {
  const wanted = versions.join(' ');
  if (!found || drawn === wanted) return;
  drawn = wanted;
  charts ??= MEASURES.map((one) => [one.measure, new Chart(byId('quality-charts'), { ...one, live: false })]);
  const named = Object.entries(found.versions)
    .filter(([version]) => versions.includes(version))
    .sort(([one], [other]) => naturally(one, other));
  for (const [measure, chart] of charts) {
    const lines = named
      .filter(([, curves]) => curves[measure])
      .map(([version, { [measure]: curve }]) => {
        const { value: values, low, high } = curve;
        return { name: version, version, values, low, high };
      });
    chart.panel.hidden = !lines.length;
    if (lines.length) chart.draw(found.at, lines);
  }
}
