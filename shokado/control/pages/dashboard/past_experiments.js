// Experiments that have ended, as the history has them: who won, and why.

import { swatch } from './colours.js';
import { byId, element } from './elements.js';
import { comparedOf, effectOf, pillOf, titleOf } from './experiment_words.js';

/** Show those of the environment; `experiments` are as `/v1/experiments` tells them, the last one first. */
export function showPast(experiments, environment) {
  const past = experiments.filter((one) => !one.running && one.environment === environment);
  byId('no-past-experiments').hidden = past.length > 0;
  const heads = ['Ended', 'Verdict', 'Compared', 'Effect'].map((name) => element('th', { scope: 'col' }, name));
  byId('past-experiments').replaceChildren(
    ...(past.length ? [element('thead', {}, element('tr', {}, heads)), element('tbody', {}, past.map(line))] : []),
  );
}

function line(experiment) {
  const { verdict, reason, ended_at, candidates, plan, versions } = experiment;
  return element(
    'tr',
    {},
    element('td', {}, new Date(ended_at).toLocaleString()),
    element('td', {}, element('span', { class: pillOf(verdict) }, verdict), element('small', {}, reason)),
    element('td', {}, comparedOf(experiment), element('small', {}, titleOf(plan.metric))),
    element(
      'td',
      {},
      candidates.map((version) => effect(plan.metric, version, versions[version])),
    ),
  );
}

function effect(metric, version, found) {
  const known = found && found.low !== null && found.high !== null;
  return element(
    'div',
    {},
    swatch(version),
    `${version} ${effectOf(metric, found?.effect)}`,
    known && ` (${effectOf(metric, found.low)} to ${effectOf(metric, found.high)})`,
  );
}
