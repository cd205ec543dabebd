// The experiment of an environment: who competes by what, what is known of each version, and the verdict with its reason.

import { swatch, variableOf } from './colours.js';
import { confirmed } from './confirmation.js';
import { byId, element, say, svg } from './elements.js';
import {
  AT_END,
  comparedOf,
  effectOf,
  meanOf,
  METRICS,
  pairsOf,
  partOf,
  pillOf,
  smallestOf,
  titleOf,
} from './experiment_words.js';
import { ago, naturally, percent, seconds, short } from './numbers.js';

let shown = null;
let heardAt = null;

/** Show what `/ab-test/status` says of the last experiment of the environment, if there was any. */
export function showExperiment(found, environment) {
  shown = found;
  heardAt = new Date();
  byId('experiment-lost').hidden = true;
  byId('experiment-now').hidden = !found;
  byId('stop-experiment').hidden = !found?.running;
  const facts = found ? [environment, found.id] : [environment];
  say(byId('experiment-facts'), facts.join(' · '));
  const verdict = byId('experiment-verdict');
  say(verdict, found?.verdict ?? 'none yet');
  verdict.className = pillOf(found?.verdict);
  say(byId('experiment-reason'), found ? found.reason : `${environment} has had no experiment.`);
  if (!found) return;
  byId('experiment-plan').replaceChildren(...planOf(found));
  byId('experiment-versions').replaceChildren(...versionsOf(found));
  byId('experiment-checks').replaceChildren(...checksOf(found));
}

/** Say that what is shown is not heard of any more. */
export function loseExperiment() {
  if (!heardAt) return;
  const lost = byId('experiment-lost');
  say(lost, `As of ${heardAt.toLocaleTimeString([], { hour12: false })}; nothing was heard since.`);
  lost.hidden = false;
}

/** The button that ends the experiment which is shown. */
export function offerStop(page) {
  byId('stop-experiment').addEventListener('click', async () => {
    const { id, environment, plan, stages } = shown;
    const shares = Object.entries(stages.at(-1)?.shares ?? {}).map(
      ([version, share]) => `${version} ${percent(share)}`,
    );
    const stays =
      plan.design === 'shadow'
        ? 'The split and the shadow stay as they are.'
        : `The split stays as it is${shares.length ? `: ${shares.join(', ')}` : ''}.`;
    const facts = [`${comparedOf(shown)}, in ${environment}: it ends as it stands, for good.`, stays];
    // The id says which one is meant, whatever else was changed meanwhile.
    const act = (why) => page.change(`v1/experiments/${encodeURIComponent(id)}/stop`, { why }, null);
    if (await confirmed('Stop the experiment', facts, act))
      page.changed(`The experiment of ${environment} is stopped.`);
  });
}

function planOf(found) {
  const { plan, stages, started_at, ends_at, ended_at, winner } = found;
  const shadowed = plan.design === 'shadow';
  const pairs = pairsOf(found);
  const feedback = METRICS[plan.metric]?.feedback;
  const stage = stages.at(-1);
  const differing = Object.keys(stage.artefacts).filter((version) => !stage.artefacts[version]);
  const facts = [
    ['Compared', `${comparedOf(found)}, by ${titleOf(plan.metric)}`],
    pairs && ['Requests', pairs],
    shadowed && plan.sample < 1 && ['Sample', `${percent(plan.sample)} of the units`],
    plan.layer && ['Units', `${partOf(plan.layer)}${shadowed ? '' : `; ${found.control} answers all others`}`],
    winner && ['Better', winner],
    ['Matters from', smallestOf(plan)],
    ['Wrong at most in', `${percent(plan.error_rate)} of such experiments`],
    feedback && ['Labels count', `that come within ${seconds(plan.label_delay_s)}`],
    ['In the end', AT_END[plan.design]?.[plan.at_end] ?? plan.at_end],
    ['Begun', `${ago(new Date(started_at))}, ${new Date(started_at).toLocaleString()}`],
    ended_at
      ? ['Ended', new Date(ended_at).toLocaleString()]
      : ['Ends', `${new Date(ends_at).toLocaleString()} at the latest`],
    stages.length > 1 && ['Stage', `${stages.length}, since generation ${stage.generation}`],
    differing.length && ['Not compared', `while workers have different artefacts as ${differing.join(' and ')}`],
  ];
  return facts.filter(Boolean).flatMap(([name, text]) => [element('dt', {}, name), element('dd', {}, text)]);
}

function versionsOf({ plan, control, candidates, stages, versions }) {
  const { metric } = plan;
  const stage = stages.at(-1);
  // A shadow has no share, and both versions score the same rows.
  const arms = plan.design !== 'shadow';
  const counted = METRICS[metric]?.feedback ? 'Labels that count' : arms ? 'Answers' : 'Rows that count';
  const units = stage?.sticky ? 'Units' : 'Requests';
  const heads = ['Version', arms && 'Share', arms && units, counted, 'Mean', 'Effect'].filter(Boolean);
  const reach = reachOf(Object.values(versions), plan.smallest_effect);
  const rows = [control, ...candidates.toSorted(naturally)].map((version) => {
    const found = versions[version];
    const said = candidates.length > 1 && found?.reason;
    return element(
      'tr',
      {},
      element(
        'th',
        { scope: 'row' },
        swatch(version),
        version,
        element('small', {}, version === control ? 'control' : arms ? said : 'shadow'),
      ),
      arms && element('td', {}, percent(stage?.shares[version] ?? 0)),
      arms && element('td', {}, short(found?.assigned)),
      element('td', {}, short(found?.observations)),
      element('td', {}, meanOf(metric, found?.mean)),
      element('td', {}, version === control ? '–' : effect(metric, version, found, reach, plan.smallest_effect)),
    );
  });
  const head = element(
    'tr',
    {},
    heads.map((name) => element('th', { scope: 'col' }, name)),
  );
  return [element('thead', {}, head), element('tbody', {}, rows)];
}

function effect(metric, version, found, reach, smallest) {
  if (!found || found.effect === null) return '–';
  if (found.low === null || found.high === null)
    return [effectOf(metric, found.effect), element('small', {}, 'too few to say how sure')];
  if (found.low > found.high)
    return [effectOf(metric, found.effect), element('small', {}, 'stages contradict each other')];
  return [
    element('span', {}, effectOf(metric, found.effect), ' '),
    interval(found, version, reach, smallest),
    element('small', {}, `${effectOf(metric, found.low)} to ${effectOf(metric, found.high)}`),
  ];
}

/** How far from no effect anything of these lies. */
function reachOf(versions, smallest) {
  const bounds = versions.flatMap(({ low, high }) => [low, high]).filter((bound) => bound !== null);
  return Math.max(2 * smallest, ...bounds.map(Math.abs));
}

/** The interval on a line with no effect in its middle, over the effects that do not matter. */
function interval({ low, effect: value, high }, version, reach, smallest) {
  const x = (number) => 50 + 48 * Math.max(-1, Math.min(1, number / reach));
  const colour = `var(${variableOf(version)})`;
  const ground = svg('rect', { x: x(-smallest), width: x(smallest) - x(-smallest), y: 0, height: 12 });
  const middle = svg('line', { x1: 50, x2: 50, y1: 0, y2: 12, 'stroke-width': 1 });
  const line = svg('line', { x1: x(low), x2: x(high), y1: 6, y2: 6, 'stroke-width': 3 });
  const dot = svg('circle', { cx: x(value), cy: 6, r: 3.5 });
  ground.style.fill = 'var(--raised)';
  middle.style.stroke = 'var(--quiet)';
  line.style.stroke = colour;
  dot.style.fill = colour;
  return svg('svg', { class: 'interval', viewBox: '0 0 100 12', 'aria-hidden': 'true' }, ground, middle, line, dot);
}

/** What must hold for the effect to be believed, and what candidates must not do. */
function checksOf(found) {
  const { plan, fallbacks, candidates, versions } = found;
  const fell = Object.entries(fallbacks).filter(([, number]) => number);
  // Of a shadow's pairs one half never comes without the other one.
  const arms = plan.design !== 'shadow';
  const checks = [
    arms && integrity('units by their shares', found.sample_ratio_p_value, plan),
    arms && METRICS[plan.metric]?.feedback && integrity('labels alike for all versions', found.arrival_p_value, plan),
    ...fell.map(([version, number]) => [
      'warn',
      'fallbacks',
      `${short(number)} requests of ${version} were answered by another version`,
    ]),
    ...candidates.flatMap((version) =>
      (versions[version]?.guardrails ?? []).map(({ state, reason }) => [
        { kept: 'good', unknown: '', broken: 'bad' }[state] ?? 'warn',
        state,
        `guardrail of ${version}: ${reason}`,
      ]),
    ),
  ];
  return checks
    .filter(Boolean)
    .map(([kind, word, text]) => element('li', {}, element('span', { class: `pill ${kind}` }, word), ` ${text}`));
}

/** The checks share their error rate evenly; below it nothing is to be believed, and near it somebody should look. */
function integrity(what, p, plan) {
  if (p === null) return null;
  const said = `${what} (p = ${short(p)})`;
  if (p <= plan.integrity_error_rate / 2) return ['bad', 'not as due', said];
  return p <= plan.error_rate ? ['warn', 'look at it', said] : ['good', 'as due', said];
}
