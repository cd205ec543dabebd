// The effect of each candidate over time, with its confidence sequence: all of it holds at once, however often one looks.

import { Chart } from './charts.js';
import { byId } from './elements.js';
import { effectOf, titleOf } from './experiment_words.js';
import { naturally } from './numbers.js';
import { ask } from './server.js';

/** Curves change slowly, and each costs the server as much as many looks. */
const EVERY_MS = 15_000;

let chart = null;
let read = '';
let readAt = 0;
let effects = null;

/** Read and draw the curves of an experiment now and then; of one that has ended, once. */
export async function readEffects(experiment) {
  const wanted = experiment ? `${experiment.id} ${experiment.verdict}` : '';
  const fresh = !experiment?.running || performance.now() < readAt + EVERY_MS;
  if (wanted === read && fresh) return;
  effects = experiment ? await ask(`v1/experiments/${encodeURIComponent(experiment.id)}/effects`) : null;
  read = wanted;
  readAt = performance.now();
  draw(experiment);
}

function draw(experiment) {
  byId('experiment-charts').hidden = !effects?.at.length;
  if (!effects?.at.length) return;
  chart ??= new Chart(byId('experiment-charts'), {
    title: 'Effect',
    note: 'of all predictions up to then',
    live: false,
  });
  const { metric } = experiment.plan;
  chart.title = `Effect on ${titleOf(metric)}`;
  chart.unit = (value) => effectOf(metric, value ?? null);
  const curves = Object.entries(effects.candidates).sort(([one], [other]) => naturally(one, other));
  const lines = curves.map(([version, { estimate, low, high }]) => ({
    name: version,
    version,
    values: estimate,
    low,
    high,
  }));
  const none = { name: 'no effect', values: effects.at.map(() => 0), dash: [2, 3], quiet: true };
  chart.draw(effects.at, [...lines, none]);
}
