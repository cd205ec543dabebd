// The form that starts an experiment between the versions that share the traffic.

import { confirmed } from './confirmation.js';
import { byId, element } from './elements.js';
import { AT_END, distanceOf, METRICS, titleOf } from './experiment_words.js';
import { naturally, percent, seconds } from './numbers.js';

const DAY_S = 86_400;
const HOUR_S = 3600;
/** What is in the form at first: the plan of configuration/experiment.yaml. */
const DEFAULTS = { days: 14, hours: 24, rate: 0.05, integrity: 0.001 };
/** No label comes at once, and what comes later does not count. */
const SHORTEST_HOURS = 0.001;
const GUARDRAILS = { error_rate: { limit: 0.05, margin: 0.01 }, fallback_share: { limit: 0.05 } };

let made = '';

/** Make the form for the split as it is; what is typed stays until that, or what the model answers, is another one. */
export function offerExperiment(split, models, page) {
  const classifies = models.versions.some((version) => version.signature?.classes?.length);
  const told = JSON.stringify([split.environment, split.generation, classifies]);
  if (told === made) return;
  made = told;
  const obstacle = obstacleOf(split);
  byId('experiment-form').replaceWith(
    obstacle ? element('p', { id: 'experiment-form', class: 'quiet' }, obstacle) : build(split, classifies, page),
  );
}

/** Why none can be started; null where one can. */
function obstacleOf({ environment, enabled, strategy, shares, experiment }) {
  const sharing = Object.keys(shares);
  if (experiment) return `${environment} has one under way; it must end first.`;
  if (!enabled) return `The split of ${environment} is off; switch it on first.`;
  if (strategy === 'weighted')
    return `The strategy weighted moves the split of ${environment} by itself; give it the strategy random or hash first.`;
  if (sharing.length < 2)
    return `All traffic of ${environment} goes to ${sharing[0]}; give another version its share first.`;
  return null;
}

function build(split, classifies, page) {
  const versions = Object.keys(split.shares).sort(naturally);
  const metrics = Object.keys(METRICS).filter(
    (name) => (METRICS[name].of ?? '') !== (classifies ? 'values' : 'classes'),
  );
  const hint = element('small');
  const candidates = element('output', { name: 'candidates' });
  const control = versions.includes(split.active) ? split.active : versions[0];
  const form = element(
    'form',
    { id: 'experiment-form' },
    element(
      'div',
      { class: 'fields' },
      element(
        'label',
        {},
        'Metric',
        select(
          'metric',
          metrics.map((name) => [name, titleOf(name)]),
          metrics[0],
        ),
      ),
      element(
        'label',
        {},
        'Control',
        select(
          'control',
          versions.map((version) => [version, version]),
          control,
        ),
      ),
      element('label', {}, 'Candidates', candidates),
      element('label', {}, 'Smallest effect that matters', number('smallest', '', { required: true }), hint),
      element('label', {}, 'Longest, in days', number('days', DEFAULTS.days, { required: true })),
      element(
        'label',
        {},
        'Labels come within hours',
        number('hours', DEFAULTS.hours, { required: true, min: SHORTEST_HOURS }),
      ),
      element(
        'label',
        {},
        'Wrong at most in',
        number('rate', DEFAULTS.rate, { required: true, max: 0.2 }),
        element('small', {}, '0.05 is one experiment in 20'),
      ),
      element('label', {}, 'In the end', select('end', Object.entries(AT_END), 'tell')),
    ),
    element('details', {}, element('summary', {}, 'Guardrails, and the check of shares'), guardrailFields(metrics)),
    element('div', { class: 'row' }, element('button', { class: 'main' }, 'Start…')),
  );
  const follow = () => {
    candidates.value = versions.filter((version) => version !== form.elements.control.value).join(', ');
    for (const label of form.querySelectorAll('[data-metric]'))
      label.hidden = label.dataset.metric === form.elements.metric.value;
  };
  const followMetric = () => {
    const { share, milliseconds, smallest } = METRICS[form.elements.metric.value];
    form.elements.smallest.value = smallest ?? '';
    hint.textContent = share
      ? '0.01 is one percentage point'
      : milliseconds
        ? 'milliseconds'
        : 'in units of this error';
    follow();
  };
  form.elements.control.addEventListener('change', follow);
  form.elements.metric.addEventListener('change', followMetric);
  followMetric();
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    start(orderOf(form, split, versions), split, page);
  });
  return form;
}

function guardrailFields(metrics) {
  const fields = metrics.flatMap((metric) => {
    const { limit = '', margin = '' } = GUARDRAILS[metric] ?? {};
    const of = (kind, words, value) =>
      element('label', { 'data-metric': metric }, `${titleOf(metric)} ${words}`, number(`${kind} ${metric}`, value));
    const worse = of('margin', 'worse by at most', margin);
    return METRICS[metric].limited ? [of('limit', 'at most', limit), worse] : [worse];
  });
  return element(
    'div',
    { class: 'fields' },
    fields,
    element(
      'label',
      {},
      'False alarms of the check of shares',
      number('integrity', DEFAULTS.integrity, { required: true, max: 0.2 }),
    ),
  );
}

function select(name, options, value) {
  return element(
    'select',
    { name },
    options.map(([key, text]) => element('option', { value: key, selected: key === value }, text)),
  );
}

function number(name, value, more = {}) {
  return element('input', { name, type: 'number', min: 0, step: 'any', value, ...more });
}

/** The body of `POST /v1/experiments` that the form says. */
function orderOf({ elements }, split, versions) {
  const metric = elements.metric.value;
  const control = elements.control.value;
  return {
    environment: split.environment,
    control,
    candidates: versions.filter((version) => version !== control),
    metric,
    smallest_effect: Number(elements.smallest.value),
    error_rate: Number(elements.rate.value),
    integrity_error_rate: Number(elements.integrity.value),
    max_duration_s: DAY_S * Number(elements.days.value),
    label_delay_s: HOUR_S * Number(elements.hours.value),
    at_end: elements.end.value,
    guardrails: Object.keys(METRICS)
      .filter((name) => name !== metric)
      .map((name) => ({ metric: name, ...bound('limit', name, elements), ...bound('margin', name, elements) }))
      .filter((guardrail) => 'limit' in guardrail || 'margin' in guardrail),
  };
}

function bound(kind, metric, elements) {
  const typed = elements[`${kind} ${metric}`]?.value;
  return typed ? { [kind]: Number(typed) } : {};
}

async function start(order, split, page) {
  const { environment, control, candidates, metric, guardrails } = order;
  const compared = `${candidates.join(', ')} against ${control}`;
  const rails = guardrails.map(({ metric: name, limit, margin }) =>
    [
      titleOf(name),
      limit !== undefined && `at most ${percent(limit)}`,
      margin !== undefined && `worse by at most ${distanceOf(name, margin)}`,
    ]
      .filter(Boolean)
      .join(' '),
  );
  const shares = Object.entries(split.shares).map(([version, share]) => `${version} ${percent(share)}`);
  const facts = [
    `${compared}, by ${titleOf(metric)}; ${distanceOf(metric, order.smallest_effect)} is the smallest effect that matters.`,
    `The split stays until the end: ${shares.join(', ')}.`,
    `It lasts ${seconds(order.max_duration_s)} at most${METRICS[metric].feedback ? `, and labels count that come within ${seconds(order.label_delay_s)}` : ''}.`,
    `In the end: ${AT_END[order.at_end]}.`,
    rails.length && `Guardrails: ${rails.join('; ')}.`,
  ].filter(Boolean);
  const act = (why) => page.change('v1/experiments', { ...order, why }, split.generation);
  if (!(await confirmed(`Start the experiment in ${environment}`, facts, act))) return;
  byId('experiment-starter').open = false;
  page.changed(`The experiment of ${compared} has begun.`);
}
