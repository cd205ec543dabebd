// Numbers as people read them. What is not known is a dash.

const NONE = '–';

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** Three digits that count, and none of a number's noise. */
export function short(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(size >= 1e5 ? 0 : 1)} k`;
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  if (size >= 0.001) return Number(value.toPrecision(3)).toString();
  return size === 0 ? '0' : value.toExponential(1);
}

export const milliseconds = (value) => (known(value) ? `${short(value)} ms` : NONE);

export function percent(share) {
  if (!known(share)) return NONE;
  const value = 100 * share;
  return `${value >= 10 || value === 0 ? Number(value.toFixed(1)) : Number(value.toPrecision(2))} %`;
}

export function bytes(value) {
  if (!known(value)) return NONE;
  return value >= 2 ** 30 ? `${(value / 2 ** 30).toFixed(2)} GiB` : `${(value / 2 ** 20).toFixed(0)} MiB`;
}

export function seconds(value) {
  if (!known(value)) return NONE;
  if (value < 120) return `${short(value)} s`;
  if (value < 7200) return `${(value / 60).toFixed(0)} min`;
  return value < 172_800 ? `${short(value / 3600)} h` : `${short(value / 86_400)} d`;
}

/** How long ago, in words that need not be exact. */
export function ago(date, now = new Date()) {
  const passed = Math.max(0, (now - date) / 1000);
  if (passed < 60) return 'just now';
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  if (passed < 86400) return `${Math.floor(passed / 3600)} h ago`;
  return `${Math.floor(passed / 86400)} d ago`;
}

/** Names as people sort them: v2 before v10. */
export const naturally = new Intl.Collator('en', { numeric: true }).compare;
