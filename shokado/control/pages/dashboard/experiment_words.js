// What experiments are judged by, and how they end, in words and units.

import { milliseconds, percent, short } from './numbers.js';

const BOTH = ['split', 'shadow'];

/**
 * Metrics as `/v1/experiments` takes them: whether they are shares, wait for labels, or are had of classes or of values
 * alone; `smallest` is an effect to begin with, and `limited` says that a share may have a limit of its own. Without
 * `designs`, they are of versions that share the traffic.
 */
export const METRICS = {
  accuracy: { title: 'accuracy', share: true, feedback: true, of: 'classes', designs: BOTH, smallest: 0.01 },
  reward: { title: 'reward', share: true, feedback: true, smallest: 0.01 },
  squared_error: { title: 'squared error', feedback: true, of: 'values', designs: BOTH },
  absolute_error: { title: 'absolute error', feedback: true, of: 'values', designs: BOTH },
  latency: { title: 'latency', milliseconds: true, smallest: 5 },
  error_rate: { title: 'error rate', share: true, limited: true, smallest: 0.01 },
  slow_share: { title: 'share of slow answers', share: true, limited: true, smallest: 0.01 },
  fallback_share: { title: 'share of fallbacks', share: true, limited: true, smallest: 0.01 },
  agreement: { title: 'agreement', share: true, designs: ['shadow'], smallest: 0.005 },
};
/** How an experiment may end, by its design. */
export const AT_END = {
  split: {
    tell: 'tell, and leave the split as it is',
    rollback: 'take back what is worse or broken',
    promote: 'give all to what is better, take back what is worse',
  },
  shadow: {
    tell: 'tell, and leave the split and the shadow as they are',
    rollback: 'take the shadow off if it is worse or broken',
    promote: 'give the shadow all traffic if it is better, take it off if it is worse',
  },
};
const PILLS = { PROMOTE: 'good', ROLLBACK: 'bad', INVALID: 'bad' };

const known = (metric) => METRICS[metric] ?? { title: metric };

export const titleOf = (metric) => known(metric).title;

/** The metrics of a design, of models that answer classes or values. */
export function metricsOf(design, classifies) {
  const others = classifies ? 'values' : 'classes';
  return Object.keys(METRICS).filter(
    (name) => (METRICS[name].designs ?? ['split']).includes(design) && METRICS[name].of !== others,
  );
}

/** Who is compared with whom, and how. */
export function comparedOf({ candidates, control, plan }) {
  const compared = `${candidates.join(', ')} against ${control}`;
  return plan.design === 'shadow' ? `${compared}, as its shadow` : compared;
}

/** A part of a layer: the units that an experiment may have. */
export const partOf = ({ name, from, to }) => `${percent(from)} to ${percent(to)} of the layer ${name}`;

/** The smallest effect that matters; of agreement it is a bound. */
export function smallestOf({ metric, smallest_effect: smallest }) {
  if (metric === 'agreement') return `something else said on ${percent(smallest)} of the rows`;
  return distanceOf(metric, smallest);
}

/** What became of the requests that a shadow is compared on; null where there are none. */
export function pairsOf({ pairs, plan }) {
  if (!pairs?.sampled) return null;
  const { sampled, scored, failed, no_room: noRoom, labels, joined, let_go: letGo } = pairs;
  const requests = [
    `${short(sampled)} sampled`,
    `${short(scored ?? 0)} scored by the shadow`,
    `${short(failed ?? 0)} failed`,
    noRoom && `${short(noRoom)} that there was no room for`,
  ];
  const told = METRICS[plan.metric]?.feedback
    ? [
        `${short(labels ?? 0)} labels`,
        `${short(joined ?? 0)} joined with scores`,
        letGo && `${short(letGo)} let go before scores came`,
      ]
    : [];
  return [requests, told]
    .map((words) => words.filter(Boolean).join(', '))
    .filter(Boolean)
    .join('; ');
}

export const pillOf = (verdict) => `pill ${PILLS[verdict] ?? ''}`;

/** A mean of the metric. */
export function meanOf(metric, value) {
  if (known(metric).share) return percent(value);
  return known(metric).milliseconds ? milliseconds(value) : short(value);
}

/** How far two means lie apart: of shares in percentage points. */
export function distanceOf(metric, value) {
  const told = meanOf(metric, value);
  return known(metric).share ? told.replace('%', 'pp') : told;
}

/** A difference of two means, with its sign. */
export function effectOf(metric, value) {
  if (value === null || value === undefined) return distanceOf(metric, null);
  const sign = value === 0 ? '' : value < 0 ? '-' : '+';
  return `${sign}${distanceOf(metric, Math.abs(value))}`;
}
