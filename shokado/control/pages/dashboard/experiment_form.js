// The form that starts an experiment: between the versions that share the traffic, or of one with its shadow.

import { confirmed } from './confirmation.js';
import { byId, element } from './elements.js';
import { AT_END, comparedOf, distanceOf, METRICS, metricsOf, partOf, smallestOf, titleOf } from './experiment_words.js';
import { naturally, percent, seconds } from './numbers.js';

const DAY_S = 86_400;
const HOUR_S = 3600;
/** What is in the form at first: the plan of configuration/experiment.yaml. */
const DEFAULTS = { days: 14, hours: 24, rate: 0.05, integrity: 0.001 };
/** No label comes at once, and what comes later does not count. */
const SHORTEST_HOURS = 0.001;
const DESIGNS = {
  split: 'who shares traffic',
  shadow: 'the shadow',
};
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
    obstacle
      ? element('p', { id: 'experiment-form', class: 'quiet' }, obstacle)
      : build(designsOf(split)[0], split, classifies, page),
  );
}

/** Who answers in an experiment with the shadow, as far as it does not itself. */
const answering = ({ shares, shadow }) => Object.keys(shares).filter((version) => version !== shadow);

/** How versions can be compared by the split as it is. */
function designsOf(split) {
  const shared = Object.keys(split.shares).length > 1;
  return [shared && 'split', split.shadow && answering(split).length && 'shadow'].filter(Boolean);
}

/** Why none can be started; null where one can. */
function obstacleOf(split) {
  const { environment, enabled, strategy, shares, experiment } = split;
  if (experiment) return `${environment} has one under way; it must end first.`;
  if (!enabled) return `The split of ${environment} is off; switch it on first.`;
  if (strategy === 'weighted')
    return `The strategy weighted moves the split of ${environment} by itself; give it the strategy random or hash first.`;
  if (!designsOf(split).length)
    return `All traffic of ${environment} goes to ${Object.keys(shares)[0]}; give another version its share, or make it the shadow first.`;
  return null;
}

function build(design, split, classifies, page) {
  const shadowed = design === 'shadow';
  const versions = (shadowed ? answering(split) : Object.keys(split.shares)).sort(naturally);
  const metrics = metricsOf(design, classifies);
  const designs = designsOf(split).map((name) => [name, DESIGNS[name]]);
  const hint = element('small');
  const words = element('p', { class: 'quiet', hidden: !shadowed });
  const candidates = element('output', { name: 'candidates' });
  const control = versions.includes(split.active) ? split.active : versions[0];
  const form = element(
    'form',
    { id: 'experiment-form' },
    words,
    element(
      'div',
      { class: 'fields' },
      element('label', { hidden: designs.length < 2 }, 'Compare', select('design', designs, design)),
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
      shadowed &&
        element(
          'label',
          {},
          'Part of the units',
          number('sample', 1, { required: true, max: 1 }),
          element('small', {}, 'whose requests both score'),
        ),
      element('label', {}, 'Longest, in days', number('days', DEFAULTS.days, { required: true })),
      element(
        'label',
        { 'data-labels': true },
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
      element('label', {}, 'In the end', select('end', Object.entries(AT_END[design]), 'tell')),
    ),
    element(
      'details',
      {},
      element('summary', {}, `Guardrails, and the check of ${shadowed ? 'failures' : 'shares'}`),
      guardrailFields(design, metrics),
    ),
    split.strategy === 'hash' && layerFields(),
    element('div', { class: 'row' }, element('button', { class: 'main' }, 'Start…')),
  );
  const follow = () => {
    candidates.value = candidatesOf(form, split).join(', ');
    words.textContent = wordsOf(form.elements.metric.value, form.elements.control.value, split.shadow);
    for (const label of form.querySelectorAll('[data-metric]'))
      label.hidden = label.dataset.metric === form.elements.metric.value;
  };
  const followMetric = () => {
    const metric = form.elements.metric.value;
    form.elements.smallest.value = METRICS[metric].smallest ?? '';
    hint.textContent = unitOf(metric);
    // Nothing waits for labels then, so there is none to be waited for.
    form.elements.hours.disabled = metric === 'agreement';
    form.querySelector('[data-labels]').hidden = form.elements.hours.disabled;
    follow();
  };
  form.elements.control.addEventListener('change', follow);
  form.elements.metric.addEventListener('change', followMetric);
  form.elements.design.addEventListener('change', (event) => {
    const other = build(event.target.value, split, classifies, page);
    form.replaceWith(other);
    other.elements.design.focus();
  });
  followMetric();
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    start(orderOf(form, split), split, page);
  });
  return form;
}

const candidatesOf = ({ elements }, { shares, shadow }) =>
  elements.design.value === 'shadow'
    ? [shadow]
    : Object.keys(shares)
        .filter((version) => version !== elements.control.value)
        .sort(naturally);

/** What an experiment with the shadow does. */
function wordsOf(metric, control, shadow) {
  const scores = `${shadow} scores what ${control} answers, and nobody is given its answers.`;
  return metric === 'agreement'
    ? `${scores} No labels are needed: it is PROMOTE where ${shadow} surely says something else on fewer rows than what matters, and ROLLBACK where on more. Who is right is not known.`
    : `${scores} Labels tell who of the two is right.`;
}

function unitOf(metric) {
  if (metric === 'agreement') return 'share of the rows on which it may say something else';
  const { share, milliseconds } = METRICS[metric];
  return share ? '0.01 is one percentage point' : milliseconds ? 'milliseconds' : 'in units of this error';
}

/** The units that the experiment may have: all of them where no layer is named. */
function layerFields() {
  const end = (name, words, value) => element('label', {}, words, number(name, value, { required: true, max: 1 }));
  return element(
    'details',
    {},
    element('summary', {}, 'Units that other experiments leave alone'),
    element(
      'div',
      { class: 'fields' },
      element(
        'label',
        {},
        'Layer',
        element('input', { name: 'layer', pattern: '[a-z0-9][a-z0-9._\\-]{0,62}' }),
        element('small', {}, 'its name; without one, all units'),
      ),
      end('from', 'From', 0),
      end('to', 'To', 1),
    ),
  );
}

function guardrailFields(design, metrics) {
  const shadowed = design === 'shadow';
  // All that can be said of a shadow is on how many requests it fails.
  const fields = (shadowed ? ['error_rate'] : metrics).flatMap((metric) => {
    const { limit = '', margin = '' } = GUARDRAILS[metric] ?? {};
    const of = (kind, words, value) =>
      element('label', { 'data-metric': metric }, `${titleOf(metric)} ${words}`, number(`${kind} ${metric}`, value));
    const worse = of('margin', 'worse by at most', margin);
    if (!METRICS[metric].limited) return [worse];
    return [of('limit', 'at most', limit), !shadowed && worse];
  });
  return element(
    'div',
    { class: 'fields' },
    fields,
    element(
      'label',
      {},
      `False alarms of the check of ${shadowed ? 'failures' : 'shares'}`,
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
function orderOf(form, split) {
  const { elements } = form;
  const metric = elements.metric.value;
  return {
    environment: split.environment,
    control: elements.control.value,
    candidates: candidatesOf(form, split),
    metric,
    design: elements.design.value,
    ...(elements.sample ? { sample: Number(elements.sample.value) } : {}),
    smallest_effect: Number(elements.smallest.value),
    error_rate: Number(elements.rate.value),
    integrity_error_rate: Number(elements.integrity.value),
    max_duration_s: DAY_S * Number(elements.days.value),
    label_delay_s: metric === 'agreement' ? 0 : HOUR_S * Number(elements.hours.value),
    at_end: elements.end.value,
    ...(elements.layer?.value ? { layer: layerOf(elements) } : {}),
    guardrails: Object.keys(METRICS)
      .filter((name) => name !== metric)
      .map((name) => ({ metric: name, ...bound('limit', name, elements), ...bound('margin', name, elements) }))
      .filter((guardrail) => 'limit' in guardrail || 'margin' in guardrail),
  };
}

const layerOf = ({ layer, from, to }) => ({ name: layer.value, from: Number(from.value), to: Number(to.value) });

function bound(kind, metric, elements) {
  const typed = elements[`${kind} ${metric}`]?.value;
  return typed ? { [kind]: Number(typed) } : {};
}

async function start(order, split, page) {
  const { environment, control, candidates, metric, design, guardrails } = order;
  const shadowed = design === 'shadow';
  const compared = comparedOf({ candidates, control, plan: order });
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
    `${compared}, by ${titleOf(metric)}; ${smallestOf(order)} is the smallest effect that matters.`,
    shadowed && wordsOf(metric, control, split.shadow),
    shadowed && order.sample < 1 && `Compared on ${percent(order.sample)} of the units.`,
    order.layer &&
      `For ${partOf(order.layer)}${shadowed ? ' alone' : `; ${control} answers units outside, also those that had ${candidates.join(' or ')}`}.`,
    `The split stays until the end: ${shares.join(', ')}.`,
    `It lasts ${seconds(order.max_duration_s)} at most${METRICS[metric].feedback ? `, and labels count that come within ${seconds(order.label_delay_s)}` : ''}.`,
    `In the end: ${AT_END[design][order.at_end]}.`,
    rails.length && `Guardrails: ${rails.join('; ')}.`,
  ].filter(Boolean);
  const act = (why) => page.change('v1/experiments', { ...order, why }, split.generation);
  if (!(await confirmed(`Start the experiment in ${environment}`, facts, act))) return;
  byId('experiment-starter').open = false;
  page.changed(`The experiment of ${compared} has begun.`);
}
