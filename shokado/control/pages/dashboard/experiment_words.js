// What experiments are judged by, and how they end, in words and units.

import { milliseconds, percent, short } from './numbers.js';

/**
 * Metrics as `/v1/experiments` takes them: whether they are shares, wait for labels, or are had of classes or of values
 * alone; `smallest` is an effect to begin with, and `limited` says that a share may have a limit of its own.
 */
export const METRICS = {
  accuracy: { title: 'accuracy', share: true, feedback: true, of: 'classes', smallest: 0.01 },
  reward: { title: 'reward', share: true, feedback: true, smallest: 0.01 },
  squared_error: { title: 'squared error', feedback: true, of: 'values' },
  absolute_error: { title: 'absolute error', feedback: true, of: 'values' },
  latency: { title: 'latency', milliseconds: true, smallest: 5 },
  error_rate: { title: 'error rate', share: true, limited: true, smallest: 0.01 },
  slow_share: { title: 'share of slow answers', share: true, limited: true, smallest: 0.01 },
  fallback_share: { title: 'share of fallbacks', share: true, limited: true, smallest: 0.01 },
};
export const AT_END = {
  tell: 'tell, and leave the split as it is',
  rollback: 'take back what is worse or broken',
  promote: 'give all to what is better, take back what is worse',
};
const PILLS = { PROMOTE: 'good', ROLLBACK: 'bad', INVALID: 'bad' };

const known = (metric) => METRICS[metric] ?? { title: metric };

export const titleOf = (metric) => known(metric).title;

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
